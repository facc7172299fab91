//! Time: what is due when, and what happens when it has come.

use std::time::{Duration, Instant};

use crate::frame::{Attachment, Close, CloseCode, Role};

use super::binding::{Binding, Stage};
use super::path::MOST_FOR_BYTES;
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

/// The earliest deadlines: by when to do something, and by when to have heard something.
struct Due {
    act: Option<Moment>,
    judge: Option<Moment>,
}

impl Session {
    /// How long an attachment may be silent: the heartbeat and half of it as grace. A server's pings stand behind what it has
    /// put there.
    fn patience(&self) -> Duration {
        let before = if self.client.is_none() { self.time_for_outstanding() } else { Duration::ZERO };
        self.heartbeat() + self.heartbeat() / 2 + before
    }

    /// When an attachment is given up unless something is heard on it. A client that hears parts of a frame waits for the rest: on
    /// a slow path a large one takes longer than its patience.
    fn silent_at(&self, binding: &Binding, patience: Duration) -> Option<Moment> {
        let silent = binding.silent_at(self.role(), patience)?;
        let partly = self.client.as_ref().and_then(|client| client.path.heard_partly_at(binding.attachment));
        let until = partly.map(|at| later(at, patience).min(later(silent, MOST_FOR_BYTES)));
        Some(until.map_or(silent, |until| silent.max(until)))
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
        if self.is_ended() {
            return None;
        }
        let Due { act, judge } = self.due();
        let judge = judge.map(|judge| judge.max(self.reprieved_until()));
        earlier(act, judge).and_then(|due| due.instant(self.began))
    }

    fn due(&self) -> Due {
        let patience = self.patience();
        let silences = self.expects_answers();
        // A driver asks after every turn: a loop of comparisons, not a chain of iterators.
        let mut act = self.inbox.due();
        let mut judge = earlier(self.abandoned_at(), self.granted_until());
        if let Phase::Closing { until, .. } = &self.phase {
            judge = earlier(judge, Some(*until));
        }
        for binding in &self.bindings {
            act = earlier(act, binding.ping_at);
            act = earlier(act, binding.poll_at);
            act = earlier(act, binding.push.retry_at);
            judge = earlier(judge, binding.until);
            if silences {
                judge = earlier(judge, self.silent_at(binding, patience));
            }
        }
        if self.client.is_some() {
            judge = earlier(judge, self.path_due());
        }
        Due { act, judge }
    }

    /// Acts on what is due. Who sees late that something should have come was held up, and the peer perhaps with it: then
    /// nothing is judged yet, but a second later, by what has come until then.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.tick(now);
        if self.is_ended() {
            return;
        }
        self.inbox.handle_timeout(now);
        if !self.is_reprieved(now) {
            self.judge(now);
        }
        self.act(now);
    }

    fn reprieved_until(&self) -> Moment {
        Moment::BEGIN.plus(Duration::from_secs(self.reprieved_s.into()))
    }

    /// Whether deadlines that have passed are not judged yet. None is put off twice: whose timers are always late still
    /// finds out what is dead.
    fn is_reprieved(&mut self, now: Moment) -> bool {
        let until = self.reprieved_until();
        if self.due().judge.is_some_and(|due| due > until && now.since(due) >= LATE) {
            let seconds = (now.since(Moment::BEGIN) + REPRIEVE).as_secs();
            self.reprieved_s = u32::try_from(seconds).unwrap_or(u32::MAX);
            return true;
        }
        until > now
    }

    /// Gives up what should have come by now and has not.
    fn judge(&mut self, now: Moment) {
        self.judge_path(now);
        let patience = self.patience();
        let silences = self.expects_answers();
        let mut lost: Vec<(Attachment, DetachReason)> = Vec::new();
        for binding in &self.bindings {
            if binding.until.is_some_and(|until| until <= now) {
                let reason = match binding.stage {
                    Stage::Greeting => DetachReason::NoWelcome,
                    _ => DetachReason::Unproved,
                };
                lost.push((binding.attachment, reason));
            } else if silences && self.silent_at(binding, patience).is_some_and(|at| at <= now) {
                lost.push((binding.attachment, DetachReason::Silent));
            }
        }
        for (attachment, reason) in lost {
            self.detach(attachment, reason, None);
        }
        self.check_expiry(now);
        self.abandon_if_due(now);
        if let Phase::Closing { close, until, .. } = &self.phase {
            if *until <= now {
                let close = close.clone();
                self.finish(close, EndedBy::Timeout);
            }
        }
    }

    /// Does what is this end's to do by now.
    fn act(&mut self, now: Moment) {
        let (role, heartbeat) = (self.role(), self.heartbeat());
        let mut idle = false;
        for binding in &mut self.bindings {
            if binding.ping_at.is_some_and(|at| at <= now) {
                binding.ping_at = binding.next_ping(now, heartbeat);
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
