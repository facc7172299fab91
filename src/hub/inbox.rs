//! Messages for principals who have no session: kept, and delivered to their next one.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::frame::{Body, Epoch, Seq};
use crate::room::payload::{Notice, Position};
use crate::socket::Principal;

use super::directory::Lease;
use super::table::now;
use super::{Inner, lock};

/// How many are asked for at once.
const AT_ONCE: usize = 16;

/// Why a message was not kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// As much is kept as may be, for this principal or for all.
    #[error("the inbox is full")]
    Full,
    /// It cannot be reached.
    #[error("the inbox cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Keeps messages for principals who have no session.
///
/// Each message that it keeps bears a number, higher than those of all earlier ones of this principal, and the epoch
/// within which numbers are compared: one that forgets its numbers (in memory, with the process) takes another epoch.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Keeps a message.
    ///
    /// # Errors
    /// When it cannot.
    async fn put(&self, principal: &Principal, body: Body) -> Result<(), InboxError>;

    /// The oldest messages that are kept for a principal, at most so many, in order.
    ///
    /// # Errors
    /// When it cannot say.
    async fn oldest(&self, principal: &Principal, count: usize) -> Result<Vec<(Position, Body)>, InboxError>;

    /// Lets go of the messages of a principal up to this one: they have been received.
    ///
    /// # Errors
    /// When it cannot; then they are delivered again, and a client drops them by their numbers.
    async fn delete(&self, principal: &Principal, up_to: Position) -> Result<(), InboxError>;
}

/// An inbox, whatever its type.
#[derive(Clone)]
pub(super) struct Seam(pub(super) Arc<dyn Inbox>);

impl fmt::Debug for Seam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

/// What an inbox in memory keeps at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxBounds {
    /// Messages for each principal. Default: 100. Beyond it the new one is refused.
    pub messages: usize,
    /// Bytes of bodies for all principals together. Default: 64 MiB.
    pub bytes: usize,
    /// How long each is kept. Default: a day.
    pub age: Duration,
}

impl Default for InboxBounds {
    fn default() -> Self {
        Self { messages: 100, bytes: 64 << 20, age: Duration::from_secs(86_400) }
    }
}

/// An inbox in memory: gone with the process.
#[derive(Debug)]
pub struct MemoryInbox {
    epoch: Epoch,
    bounds: InboxBounds,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The latest number, of all principals together.
    latest: Seq,
    bytes: usize,
    queues: HashMap<Principal, VecDeque<Letter>>,
    /// When all queues were last looked through for what is too old.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Letter {
    number: Seq,
    body: Body,
    put: Instant,
}

impl MemoryInbox {
    /// An empty one.
    ///
    /// # Errors
    /// When this machine gives no random numbers.
    pub fn new(bounds: InboxBounds) -> Result<Self, InboxError> {
        let mut epoch = [0; 8];
        getrandom::fill(&mut epoch).map_err(|error| InboxError::Unavailable(error.into()))?;
        Ok(Self { epoch: Epoch::from_bytes(epoch), bounds, kept: Mutex::default() })
    }

    /// How many messages are kept.
    pub fn len(&self) -> usize {
        lock(&self.kept).queues.values().map(VecDeque::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kept {
    /// Lets go of the first of a queue while it is as asked.
    fn drop_while(&mut self, principal: &Principal, goes: impl Fn(&Letter) -> bool) {
        let Some(queue) = self.queues.get_mut(principal) else { return };
        while queue.front().is_some_and(&goes) {
            let size = queue.pop_front().map_or(0, |letter| letter.body.len());
            self.bytes = self.bytes.saturating_sub(size);
        }
        if queue.is_empty() {
            self.queues.remove(principal);
        }
    }

    /// Lets go of what is too old, for all, at most once a second.
    fn sweep(&mut self, now: Instant, age: Duration) {
        let is_due = |swept| now.saturating_duration_since(swept) >= Duration::from_secs(1);
        if self.swept.is_none_or(is_due) {
            self.swept = Some(now);
            for principal in self.queues.keys().cloned().collect::<Vec<_>>() {
                self.drop_while(&principal, |letter| now.saturating_duration_since(letter.put) >= age);
            }
        }
    }
}

#[async_trait]
impl Inbox for MemoryInbox {
    async fn put(&self, principal: &Principal, body: Body) -> Result<(), InboxError> {
        let now = now();
        let mut kept = lock(&self.kept);
        kept.drop_while(principal, |letter| now.saturating_duration_since(letter.put) >= self.bounds.age);
        let count = kept.queues.get(principal).map_or(0, VecDeque::len);
        if kept.bytes.saturating_add(body.len()) > self.bounds.bytes {
            kept.sweep(now, self.bounds.age);
        }
        let is_full =
            count >= self.bounds.messages || kept.bytes.saturating_add(body.len()) > self.bounds.bytes;
        let number = if is_full { None } else { kept.latest.next() };
        let Some(number) = number else { return Err(InboxError::Full) };
        kept.latest = number;
        kept.bytes += body.len();
        kept.queues.entry(principal.clone()).or_default().push_back(Letter { number, body, put: now });
        Ok(())
    }

    async fn oldest(&self, principal: &Principal, count: usize) -> Result<Vec<(Position, Body)>, InboxError> {
        let now = now();
        let mut kept = lock(&self.kept);
        kept.drop_while(principal, |letter| now.saturating_duration_since(letter.put) >= self.bounds.age);
        let queue = kept.queues.get(principal).into_iter().flatten().take(count);
        Ok(queue
            .map(|letter| (Position { epoch: self.epoch, offset: letter.number }, letter.body.clone()))
            .collect())
    }

    async fn delete(&self, principal: &Principal, up_to: Position) -> Result<(), InboxError> {
        if up_to.epoch == self.epoch {
            lock(&self.kept).drop_while(principal, |letter| letter.number <= up_to.offset);
        }
        Ok(())
    }
}

/// Delivers what is kept for a principal, unless somebody does already or nobody of it is there. It ends with what is
/// kept, or with the last session of the principal.
pub(super) fn deliver(hub: &Arc<Inner>, principal: &Principal) {
    let (Some(inbox), Some(lease)) = (hub.inbox.clone(), Lease::take(hub, principal)) else { return };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        let mut lease = lease;
        loop {
            match deliver_some(&lease, &inbox).await {
                Ok(true) => {}
                Ok(false) => {
                    // What came in between found the lease taken: it is looked for once more without it.
                    let (hub, principal) = lease.release();
                    let more = inbox.0.oldest(&principal, 1).await.is_ok_and(|more| !more.is_empty());
                    let is_there = hub.directory.any_open(&principal).is_some();
                    match Lease::take(&hub, &principal).filter(|_| more && is_there) {
                        Some(again) => lease = again,
                        None => return,
                    }
                }
                Err(error) => return tracing::warn!(%error, "kept messages are not delivered"),
            }
        }
    });
}

/// Delivers some messages to one session. False: there are none, or there is no session.
async fn deliver_some(lease: &Lease, inbox: &Seam) -> Result<bool, InboxError> {
    let (hub, principal) = lease.of();
    let Some(line) = hub.directory.any_open(principal) else { return Ok(false) };
    let letters = inbox.0.oldest(principal, AT_ONCE).await?;
    let any = !letters.is_empty();
    for (at, body) in letters {
        match (Notice::Kept { at, body }).write() {
            Ok(kept) => match line.sender().send_acked(kept).await {
                Ok(()) => {}
                Err(crate::socket::AckError::Send(crate::socket::SendError::TooLarge { .. })) => {
                    tracing::warn!(
                        principal = principal.as_str(),
                        "a kept message is too large for its receiver and is dropped"
                    );
                }
                Err(_) => {
                    // This session is over: another one may be there.
                    line.sender().closed().await;
                    return Ok(true);
                }
            },
            Err(error) => {
                tracing::warn!(principal = principal.as_str(), %error, "a kept message cannot be wrapped and is dropped")
            }
        }
        inbox.0.delete(principal, at).await?;
    }
    Ok(any)
}
