//! What a client learns of silence: how long polls may be held, and behind which silence a path was found dead.
//!
//! What is learned of holds lasts as long as the session, and is no verdict for the next one on the network: that begins with a
//! hold of 2 s, which few boxes cut, and loses one poll, or one push, where they do. A verdict would have to be told at each
//! loss, for a session by long-polling may never detach; what it would spare is one message a session that comes late.
//!
//! It implements what `docs/PROTOCOL.md`, "Switching", says of learning the path, as far as a session sees it.

use std::time::Duration;

use crate::frame::{Attachment, Role};

use super::binding::Binding;
use super::{Moment, Session, later};

/// The longest hold that a client asks for by itself.
const LONGEST_HOLD: Duration = Duration::from_secs(25);

/// Lost polls make none shorter.
const LEAST_HOLD: Duration = Duration::from_millis(500);

/// How long it counts that a poll was lost.
const LOSS_COUNTS: Duration = Duration::from_secs(600);

/// A poll that was held for so long beside a push without an answer stood in its way, perhaps.
const STUCK_FOR: Duration = Duration::from_secs(1);

/// How long polls are asked to be held.
#[derive(Debug)]
pub(super) struct Holds {
    /// Where it begins.
    first: Duration,
    next: Duration,
    longest: Duration,
    /// What the latest poll asked for.
    asked: Duration,
    /// What the last poll asked for that was taken for lost, or stood in the way of a push, and when that was.
    lost: Option<(Duration, Moment)>,
}

impl Holds {
    pub(super) fn new(first: Duration) -> Self {
        let longest = first.max(LONGEST_HOLD);
        Self { first, next: first, longest, asked: Duration::ZERO, lost: None }
    }

    /// Takes the longest hold that is known to pass, or that none is known.
    pub(super) fn limit(&mut self, longest: Option<Duration>) {
        self.longest = longest.unwrap_or(self.first.max(LONGEST_HOLD));
        self.next = self.next.min(self.longest);
    }

    pub(super) fn asked(&self) -> Duration {
        self.asked
    }

    /// What to ask for now.
    fn now(&self, now: Moment) -> Duration {
        self.next.min(self.cap(now).unwrap_or(self.longest))
    }

    /// The most that is asked for since a poll was lost, or stood in the way, while that counts.
    fn cap(&self, now: Moment) -> Option<Duration> {
        let recent = self.lost.filter(|(_, at)| now.since(*at) < LOSS_COUNTS);
        recent.map(|(hold, _)| (hold / 2).max(LEAST_HOLD))
    }
}

impl Session {
    /// How long to ask a poll to be held.
    pub(super) fn hold(&self) -> Duration {
        let hold = self.client.as_ref().map_or(self.config.hold, |client| client.path.holds.now(self.now));
        hold.min(self.heartbeat())
    }

    /// A poll asks to be held for so long.
    pub(super) fn note_hold(&mut self, hold: Duration) {
        self.client.iter_mut().for_each(|client| client.path.holds.asked = hold);
    }

    /// A poll was answered with nothing when its hold ended.
    pub(super) fn lengthen_hold(&mut self) {
        let Some(client) = &mut self.client else { return };
        let (now, holds) = (self.now, &mut client.path.holds);
        // When a cap counts no longer, it goes on from there.
        let most = holds.cap(now).map_or(holds.longest, |cap| cap.min(holds.longest));
        holds.next = holds.next.saturating_mul(3).min(most.saturating_mul(2)) / 2;
    }

    /// Nothing is known of how long polls may be held on what carries now.
    pub(super) fn begin_holds(&mut self) {
        let Some(client) = &mut self.client else { return };
        let holds = &mut client.path.holds;
        holds.next = holds.first.min(holds.longest);
    }

    /// A poll is taken for lost: nothing passes any more behind so long a silence, perhaps.
    pub(super) fn note_lost_poll(&mut self) {
        let now = self.now;
        if let Some(client) = &mut self.client {
            let holds = &mut client.path.holds;
            if !holds.asked.is_zero() {
                holds.lost = Some((holds.asked, now));
            }
        }
    }

    /// Client: a push was not answered. Where a poll was held all the while, requests may be made one at a time here: then
    /// polls are to be held for less, and the one that is open is asked anew. Says whether this was found just now.
    pub(super) fn note_stuck_push(&mut self, attachment: Attachment) -> bool {
        let (now, least) = (self.now, self.answer_time().min(STUCK_FOR));
        let held = |binding: &&mut Binding| {
            binding.is_polling()
                && binding.poll_open
                && binding.proved
                && now.since(binding.begun_at) >= least
        };
        let Some(client) = &mut self.client else { return false };
        let holds = &mut client.path.holds;
        if holds.asked.is_zero() || holds.cap(now).is_some() {
            return false;
        }
        let Some(binding) = self.binding_mut(attachment).filter(held) else { return false };
        (binding.poll_open, binding.poll_at) = (false, None);
        if let Some(client) = &mut self.client {
            // The next ones are held for the least time: less than a push is given.
            client.path.holds.lost = Some((Duration::ZERO, now));
        }
        true
    }

    /// Client: something has come behind so much silence.
    pub(super) fn note_outlived(&mut self, quiet: Duration) {
        let Some(client) = &mut self.client else { return };
        client.path.outlived = client.path.outlived.max(quiet);
    }

    /// Client: the silence behind which nothing was answered any more, if no longer one was outlived.
    pub(super) fn mortal_silence(&self, binding: &Binding) -> Option<Duration> {
        let path = &self.client.as_ref().filter(|_| self.role() == Role::Client)?.path;
        if binding.is_polling() {
            return None;
        }
        let heard = binding.heard_at.max(path.arrived_at);
        // What is due unasked is the server's heartbeat.
        let mut spoken = later(heard, self.heartbeat());
        if let Some(asked) = self.question(binding.attachment) {
            spoken = spoken.min(asked.at);
        }
        if self.outbox.is_advanced() {
            spoken = spoken.min(path.given_at);
        }
        let idle = spoken.since(heard);
        (idle > path.outlived && self.now.since(heard) > idle).then_some(idle)
    }
}
