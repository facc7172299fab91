//! An inbox in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::frame::{Body, Epoch, Seq};
use crate::hub::lock;
use crate::hub::table::now;
use crate::room::payload::Position;
use crate::socket::Principal;

use super::{Inbox, InboxBounds, InboxError, check_name, weight};

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
    /// By [`weight`].
    bytes: usize,
    queues: HashMap<Principal, Queue>,
    /// When all queues were last looked through for what is too old.
    swept: Option<Instant>,
}

/// What is kept for one principal.
#[derive(Debug, Default)]
struct Queue {
    letters: VecDeque<Letter>,
    bytes: usize,
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
        lock(&self.kept).queues.values().map(|queue| queue.letters.len()).sum()
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
        while queue.letters.front().is_some_and(&goes) {
            let size = queue.letters.pop_front().map_or(0, |letter| letter.body.len());
            queue.bytes = queue.bytes.saturating_sub(size);
            self.bytes = self.bytes.saturating_sub(weight(principal, size));
        }
        if queue.letters.is_empty() {
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
        check_name(principal)?;
        let (now, size) = (now(), body.len());
        let weight = weight(principal, size);
        let mut kept = lock(&self.kept);
        kept.drop_while(principal, |letter| now.saturating_duration_since(letter.put) >= self.bounds.age);
        if kept.bytes.saturating_add(weight) > self.bounds.total_bytes {
            kept.sweep(now, self.bounds.age);
        }
        let (count, bytes) =
            kept.queues.get(principal).map_or((0, 0), |queue| (queue.letters.len(), queue.bytes));
        let is_full = count >= self.bounds.messages
            || bytes.saturating_add(size) > self.bounds.bytes
            || kept.bytes.saturating_add(weight) > self.bounds.total_bytes;
        let number = if is_full { None } else { kept.latest.next() };
        let Some(number) = number else { return Err(InboxError::Full) };
        kept.latest = number;
        kept.bytes += weight;
        let queue = kept.queues.entry(principal.clone()).or_default();
        queue.bytes += size;
        queue.letters.push_back(Letter { number, body, put: now });
        Ok(())
    }

    async fn oldest(&self, principal: &Principal, count: usize) -> Result<Vec<(Position, Body)>, InboxError> {
        let now = now();
        let mut kept = lock(&self.kept);
        kept.drop_while(principal, |letter| now.saturating_duration_since(letter.put) >= self.bounds.age);
        let queue = kept.queues.get(principal).into_iter().flat_map(|queue| &queue.letters).take(count);
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
