//! The way to a member, and what a room leaves to be done about it.

use crate::frame::{Body, SessionId};

/// What became of a payload that was offered to a member's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is sent.
    Taken,
    /// There is no room now.
    Full,
    /// The line takes others, and never this one: it is too large for the peer.
    Refused,
    /// The line takes nothing any more.
    Gone,
}

/// The way to a member. It never waits.
pub trait Line: Clone {
    /// Sends a payload, if there is room.
    fn offer(&self, payload: &Body) -> Offer;
}

/// What the caller has to do after a call.
#[derive(Clone, Debug)]
#[must_use = "a member that lags stays behind until it is drained"]
pub struct Effects<L> {
    /// These begin to lag: whenever their lines have room, call [`RoomState::drain`](super::RoomState::drain).
    pub lagging: Vec<(SessionId, L)>,
    /// These are too slow and no members any more: their sessions are to be ended.
    pub ended: Vec<(SessionId, L)>,
    /// What was said is too large for these, who are outside the layer and could not be told that something is missing:
    /// their sessions are to be ended.
    pub overfed: Vec<(SessionId, L)>,
    /// How many messages to members were left out; each member is told of its own.
    pub left_out: u64,
}

impl<L> Default for Effects<L> {
    fn default() -> Self {
        Self { lagging: Vec::new(), ended: Vec::new(), overfed: Vec::new(), left_out: 0 }
    }
}
