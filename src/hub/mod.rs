//! Rooms: named groups of sockets, what is said in them, and who is there.
//!
//! This room owns membership and fan-out within one process, and the server's half of the second layer on the wire
//! (`docs/PROTOCOL.md`, "Rooms"). It knows sockets, not sessions or transports; what is true of one room is decided
//! in [`room`](crate::room). A room of the hub comes to be with its first member or message, and vanishes with its
//! last member, or when what it keeps has aged.

mod authorize;
mod builder;
mod courier;
mod directory;
mod inbox;
mod line;
mod live;
mod ops;
mod pace;
mod room;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod typed;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frame::{Body, CloseCode, SessionId};
use crate::room::payload::{PayloadError, escape};
use crate::room::{Line as _, Offer};
use crate::socket::{Principal, Socket};

use directory::Directory;
use table::Table;

pub use crate::room::{Config as RoomConfig, Keep, Slow};
pub use authorize::{Action, Authorize, ReadOnly, Visitor};
pub use builder::Builder;
pub use inbox::{Inbox, InboxBounds, InboxError, MemoryInbox};
#[cfg(feature = "postgres")]
pub use inbox::{PostgresBuilder, PostgresInbox};
pub use live::Live;
pub use pace::OperationRate;
pub use room::{JoinError, Member, PublishError, Room};
pub use stats::Stats;

/// Rooms by name, and the sessions that are served. Clones share them.
///
/// # One node
/// All of this is of one process, and nothing joins several yet. Each has
/// - its own sessions: a balancer must bring a session back to the node that made it (by `session` in the query), and
///   elsewhere it is unknown;
/// - its own rooms: two of one name have different members, presence, history and positions, and a client that comes from
///   one to the other is told that nothing was recovered;
/// - its own reach: [`Hub::to_principal`], [`Hub::to_session`], [`Hub::to_all`] and [`Hub::deliver`] know the sessions that
///   this hub serves and no others, and so do limits and [`Hub::stats`];
/// - its own inbox, unless that is a `PostgresInbox` (feature `postgres`). To that, too, a principal is away whose sessions are
///   all at other nodes: what is kept for it waits for its next session, at whichever node.
#[derive(Clone, Debug)]
pub struct Hub {
    inner: Arc<Inner>,
}

/// What all handles of a hub share.
#[derive(Debug)]
struct Inner {
    table: Table,
    directory: Directory,
    authorize: Option<authorize::Seam>,
    inbox: Option<inbox::Seam>,
    max_joined: usize,
    rate: OperationRate,
    counters: stats::Counters,
}

impl Default for Hub {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl Hub {
    /// A hub without rooms, whose rooms keep nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to describe a hub.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A room by its name of 1 to 256 bytes. It costs nothing until somebody joins.
    pub fn room(&self, name: impl Into<Arc<str>>) -> Room {
        Room::new(Arc::clone(&self.inner), name.into())
    }

    /// How many rooms there are: with members, or with something that is kept.
    pub fn len(&self) -> usize {
        self.inner.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers what the client of a session asks about rooms, while the handler receives its own messages from the
    /// [`Live`] that this returns. Must be called in a tokio runtime.
    ///
    /// Without an authoriser ([`Builder::authorize`]) every client may join, hear and say anything in any room of this
    /// hub, whatever its name.
    pub fn serve(&self, socket: Socket) -> Live {
        Live::new(Arc::clone(&self.inner), socket)
    }

    /// Sends a message to all served sessions of a principal. Returns to how many it went.
    ///
    /// It never waits: a session whose send buffer is full is ended with `slow_consumer`, and one that takes smaller messages
    /// only ([`Limits`](crate::frame::Limits) of its client) with `too_large`.
    ///
    /// # Errors
    /// When the body cannot be wrapped as it must be, because it nests too deep.
    pub fn to_principal(&self, principal: &Principal, body: impl Into<Body>) -> Result<usize, PayloadError> {
        let body = escape(body.into())?;
        Ok(self.inner.tell(&self.inner.directory.of_principal(principal), &body))
    }

    /// Sends a message to all served sessions of a principal or, where it has none at this node, keeps it for the next one
    /// ([`Builder::inbox`]), in whose client it is received once, and in the order in which such messages were kept.
    ///
    /// What was sent to a session that ends before it has received it is not kept: the session's end tells of it. What is
    /// kept and turns out to be larger than the client of the next session takes is dropped and counted
    /// ([`Stats::kept_dropped`]).
    ///
    /// # Errors
    /// When the body cannot be wrapped, or not be kept.
    ///
    /// # Cancel safety
    /// When the future is dropped the message may or may not have been kept.
    pub async fn deliver(
        &self,
        principal: &Principal,
        body: impl Into<Body>,
    ) -> Result<Delivery, DeliverError> {
        let body = body.into();
        let sent = self.to_principal(principal, body.clone())?;
        let Some(inbox) = self.inner.inbox.as_ref().filter(|_| sent == 0) else {
            return Ok(Delivery::Sent(sent));
        };
        inbox.0.put(principal, body).await?;
        self.inner.counters.kept.one();
        // A session that came while it was put may have looked already.
        if self.inner.directory.any_open(principal).is_some() {
            courier::deliver(&self.inner, principal);
        }
        Ok(Delivery::Kept)
    }

    /// Sends a message to one served session. False: there is none of this id, or it is ending, because of this message
    /// perhaps.
    ///
    /// # Errors
    /// See [`Hub::to_principal`].
    pub fn to_session(&self, id: SessionId, body: impl Into<Body>) -> Result<bool, PayloadError> {
        let body = escape(body.into())?;
        Ok(self.inner.tell(self.inner.directory.by_id(id).as_slice(), &body) > 0)
    }

    /// Sends a message to all served sessions. Returns to how many it went.
    ///
    /// # Errors
    /// See [`Hub::to_principal`].
    pub fn to_all(&self, body: impl Into<Body>) -> Result<usize, PayloadError> {
        let body = escape(body.into())?;
        Ok(self.inner.tell(&self.inner.directory.all(), &body))
    }

    /// How many sessions are served.
    pub fn sessions(&self) -> usize {
        self.inner.directory.len()
    }

    /// What there is now, and what was counted. It looks into each room, one after the other.
    pub fn stats(&self) -> Stats {
        let (rooms, members) = self.inner.table.count();
        let counted = self.inner.counters.read();
        Stats { sessions: self.sessions() as u64, rooms, members, ..counted }
    }
}

impl Inner {
    /// Sends what must not be missed unknowingly: a session without room for it, or that takes smaller messages only, ends.
    /// Returns to how many it went.
    fn tell(&self, lines: &[line::SocketLine], body: &Body) -> usize {
        let offers = lines.iter().map(|line| (line, line.offer(body)));
        let told = offers.filter(|(line, offer)| {
            match offer {
                Offer::Full => self.end(line, CloseCode::SlowConsumer),
                Offer::Refused => self.end(line, CloseCode::TooLarge),
                Offer::Taken | Offer::Gone => {}
            }
            *offer == Offer::Taken
        });
        told.count()
    }

    /// Ends a session, to which something could not be told, and counts it.
    fn end(&self, line: &line::SocketLine, code: CloseCode) {
        let counter = match code {
            CloseCode::TooLarge => &self.counters.ended_large,
            _ => &self.counters.ended_slow,
        };
        if line.end(code) {
            counter.one();
        }
    }
}

/// What became of a message to a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It goes to so many sessions.
    Sent(usize),
    /// It is kept for the next session.
    Kept,
}

/// Why a message to a principal goes nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// Its body nests too deep to be wrapped.
    #[error(transparent)]
    Body(#[from] PayloadError),
    /// It cannot be kept.
    #[error(transparent)]
    Inbox(#[from] InboxError),
}

/// Nothing in this room unwinds while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
