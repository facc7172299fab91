//! One member: caught up, or lagging.

use crate::frame::{Body, SessionId};
use crate::room::payload::{Missed, Notice, Who};

use super::backlog::{Backlog, Item};
use super::presence::Presence;
use super::{Config, Drained, Effects, Line, Offer};

/// A session that gets what is said as it is.
#[derive(Debug)]
pub(super) struct Plain<L> {
    pub(super) line: L,
    /// How often it joined.
    pub(super) joined: usize,
}

/// A session that speaks the layer.
#[derive(Debug)]
pub(super) struct Member<L> {
    pub(super) line: L,
    pub(super) who: Who,
    /// Whether it is told who comes and goes.
    pub(super) watches: bool,
    /// Set while it lags.
    backlog: Option<Box<Backlog>>,
    /// Somebody drains it.
    pub(super) is_drained: bool,
    /// What backlogs that are no more have left out, until it is taken.
    left_out: u64,
}

/// Whether a member gets something, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It does, or is told that it does not.
    Kept,
    /// Its backlog is full, and it is to be ended.
    Overflow,
    /// Its line is gone.
    Gone,
}

/// The line of a member is gone.
#[derive(Debug)]
pub(super) struct LineGone;

/// A line without room for this.
fn waiting(payload: Option<&Body>) -> Drained {
    Drained::Waiting { bytes: payload.map_or(0, |payload| payload.len() as u64) }
}

impl<L: Line> Member<L> {
    pub(super) fn new(line: L, who: Who, watches: bool) -> Self {
        Self { line, who, watches, backlog: None, is_drained: false, left_out: 0 }
    }

    /// Sends something, or keeps it.
    pub(super) fn admit(&mut self, item: Item, config: &Config) -> Admitted {
        if self.backlog.is_none() {
            match self.line.offer(&item.payload) {
                Offer::Taken => return Admitted::Kept,
                Offer::Gone => return Admitted::Gone,
                Offer::Full => {}
                Offer::Refused => {
                    let backlog = self.lag(config);
                    item.at.into_iter().for_each(|at| backlog.leave_out_one(at));
                    return Admitted::Kept;
                }
            }
        }
        if self.lag(config).push(item, config.slow) { Admitted::Kept } else { Admitted::Overflow }
    }

    pub(super) fn is_lagging(&self) -> bool {
        self.backlog.is_some()
    }

    /// It lags from here on, if it did not.
    pub(super) fn lag(&mut self, config: &Config) -> &mut Backlog {
        self.backlog.get_or_insert_with(|| Box::new(Backlog::new(config.backlog)))
    }

    /// While it lags it is not told of differences, but of all who are there once it has caught up. False: it does not.
    pub(super) fn mark_stale(&mut self) -> bool {
        self.backlog.as_mut().map(|backlog| backlog.is_stale = true).is_some()
    }

    /// How many messages were left out since this was asked last.
    pub(super) fn take_left_out(&mut self) -> u64 {
        let here = self.backlog.as_mut().map_or(0, |backlog| std::mem::take(&mut backlog.left_out));
        std::mem::take(&mut self.left_out) + here
    }

    /// Says so if somebody has to drain it from here on, and what was left out.
    pub(super) fn note_lag(&mut self, id: SessionId, effects: &mut Effects<L>) {
        effects.left_out += self.take_left_out();
        if self.backlog.is_some() && !self.is_drained {
            self.is_drained = true;
            effects.lagging.push((id, self.line.clone()));
        }
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn drain(&mut self, room: &str, presence: &Presence) -> Result<Drained, LineGone> {
        let Some(backlog) = &mut self.backlog else {
            self.is_drained = false;
            return Ok(Drained::Done);
        };
        loop {
            let gap = backlog.gap();
            if !gap.is_none() {
                let missed = Missed { room: room.to_owned(), count: gap.count, to: gap.to };
                let payload = Notice::Missed(missed).write();
                let told = payload.as_ref().map_or(Offer::Refused, |payload| self.line.offer(payload));
                match told {
                    Offer::Taken | Offer::Refused => backlog.told_gap(),
                    Offer::Full => return Ok(waiting(payload.ok().as_ref())),
                    Offer::Gone => return Err(LineGone),
                }
            }
            match backlog.front().map(|item| self.line.offer(&item.payload)) {
                Some(Offer::Taken) => backlog.pop(),
                Some(Offer::Refused) => backlog.refuse(),
                Some(Offer::Full) => return Ok(waiting(backlog.front().map(|item| &item.payload))),
                Some(Offer::Gone) => return Err(LineGone),
                // Who does not watch has asked for it.
                None if std::mem::take(&mut backlog.is_stale) => {
                    let list = presence.list(room).into_iter().map(Item::notice);
                    // Nothing but messages is ever refused by a backlog.
                    list.for_each(|item| {
                        backlog.push(item, super::Slow::End);
                    });
                }
                None if backlog.gap().is_none() => {
                    self.left_out += backlog.left_out;
                    (self.backlog, self.is_drained) = (None, false);
                    return Ok(Drained::Done);
                }
                None => {}
            }
        }
    }
}
