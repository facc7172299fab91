//! The transports that the session has: from their introduction to their end, and what is learned of that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::dial::{DialError, Verdict};
use crate::client::plan::SHORT_LIFE;
use crate::frame::{Attachment, TransportKind};
use crate::session::{Departure, DetachReason};

use super::{ClientSupervisor, Round, Step, Target, TokenState, now};

/// What ends so soon after a change of networks, and was there before, ends by that: it says nothing of the new one.
const ECHO: Duration = Duration::from_secs(30);

/// A transport that was introduced to the session.
pub(super) struct Bound {
    pub(super) attachment: Attachment,
    pub(super) target: Target,
    /// When its dial began.
    pub(super) dialled: Instant,
    /// Since when it carries, or did, the session.
    pub(super) opened_at: Option<Instant>,
    /// Whether it was proved to carry both ways.
    pub(super) proved: bool,
    /// Why it failed, if the transport itself said so.
    pub(super) failure: Option<DialError>,
}

impl ClientSupervisor {
    pub(super) fn introduced(&mut self, attachment: Attachment) {
        if let Some((target, dialled)) = self.introducing.take() {
            let (opened_at, proved, failure) = (None, false, None);
            self.bound.push(Bound { attachment, target, dialled, opened_at, proved, failure });
        }
    }

    pub(super) fn attached(
        &mut self,
        attachment: Attachment,
        kind: TransportKind,
        offered: &[TransportKind],
    ) {
        let now = now();
        self.win(attachment);
        self.carrier = Some(attachment);
        self.plan.rank(offered);
        if let Some(bound) = self.bound.iter_mut().find(|bound| bound.attachment == attachment) {
            bound.opened_at = Some(now);
            let took = now.saturating_duration_since(bound.dialled);
            self.shared.iter().for_each(|shared| shared.note_opening(attachment, kind, took));
            if bound.target.wished {
                self.plan.prefer(kind);
            }
        }
        self.plan.carried(kind, now);
        for outrun in std::mem::take(&mut self.outrun) {
            // It had its time alone.
            if outrun != kind {
                self.plan.distrust(outrun, now);
            }
        }
        self.keep_verdicts();
        self.settle_in(kind, now);
        self.round = Round::default();
        (self.attempts, self.token, self.welcomed) = (0, TokenState::Usual, true);
        self.trying = None;
        if let Some(first) = self.first.take() {
            // Whoever started the session may not wait for it.
            let _ = first.send(Ok(()));
        }
    }

    pub(super) fn detached(&mut self, attachment: Attachment, reason: &DetachReason, departure: Departure) {
        let Some(at) = self.bound.iter().position(|bound| bound.attachment == attachment) else { return };
        let bound = self.bound.swap_remove(at);
        if self.carrier == Some(attachment) {
            (self.carrier, self.adrift) = (None, now());
        }
        if bound.opened_at.is_none() {
            self.note_departure(&bound, reason);
            // A later one has its welcome and takes over: that is told next.
            let outrun = *reason == DetachReason::Superseded && Some(attachment) > self.stale;
            if outrun && self.carrier.is_none() && !bound.target.wished {
                self.outrun.push(bound.target.kind);
            }
        }
        self.reckon(&bound, reason, departure);
        if let Some(close) = self.despair(&bound, departure) {
            return self.give_up(close);
        }
        // Where another is under way, the session attaches it by itself.
        if !self.bound.is_empty() || !self.stalled.is_empty() || !matches!(self.step, Step::Rest) {
            if bound.opened_at.is_none() && *reason != DetachReason::Superseded {
                let verdict = match (reason, bound.failure) {
                    (DetachReason::Closed(close), _) => Verdict::Closed(close.clone()),
                    (_, Some(failure)) => failure.verdict,
                    (_, None) => Verdict::Transport,
                };
                self.fell_out(bound.target.kind, verdict);
            } else if self.carrier.is_none() {
                // What is dialled, or has no welcome, was to take over from what worked: alone it may take long.
                self.race_after(Duration::ZERO);
            }
            return;
        }
        let text = match &bound.failure {
            Some(failure) => Arc::clone(&failure.reason),
            None => reason.to_string().into(),
        };
        match (reason, bound.opened_at, bound.failure) {
            (DetachReason::Closed(close), ..) => self.closed(bound.target.kind, close.clone()),
            (_, None, Some(failure)) => self.failed(bound.target.kind, failure),
            (_, None, None) => {
                self.failed(bound.target.kind, DialError { verdict: Verdict::Transport, reason: text });
            }
            (_, Some(_), _) => {
                self.reason = text;
                self.pause_after_loss(None);
            }
        }
    }

    /// Learns from how long a transport carried the session, and from how it ended.
    fn reckon(&mut self, bound: &Bound, reason: &DetachReason, departure: Departure) {
        let Some(opened_at) = bound.opened_at else { return };
        let (kind, now) = (bound.target.kind, now());
        let life = now.saturating_duration_since(opened_at);
        if life >= SHORT_LIFE {
            self.pauses.reset();
        }
        let echo = |at: Instant| opened_at < at && now.saturating_duration_since(at) < ECHO;
        if self.changed_at.is_some_and(echo) {
            return self.new_round();
        }
        match reason {
            // Somebody decided so.
            DetachReason::Superseded | DetachReason::Closed(_) => self.plan.lived(kind, life),
            // It opened and does not carry both ways.
            DetachReason::Unproved if !bound.proved => self.plan.distrust(kind, now),
            DetachReason::Unproved | DetachReason::UplinkLost => self.plan.demote(kind, now),
            _ => self.plan.ended_after(kind, life, now),
        }
        match reason {
            DetachReason::Ended => self.learning.ended(kind, life, departure, now),
            DetachReason::Silent => self.learning.fell_silent(kind, departure, now),
            _ => {}
        }
        self.probing.lived(life);
        self.keep_verdicts();
        self.new_round();
    }

    /// Notes why a transport that was introduced never carried the session.
    fn note_departure(&self, bound: &Bound, reason: &DetachReason) {
        let (kind, dialled) = (bound.target.kind, bound.dialled);
        match (reason, &bound.failure) {
            (DetachReason::Superseded, _) => {
                self.note_failure(
                    kind,
                    dialled,
                    "outrun",
                    "it had no welcome when another carried the session",
                );
            }
            (_, Some(failure)) => self.note_failure(kind, dialled, reason.code(), &failure.reason),
            (_, None) => self.note_failure(kind, dialled, reason.code(), &reason.to_string()),
        }
    }
}
