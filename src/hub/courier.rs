//! Takes what an inbox keeps for a principal to one of its sessions, one message after the other.
//!
//! It implements `docs/PROTOCOL.md`, "Kept messages". A message is deleted once it has been received and not before;
//! what stands between the two is remembered here, so that neither a failure of the inbox nor the end of the session
//! repeats a message while this process lives.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::frame::Body;
use crate::room::payload::{Notice, Position};
use crate::socket::{AckError, Principal, SendError};

use super::Inner;
use super::directory::Lease;
use super::inbox::{InboxError, Seam};
use super::line::SocketLine;

/// How many messages are asked for at once.
const AT_ONCE: usize = 16;

/// How long a claim lasts: so long a crashed process keeps others waiting.
const CLAIM: Duration = Duration::from_secs(30);

/// How often a claim is taken for longer, and looked whether somebody else's has ended.
const CLAIM_AGAIN: Duration = Duration::from_secs(10);

/// How long it waits after a failure of the inbox, and how long at most after several.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// How often it tries to delete what was received by a session that has gone since: some ten minutes.
const MOST_FAILURES: u32 = 26;

/// Delivers what is kept for a principal, unless somebody does already or nobody of it is there. It ends with what is
/// kept, or with the last session of the principal.
pub(super) fn deliver(hub: &Arc<Inner>, principal: &Principal) {
    let (Some(inbox), Some(lease)) = (hub.inbox.clone(), Lease::take(hub, principal)) else { return };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(Courier::new(lease, inbox).run());
}

/// Delivers to one principal, and is the only one of its process to do so.
struct Courier {
    lease: Lease,
    inbox: Seam,
    /// Received, and not deleted yet.
    received: Option<Position>,
    /// Whether it holds the claim among processes, as far as it knows.
    has_claim: bool,
    /// How often the inbox has failed since something was delivered.
    failures: u32,
}

/// What a round has come to.
enum Round {
    /// There may be more.
    More,
    /// There is nothing to deliver, or nobody to deliver it to.
    Done,
    /// Another process delivers.
    Elsewhere,
}

/// What became of a kept message.
enum HandedOver {
    Received,
    /// It can never be received.
    Dropped,
    /// The session is over.
    Ended,
}

impl Courier {
    fn new(lease: Lease, inbox: Seam) -> Self {
        Self { lease, inbox, received: None, has_claim: false, failures: 0 }
    }

    async fn run(mut self) {
        loop {
            match self.round().await {
                Ok(Round::More) => {}
                Ok(Round::Elsewhere) => sleep(CLAIM_AGAIN).await,
                Ok(Round::Done) => match self.step_back().await {
                    Some(again) => self = again,
                    None => return,
                },
                Err(error) if !self.goes_on(&error) => return,
                Err(_) => {
                    let doublings = self.failures.saturating_sub(1).min(16);
                    sleep(RETRY.0.saturating_mul(1 << doublings).min(RETRY.1)).await;
                }
            }
        }
    }

    /// Whether it tries again after a failure: there is a session, or something that must not be delivered again.
    fn goes_on(&mut self, error: &InboxError) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(%error, "kept messages are not delivered");
        }
        let (hub, principal) = self.lease.of();
        let is_there = hub.directory.any_open(principal).is_some();
        is_there || (self.received.is_some() && self.failures <= MOST_FAILURES)
    }

    /// Lets go of the lease and looks once more: what came in between found it taken.
    async fn step_back(self) -> Option<Self> {
        let Self { lease, inbox, .. } = self;
        let (hub, principal) = lease.release();
        // If it cannot be said, the next round finds out.
        let more = inbox.0.oldest(&principal, 1).await.map_or(true, |more| !more.is_empty());
        let is_there = hub.directory.any_open(&principal).is_some();
        // Not taken for a moment only: who comes in between would find it so, and go away.
        if !(more && is_there) {
            return None;
        }
        Lease::take(&hub, &principal).map(|lease| Self::new(lease, inbox))
    }

    /// Delivers some messages to one session.
    async fn round(&mut self) -> Result<Round, InboxError> {
        self.forget().await?;
        let (hub, principal) = self.lease.of();
        let line = hub.directory.any_open(principal);
        // Most have nothing: that is found out without a claim, which is a thing to write.
        let first = match line {
            Some(_) => self.inbox.0.oldest(principal, 1).await?,
            None => Vec::new(),
        };
        let Some(line) = line.filter(|_| !first.is_empty()) else {
            self.release().await;
            return Ok(Round::Done);
        };
        self.has_claim = self.inbox.0.claim(principal, CLAIM).await?;
        if !self.has_claim {
            return Ok(Round::Elsewhere);
        }
        let mut claimed = Instant::now();
        for (at, body) in self.inbox.0.oldest(principal, AT_ONCE).await? {
            if claimed.elapsed() >= CLAIM_AGAIN {
                self.has_claim = self.inbox.0.claim(self.lease.of().1, CLAIM).await?;
                if !self.has_claim {
                    return Ok(Round::Elsewhere);
                }
                claimed = Instant::now();
            }
            let counters = &self.lease.of().0.counters;
            match self.hand_over(&line, at, body).await {
                HandedOver::Received => counters.kept_received.one(),
                HandedOver::Dropped => counters.kept_dropped.one(),
                HandedOver::Ended => {
                    // Another session may be there.
                    line.sender().closed().await;
                    break;
                }
            }
            self.received = Some(at);
            self.forget().await?;
        }
        Ok(Round::More)
    }

    /// Deletes what was received.
    async fn forget(&mut self) -> Result<(), InboxError> {
        if let Some(received) = self.received {
            self.inbox.0.delete(self.lease.of().1, received).await?;
            (self.received, self.failures) = (None, 0);
        }
        Ok(())
    }

    async fn release(&mut self) {
        if std::mem::take(&mut self.has_claim) {
            if let Err(error) = self.inbox.0.release(self.lease.of().1).await {
                tracing::debug!(%error, "a claim ends by itself");
            }
        }
    }

    /// Sends a message until it is received, or can never be.
    async fn hand_over(&self, line: &SocketLine, at: Position, body: Body) -> HandedOver {
        let principal = self.lease.of().1;
        let kept = match (Notice::Kept { at, body }).write() {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(principal = principal.as_str(), %error, "a kept message cannot be wrapped and is dropped");
                return HandedOver::Dropped;
            }
        };
        match self.holding(line.sender().send_acked(kept)).await {
            Ok(()) => HandedOver::Received,
            Err(AckError::Send(SendError::TooLarge { .. })) => {
                tracing::warn!(
                    principal = principal.as_str(),
                    "a kept message is too large for its receiver and is dropped"
                );
                HandedOver::Dropped
            }
            Err(_) => HandedOver::Ended,
        }
    }

    /// Waits for something, and keeps the claim meanwhile. A claim that is lost by then, because the inbox could not be
    /// reached, stops nothing: what is on its way cannot be called back.
    async fn holding<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            match tokio::time::timeout(CLAIM_AGAIN, &mut wait).await {
                Ok(done) => return done,
                Err(_) => {
                    if let Err(error) = self.inbox.0.claim(self.lease.of().1, CLAIM).await {
                        tracing::debug!(%error, "a claim is not taken for longer");
                    }
                }
            }
        }
    }
}
