//! The first minute of a path that was proved: a box may hold back what comes down it, and a burst that filled its block may
//! have carried the proof.
//!
//! It implements `docs/PROTOCOL.md`, "Paths", what is said there of the trial.

use std::time::Duration;

use crate::frame::Attachment;

use super::binding::Binding;
use super::{Moment, Session, later};

/// How long a path is on trial.
const TRIAL: Duration = Duration::from_secs(60);

/// The silence after which the first question is asked; it doubles with each.
const FIRST_SILENCE: Duration = Duration::from_secs(1);

/// So many questions are asked.
const QUESTIONS: u8 = 5;

/// What a client keeps of the trial of its carrier.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// What was proved, and when.
    of: Option<(Attachment, Moment)>,
    /// Questions that were asked.
    asked: u8,
    /// When the first message since the last question, or since `hello`, came down or went up beside a stream.
    eventful_at: Option<Moment>,
}

impl Trial {
    /// A message has come down, or goes up beside a stream.
    pub(super) fn note_message(&mut self, now: Moment) {
        self.eventful_at.get_or_insert(now);
    }

    /// A question is asked: its pong will come behind all that came before.
    pub(super) fn note_question(&mut self, on_trial: bool) {
        self.eventful_at = None;
        self.asked = self.asked.saturating_add(u8::from(on_trial));
    }
}

impl Session {
    /// Client: what carries was proved.
    pub(super) fn begin_trial(&mut self, attachment: Attachment) {
        let now = self.now;
        if let Some(client) = &mut self.client {
            let trial = &mut client.path.trial;
            (trial.of, trial.asked) = (Some((attachment, now)), 0);
        }
    }

    /// When to ask whether what comes down is held back: after silence behind messages.
    pub(super) fn trial_due(&self, carrier: &Binding, heard: Moment) -> Option<Moment> {
        let path = &self.client.as_ref()?.path;
        let trial = &path.trial;
        let (attachment, since) = trial.of?;
        if path.alone || attachment != carrier.attachment || carrier.is_polling() || trial.asked >= QUESTIONS
        {
            return None;
        }
        let due = later(heard.max(trial.eventful_at?), FIRST_SILENCE * (1 << trial.asked));
        (due <= later(since, TRIAL)).then_some(due)
    }
}
