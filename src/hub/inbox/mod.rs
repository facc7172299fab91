//! Messages for principals who have no session: the seam behind which they are kept, and what keeps them.
//!
//! What is done with them is the courier's part (`hub/courier.rs`).

mod memory;
#[cfg(feature = "postgres")]
mod postgres;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::frame::Body;
use crate::room::payload::Position;
use crate::socket::Principal;

pub use memory::MemoryInbox;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresBuilder, PostgresInbox};

/// Why a message was not kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// As much is kept as may be, for this principal or for all.
    #[error("the inbox is full")]
    Full,
    /// The name of the principal is longer than 1024 bytes.
    #[error("the name of a principal with an inbox is at most 1024 bytes")]
    Name,
    /// It cannot be reached. What was to be kept may have been kept all the same.
    #[error("the inbox cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Keeps messages for principals who have no session.
///
/// Each message that it keeps bears a number, higher than those of all earlier ones of this principal, and the epoch
/// within which numbers are compared: one that forgets its numbers (in memory, with the process) takes another epoch.
/// A message comes to be seen only when none with a lower number of this principal can come to be seen any more.
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
    /// When it cannot. A hub asks again for as long as it lives and the principal has a session there; what is never
    /// deleted is delivered again, and the same client drops it by its number.
    async fn delete(&self, principal: &Principal, up_to: Position) -> Result<(), InboxError>;

    /// Takes the right to deliver to a principal for so long, or takes it for longer. False: another process has it.
    ///
    /// By default nobody else has it: that is right for an inbox that only one process uses.
    ///
    /// # Errors
    /// When it cannot say.
    async fn claim(&self, _principal: &Principal, _lasts: Duration) -> Result<bool, InboxError> {
        Ok(true)
    }

    /// Gives the right back. By default there is nothing to give back.
    ///
    /// # Errors
    /// When it cannot; then the right ends by itself.
    async fn release(&self, _principal: &Principal) -> Result<(), InboxError> {
        Ok(())
    }
}

/// An inbox, whatever its type.
#[derive(Clone)]
pub(super) struct Seam(pub(super) Arc<dyn Inbox>);

impl fmt::Debug for Seam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

/// What an inbox keeps at most. Beyond it, what is new is refused with [`InboxError::Full`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxBounds {
    /// Messages for each principal. Default: 100.
    pub messages: usize,
    /// Bytes of bodies for each principal. Default: 1 MiB.
    pub bytes: usize,
    /// Bytes for all principals together: those of the bodies and, for each message, of its principal's name and 64 more.
    /// Default: 64 MiB.
    pub total_bytes: usize,
    /// How long each is kept. Default: a day.
    pub age: Duration,
}

/// The longest name of a principal for whom anything is kept.
const MAX_NAME: usize = 1024;

/// What a message takes besides its body and the name of its principal, about.
const LETTER_BYTES: usize = 64;

/// What a message counts against [`InboxBounds::total_bytes`].
fn weight(principal: &Principal, body: usize) -> usize {
    body.saturating_add(principal.as_str().len()).saturating_add(LETTER_BYTES)
}

/// Only who has a name that can be looked up cheaply is kept anything.
fn check_name(principal: &Principal) -> Result<(), InboxError> {
    if principal.as_str().len() > MAX_NAME { Err(InboxError::Name) } else { Ok(()) }
}

impl Default for InboxBounds {
    fn default() -> Self {
        Self { messages: 100, bytes: 1 << 20, total_bytes: 64 << 20, age: Duration::from_secs(86_400) }
    }
}
