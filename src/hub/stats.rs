//! What an operator may want to know of a hub, as numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a hub holds now, and what it has counted since it was made. The numbers are read one after the other, while others
/// go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions that are served now.
    pub sessions: u64,
    /// Rooms that there are now.
    pub rooms: u64,
    /// Members of all rooms now: a session counts in each of its rooms.
    pub members: u64,
    /// Messages that were said in rooms.
    pub said: u64,
    /// Messages to members that were left out because those were slow; each member is told of its own.
    pub left_out: u64,
    /// Sessions that were ended because they were slow.
    pub ended_slow: u64,
    /// Sessions that were ended because a message was larger than they take.
    pub ended_large: u64,
    /// Operations that the authoriser refused, memberships that it took back included.
    pub forbidden: u64,
    /// Operations that were refused because the session asked too often.
    pub too_often: u64,
    /// Messages that look like operations and are none.
    pub malformed: u64,
    /// Messages to typed handles of served sessions ([`Live::typed`](super::Live::typed)) that do not fit their type.
    pub misfits: u64,
    /// Messages that were kept for a principal without a session.
    pub kept: u64,
    /// Kept messages that were received.
    pub kept_received: u64,
    /// Kept messages that were dropped because they were larger than the client of a session takes.
    pub kept_dropped: u64,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) said: Counter,
    pub(super) left_out: Counter,
    pub(super) ended_slow: Counter,
    pub(super) ended_large: Counter,
    pub(super) forbidden: Counter,
    pub(super) too_often: Counter,
    pub(super) malformed: Counter,
    pub(super) misfits: Counter,
    pub(super) kept: Counter,
    pub(super) kept_received: Counter,
    pub(super) kept_dropped: Counter,
}

impl Counters {
    /// The counts, beside which nothing is known yet of what there is now.
    pub(super) fn read(&self) -> Stats {
        Stats {
            sessions: 0,
            rooms: 0,
            members: 0,
            said: self.said.read(),
            left_out: self.left_out.read(),
            ended_slow: self.ended_slow.read(),
            ended_large: self.ended_large.read(),
            forbidden: self.forbidden.read(),
            too_often: self.too_often.read(),
            malformed: self.malformed.read(),
            misfits: self.misfits.read(),
            kept: self.kept.read(),
            kept_received: self.kept_received.read(),
            kept_dropped: self.kept_dropped.read(),
        }
    }
}

/// A count that only rises.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Relaxed);
        }
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
