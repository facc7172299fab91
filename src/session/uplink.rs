//! How a client's requests beside a stream go: pushes that are answered, lost or refused, and one poll after the other.
//!
//! It implements the client's side of `docs/PROTOCOL.md`, "Long-polling" and "Push".

use std::time::{Duration, Instant};

use crate::frame::{Ack, Attachment, MAX_NUMBER, Poll};

use super::binding::Stage;
use super::{DetachReason, Event, Session, later};

/// The longest pause between pushes that make no progress.
const MAX_PUSH_RETRY: Duration = Duration::from_secs(5);

/// After so many pushes in a row without an answer the uplink is lost.
const MAX_UNANSWERED_PUSHES: u32 = 2;

/// The pause after a poll that was answered early and empty: somebody else may be polling.
const EMPTY_POLL_PAUSE: Duration = Duration::from_millis(500);

impl Session {
    /// Notes that the push in flight has ended. What it brought and the server did not take is sent again:
    /// at once if the server took something, otherwise after a pause that grows.
    pub fn handle_push_ended(&mut self, now: Instant, attachment: Attachment, answered: bool) {
        let now = self.tick(now);
        let (acked, retry) = (self.outbox.acked().value(), self.config.push_retry);
        let repeats = self.is_carrier(attachment) && self.outbox.is_advanced();
        let asked = !answered && self.forget_asked(attachment);
        let stuck = !answered && self.note_stuck_push(attachment);
        if answered {
            self.note_pushed(attachment);
        }
        let Some(binding) = self.binding_mut(attachment) else { return };
        if answered {
            binding.push.unanswered = 0;
        } else {
            // Behind a poll it could not be answered.
            binding.push.unanswered += u32::from(!stuck);
            // What else the push may have brought is said again.
            (binding.closing_said, binding.close_said) = (false, false);
            binding.attach_due = binding.stage == Stage::Attaching && !binding.is_polling();
            binding.ping_due = binding.ping > 0 && (!binding.proved || asked);
            binding.pong_due |= binding.pong_said;
        }
        if binding.push.unanswered >= MAX_UNANSWERED_PUSHES {
            return self.detach(attachment, DetachReason::UplinkLost, None);
        }
        if acked > binding.push.acked || !repeats {
            binding.push.fruitless = 0;
            binding.push.retry_at = None;
        } else {
            let pause = retry.saturating_mul(1 << binding.push.fruitless.min(8)).min(MAX_PUSH_RETRY);
            binding.push.fruitless += 1;
            binding.push.retry_at = Some(later(now, pause));
        }
        binding.push.acked = acked;
        if repeats {
            self.outbox.rewind();
        }
        if !answered {
            self.inbox.forget_told();
            self.repeat_token();
        }
    }

    /// Notes that the push in flight was refused for its size: what it brought is sent again at once, in smaller ones. The
    /// uplink is not lost for that.
    pub fn handle_push_refused(&mut self, now: Instant, attachment: Attachment) {
        if let Some(binding) = self.binding_mut(attachment) {
            binding.push.unanswered = 0;
        }
        self.handle_push_ended(now, attachment, false);
        if let Some(binding) = self.binding_mut(attachment) {
            (binding.push.unanswered, binding.push.fruitless, binding.push.retry_at) = (0, 0, None);
        }
    }

    /// Notes that the open poll was answered and all its frames were handed over.
    pub fn handle_poll_ended(&mut self, now: Instant, attachment: Attachment) {
        let now = self.tick(now);
        let (hold, ended) = (self.hold(), self.is_ended());
        let Some(binding) = self.binding_mut(attachment) else { return };
        if !binding.is_polling() || !binding.poll_open {
            return;
        }
        let early = now.since(binding.begun_at) < (hold / 2).max(EMPTY_POLL_PAUSE);
        if early && binding.proved && !binding.poll_fruitful {
            binding.poll_at = Some(later(now, EMPTY_POLL_PAUSE));
        }
        let fruitful = binding.poll_fruitful;
        (binding.poll_open, binding.poll_fruitful, binding.heard_at) = (false, false, now);
        if binding.stage == Stage::Attached && !binding.proved && !ended {
            (binding.proved, binding.until) = (true, None);
            self.measure(attachment);
            self.events.push_back(Event::Proved { attachment });
        } else if !early && !fruitful {
            self.lengthen_hold();
        }
    }

    /// Client: the poll that is to be made now.
    pub(super) fn request(&mut self, attachment: Attachment) -> Option<Poll> {
        let (key, epoch) = (self.client.as_ref()?.key.clone(), self.epoch?);
        let Ack { received, taken } = self.tell_on(attachment);
        let (hold, now) = (self.hold(), self.now);
        let binding = self.binding_mut(attachment)?;
        binding.poll_open = true;
        binding.poll_at = None;
        binding.begun_at = now;
        // A poll that must prove something is not held; none is held beyond the heartbeat.
        let hold = if binding.proved { hold } else { Duration::ZERO };
        self.note_hold(hold);
        Some(Poll {
            session: self.id,
            key,
            epoch,
            attachment,
            received,
            taken: (taken != received).then_some(taken),
            hold_ms: u64::try_from(hold.as_millis()).unwrap_or(u64::MAX).min(MAX_NUMBER),
        })
    }
}
