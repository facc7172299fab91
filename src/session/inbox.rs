//! The receive cursor: in order, once; finds repeats and gaps; decides when a receipt is owed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::frame::{Ack, Seq, Window};

use super::{Moment, later};

/// What a message's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one: deliver it.
    Next,
    /// It was delivered before.
    Repeat,
    /// Some are missing before it.
    Gap,
    /// The next one, but beyond the window that the peer was told.
    Flood,
}

/// How long a receipt waits for company.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delays {
    /// Usually.
    pub(super) usual: Duration,
    /// While it is about little, at the most.
    pub(super) light: Duration,
    /// By how many parts in 1024 the latter is shorter.
    pub(super) earlier: u8,
}

impl Delays {
    fn spread(self) -> Duration {
        let earlier = (self.light / 1024).saturating_mul(u32::from(self.earlier));
        self.light.saturating_sub(earlier).max(self.usual)
    }
}

/// What is touched only when something came stands first, beside the like of the outbox.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Inbox {
    /// What was received and not taken: its size, and whether the application takes it or it takes itself.
    untaken: VecDeque<(u64, bool)>,
    /// Bytes received since the peer was told.
    received_untold: u64,
    received: Seq,
    taken: Seq,
    /// What the peer knows.
    told: Ack,
    /// Bytes in `untaken`.
    held: u64,
    /// Bytes taken since the peer was told.
    taken_untold: u64,
    /// The largest message that the peer may send.
    max_message: u64,
    /// When a receipt must go by itself at the latest.
    due: Option<Moment>,
    window: Window,
    /// It is due.
    overdue: bool,
    /// What was told may have been lost: it rides on what goes next.
    unsure: bool,
}

impl Inbox {
    pub(super) fn new(window: Window, max_message: u64) -> Self {
        Self {
            received: Seq::ZERO,
            taken: Seq::ZERO,
            untaken: VecDeque::new(),
            held: 0,
            told: Ack::default(),
            received_untold: 0,
            taken_untold: 0,
            window,
            max_message,
            due: None,
            overdue: false,
            unsure: false,
        }
    }

    pub(super) fn receipt(&self) -> Ack {
        Ack { received: self.received, taken: self.taken }
    }

    pub(super) fn set_max_message(&mut self, bytes: u64) {
        self.max_message = bytes;
    }

    /// Judges a message by its number and, if it is the next one, counts it as received. `capacity` is what is held
    /// at most: the window, or more where the peer cannot know it yet.
    pub(super) fn accept(&mut self, seq: Seq, size: u64, takes_itself: bool, capacity: Window) -> Arrival {
        if seq <= self.received {
            // The peer repeats: it may not know what it was told.
            self.forget_told();
            return Arrival::Repeat;
        }
        if seq.since(self.received) > 1 {
            return Arrival::Gap;
        }
        let count = self.received.since(self.taken);
        let within = count < u64::from(capacity.messages) && self.held.saturating_add(size) <= capacity.bytes;
        if count > 0 && !within {
            return Arrival::Flood;
        }
        self.received = seq;
        self.received_untold = self.received_untold.saturating_add(size);
        self.held = self.held.saturating_add(size);
        self.untaken.push_back((size, takes_itself));
        self.settle();
        Arrival::Next
    }

    /// Counts messages as taken by the application, in order.
    pub(super) fn take(&mut self, count: u64) {
        for _ in 0..count {
            self.settle();
            if self.untaken.is_empty() {
                return;
            }
            self.take_front();
        }
        self.settle();
    }

    /// Takes the foremost messages that take themselves.
    fn settle(&mut self) {
        while self.untaken.front().is_some_and(|front| front.1) {
            self.take_front();
        }
    }

    fn take_front(&mut self) {
        if let (Some((size, _)), Some(next)) = (self.untaken.pop_front(), self.taken.next()) {
            self.taken = next;
            self.held = self.held.saturating_sub(size);
            self.taken_untold = self.taken_untold.saturating_add(size);
        }
    }

    /// Half the window: from here on the peer is told at once.
    fn half(&self) -> (u64, u64) {
        (u64::from(self.window.messages / 2).max(1), (self.window.bytes / 2).max(1))
    }

    /// Whether the peer, as far as it knows, may have to hold back: it must hear of what was taken.
    pub(super) fn is_pressing(&self) -> bool {
        let seen_full = self.held.saturating_add(self.taken_untold);
        self.received.since(self.told.taken) >= self.half().0
            || seen_full.saturating_add(self.max_message) > self.window.bytes
    }

    /// Whether the peer does not know all.
    pub(super) fn is_untold(&self) -> bool {
        self.unsure || self.told != self.receipt()
    }

    /// Whether a receipt must go now, company or not.
    pub(super) fn is_owed(&self) -> bool {
        let (messages, bytes) = self.half();
        self.is_untold()
            && (self.overdue
                || self.received.since(self.told.received) >= messages
                || self.received_untold >= bytes
                || self.taken.since(self.told.taken) >= messages
                || self.taken_untold >= bytes)
    }

    /// Sets the time by which a receipt goes by itself, if one is worth it; an earlier one that is set stays.
    #[inline]
    pub(super) fn arm(&mut self, now: Moment, delays: Delays) {
        if self.overdue || self.told == self.receipt() {
            return;
        }
        let wait = if self.is_heavy() || (self.taken > self.told.taken && self.is_pressing()) {
            delays.usual
        } else if self.received > self.told.received && self.due.is_none() {
            delays.spread()
        } else {
            return;
        };
        let due = later(now, wait);
        self.due = Some(self.due.map_or(due, |set| set.min(due)));
    }

    /// Whether the peer keeps more than a little for want of a receipt.
    fn is_heavy(&self) -> bool {
        self.received.since(self.told.received) >= u64::from(self.window.messages / 16).max(1)
            || self.received_untold >= (self.window.bytes / 64).max(1)
    }

    /// The peer asks what was received: it is told now, unless it knows.
    pub(super) fn ask(&mut self) {
        self.overdue |= self.is_untold();
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.overdue = true;
        }
    }

    /// The receipt, counted as told.
    pub(super) fn tell(&mut self) -> Ack {
        self.told = self.receipt();
        (self.received_untold, self.taken_untold) = (0, 0);
        (self.due, self.overdue, self.unsure) = (None, false, false);
        self.told
    }

    /// Counts what was received as told, and not what was taken.
    pub(super) fn tell_received(&mut self) {
        self.told.received = self.received;
        self.received_untold = 0;
        (self.due, self.overdue) = (None, false);
    }

    /// What was told may have been lost: it is worth saying again in company, not by itself.
    pub(super) fn doubt_told(&mut self) {
        self.unsure = self.received > Seq::ZERO;
    }

    /// What was told was lost, or so it must be taken.
    pub(super) fn forget_told(&mut self) {
        if self.received > Seq::ZERO {
            self.told.received = Seq::ZERO;
            self.overdue = true;
        }
    }

    /// Gives spare memory back.
    pub(super) fn shrink(&mut self) {
        if self.untaken.is_empty() {
            self.untaken = VecDeque::new();
        }
    }
}
