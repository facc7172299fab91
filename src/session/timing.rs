//! Time: what is due when, and what happens when it has come.

use std::time::{Duration, Instant};

use crate::frame::{Attachment, Close, CloseCode, Role};

use super::binding::Stage;
use super::{DetachReason, EndedBy, Moment, Phase, Receipts, Session, later};

/// A deadline that is seen so much later was missed because nothing ran: a process that was suspended, a machine that stood.
const LATE: Duration = Duration::from_secs(1);

/// What is given then to what waits to be read, and to a peer that stood as well: one second, to the end of the next.
const REPRIEVE: Duration = Duration::from_secs(2);

/// The earlier of two deadlines, where there are any.
#[inline]
pub(super) fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Session {
    /// How long an attachment may be silent: the heartbeat and half of it as grace.
    fn patience(&self) -> Duration {
        self.heartbeat() + self.heartbeat() / 2
    }

    /// Whether silence is a sign of death.
    fn expects_answers(&self) -> bool {
        self.config.receipts == Receipts::Given
    }

    /// When the session gives up waiting for a transport.
    fn abandoned_at(&self) -> Option<Moment> {
        let since = self.waiting_since?;
        let patience = match (self.role(), self.was_attached) {
            (Role::Client, _) => self.config.unanswered_within,
            (Role::Server, true) => self.config.resume_window,
            (Role::Server, false) => self.config.first_attach_within,
        };
        Some(later(since, patience))
    }

    /// When to call [`Session::handle_timeout`] at the latest; `None` while there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due()?.max(self.reprieved_until());
        due.instant(self.began)
    }

    /// The earliest deadline.
    fn due(&self) -> Option<Moment> {
        if self.is_ended() {
            return None;
        }
        let (role, patience) = (self.role(), self.patience());
        let silences = self.expects_answers();
        // A driver asks after every turn: a loop of comparisons, not a chain of iterators.
        let mut due = earlier(self.inbox.due(), self.abandoned_at());
        due = earlier(due, self.granted_until());
        if let Phase::Closing { until, .. } = &self.phase {
            due = earlier(due, Some(*until));
        }
        for binding in &self.bindings {
            due = earlier(due, binding.until);
            due = earlier(due, binding.ping_at);
            due = earlier(due, binding.poll_at);
            due = earlier(due, binding.push.retry_at);
            if silences {
                due = earlier(due, binding.silent_at(role, patience));
            }
        }
        if self.client.is_some() {
            due = earlier(due, self.path_due());
        }
        due
    }

    /// Acts on what is due. Who calls it late was held up, and the peer or what it sent with it perhaps: then nothing is
    /// judged yet, but a second later, by what has come until then.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.tick(now);
        if self.is_reprieved(now) || self.is_ended() {
            return;
        }
        self.inbox.handle_timeout(now);
        self.judge_path(now);
        self.handle_deadlines(now);
        self.check_expiry(now);
        self.abandon_if_due(now);
        if let Phase::Closing { close, until, .. } = &self.phase {
            if *until <= now {
                let close = close.clone();
                self.finish(close, EndedBy::Timeout);
            }
        }
    }

    fn reprieved_until(&self) -> Moment {
        Moment::BEGIN.plus(Duration::from_secs(self.reprieved_s.into()))
    }

    /// Whether deadlines that have passed are not judged yet. None is put off twice: whose timers are always late still
    /// finds out what is dead.
    fn is_reprieved(&mut self, now: Moment) -> bool {
        let until = self.reprieved_until();
        if self.due().is_some_and(|due| due > until && now.since(due) >= LATE) {
            let seconds = (now.since(Moment::BEGIN) + REPRIEVE).as_secs();
            self.reprieved_s = u32::try_from(seconds).unwrap_or(u32::MAX);
            return true;
        }
        until > now
    }

    fn handle_deadlines(&mut self, now: Moment) {
        let (role, patience, heartbeat) = (self.role(), self.patience(), self.heartbeat());
        let silences = self.expects_answers();
        let mut lost: Vec<(Attachment, DetachReason)> = Vec::new();
        let mut idle = false;
        for binding in &mut self.bindings {
            if binding.until.is_some_and(|until| until <= now) {
                let reason = match binding.stage {
                    Stage::Greeting => DetachReason::NoWelcome,
                    _ => DetachReason::Unproved,
                };
                lost.push((binding.attachment, reason));
                continue;
            }
            if silences && binding.silent_at(role, patience).is_some_and(|at| at <= now) {
                lost.push((binding.attachment, DetachReason::Silent));
                continue;
            }
            if binding.ping_at.is_some_and(|at| at <= now) {
                binding.ping_at = Some(later(now, heartbeat));
                binding.ping += 1;
                binding.ping_due = true;
                idle = true;
            }
            if binding.poll_at.is_some_and(|at| at <= now) {
                binding.poll_at = None;
                binding.ack_due |= role == Role::Server;
            }
            if binding.push.retry_at.is_some_and(|at| at <= now) {
                binding.push.retry_at = None;
            }
        }
        for (attachment, reason) in lost {
            self.detach(attachment, reason, None);
        }
        if idle {
            self.shrink();
        }
    }

    /// Gives up waiting for a transport, if that was long enough.
    pub(super) fn abandon_if_due(&mut self, now: Moment) {
        if self.is_ended() || self.abandoned_at().is_none_or(|at| at > now) {
            return;
        }
        let (code, reason) = match (self.role(), self.was_attached) {
            (Role::Client, _) => (CloseCode::UnknownSession, "no server answered what was sent behind hello"),
            (Role::Server, true) => (CloseCode::TimedOut, "the client did not come back in time"),
            (Role::Server, false) => (CloseCode::TimedOut, "the client never attached"),
        };
        self.finish(Close::new(code, reason), EndedBy::Timeout);
    }
}
