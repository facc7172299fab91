//! How a client judges its path: by what takes one round trip and does not come in time.
//!
//! It implements `docs/PROTOCOL.md`, "Paths".

use std::time::{Duration, Instant};

use crate::frame::{Attachment, Frame, Role, TransportKind};

use super::binding::Stage;
use super::silence::Holds;
use super::timing::earlier;
use super::trial::Trial;
use super::{Config, DetachReason, Moment, Session, later};

/// The least that a client waits for what takes one round trip.
const LEAST_ANSWER_TIME: Duration = Duration::from_secs(1);

/// The most that a round trip which takes long itself makes of it.
const LONGEST_ANSWER_TIME: Duration = Duration::from_secs(15);

/// Bytes that are on their way with a question give a second more for each so many.
const BYTES_PER_SECOND: u64 = 16 << 10;

/// How often that is doubled at most: to 1 KiB a second.
const SLOWER: u8 = 4;

/// The longest that bytes on their way give.
pub(super) const MOST_FOR_BYTES: Duration = Duration::from_secs(120);

/// The longest that a path is left unproved, or without a `welcome`, because bytes go on coming.
const LONGEST_PROOF: Duration = Duration::from_secs(120);

/// The longest that a receipt waits for company (`docs/PROTOCOL.md`, "Windows and receipts").
const RECEIPT_WAIT: Duration = Duration::from_secs(2);

/// What a frame counts besides its body.
const FRAME_BYTES: u64 = 16;

/// After so long without a whole frame, bytes that come are those of a large or slow one.
const LONG_FRAME: Duration = Duration::from_millis(250);

/// What is known of a network, for the sessions of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lesson {
    /// After so much silence on a WebSocket or a stream the client pings; `None`: never.
    pub ping_after: Option<Duration>,
    /// The longest hold that a poll may ask for; `None`: it is not known to be limited.
    pub longest_hold: Option<Duration>,
    /// Whether there is no other transport to go to: then one that holds back what comes is better than none.
    pub alone: bool,
}

impl Lesson {
    /// A lesson of these limits.
    pub const fn new(ping_after: Option<Duration>, longest_hold: Option<Duration>) -> Self {
        Self { ping_after, longest_hold, alone: false }
    }
}

/// What only a client keeps of its path.
#[derive(Debug)]
pub(super) struct Path {
    /// The round trip that was measured last.
    round_trip: Option<Duration>,
    /// The one before it.
    round_trip_before: Option<Duration>,
    pub(super) holds: Holds,
    ping_after: Option<Duration>,
    /// What carries the session, or is about to.
    pub(super) carrier: Option<Attachment>,
    /// Whether a message was received since then.
    pub(super) delivered: bool,
    /// The longest silence behind which something came yet, since then.
    pub(super) outlived: Duration,
    /// Since when own messages wait for a receipt, if they do.
    pub(super) given_at: Moment,
    /// The ping that has no answer yet.
    pub(super) asked: Option<Question>,
    /// When the peer last proved that own frames reach it: by a receipt for more, or by a pong.
    pub(super) answered_at: Moment,
    /// When the receipt of own messages was asked for, if nothing was acknowledged since.
    pub(super) receipt_asked_at: Option<Moment>,
    /// Bytes of all frames that came.
    heard_bytes: u64,
    /// When bytes last came of a frame that takes long.
    partial_at: Moment,
    /// What was counted last of the bytes that come, and when that was new.
    arrived: (Option<Attachment>, u64),
    pub(super) arrived_at: Moment,
    pub(super) trial: Trial,
    /// There is no other transport to go to.
    pub(super) alone: bool,
}

/// A ping that waits for its pong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) attachment: Attachment,
    pub(super) at: Moment,
    /// What had come by then: more may stand in front of the pong.
    heard_bytes: u64,
    /// Whether it is asked on trial.
    on_trial: bool,
    /// Whether the push that it went by was answered: then the server has it.
    pushed: bool,
}

/// How long so many bytes may take.
fn time_for(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_SECOND).min(MOST_FOR_BYTES)
}

impl Path {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            round_trip: None,
            round_trip_before: None,
            holds: Holds::new(config.hold),
            ping_after: None,
            carrier: None,
            delivered: false,
            outlived: Duration::ZERO,
            given_at: Moment::BEGIN,
            asked: None,
            answered_at: Moment::BEGIN,
            receipt_asked_at: None,
            heard_bytes: 0,
            partial_at: Moment::BEGIN,
            trial: Trial::default(),
            alone: false,
            arrived: (None, 0),
            arrived_at: Moment::BEGIN,
        }
    }
}

impl Path {
    fn note_round_trip(&mut self, took: Duration) {
        self.round_trip_before = self.round_trip.replace(took);
    }

    /// When bytes came last by an attachment, those of a frame that is not whole included.
    pub(super) fn heard_partly_at(&self, attachment: Attachment) -> Option<Moment> {
        (self.arrived.0 == Some(attachment)).then_some(self.arrived_at)
    }
}

impl Session {
    /// Client: how long it waits for what takes one round trip.
    pub(super) fn answer_time(&self) -> Duration {
        let most = self.slow_enough(self.config.prove_within).max(Duration::from_millis(1));
        let trip = self.round_trip().unwrap_or_default();
        let base = trip.saturating_mul(4).clamp(LEAST_ANSWER_TIME.min(most), most);
        base + self.time_for_outstanding()
    }

    /// How long what was put on the carrier may take. Where carriers die under it, the path may be slower still.
    pub(super) fn time_for_outstanding(&self) -> Duration {
        let bytes = if self.outbox.is_advanced() { self.outbox.outstanding() } else { 0 };
        time_for(bytes << self.fruitless.min(SLOWER))
    }

    /// A bound for what takes one round trip, or three where one takes so long: a request may need another connection, whose
    /// making takes one or two.
    pub(super) fn slow_enough(&self, most: Duration) -> Duration {
        let trip = self.least_round_trip().unwrap_or_default();
        most.max(trip.saturating_mul(3).min(LONGEST_ANSWER_TIME))
    }

    /// Client: the shorter of the last two round trips: one alone may have waited in a queue.
    pub(crate) fn least_round_trip(&self) -> Option<Duration> {
        let path = &self.client.as_ref()?.path;
        path.round_trip.into_iter().chain(path.round_trip_before).min()
    }

    /// Client: the round trip that was measured last.
    pub fn round_trip(&self) -> Option<Duration> {
        self.client.as_ref()?.path.round_trip
    }

    /// Client: takes what is known of the network.
    pub fn learn(&mut self, lesson: Lesson) {
        if let Some(client) = &mut self.client {
            let path = &mut client.path;
            (path.ping_after, path.alone) = (lesson.ping_after, lesson.alone);
            path.holds.limit(lesson.longest_hold);
        }
    }

    /// Client: asks what carries the session for a sign of life, that must come within the answer time.
    pub fn check_path(&mut self, now: Instant) {
        let now = self.tick(now);
        let Some(carrier) =
            self.carrier().filter(|carrier| carrier.proved && carrier.stage == Stage::Attached)
        else {
            return;
        };
        let (attachment, polls) = (carrier.attachment, carrier.is_polling());
        if polls { self.poll_anew(now, attachment) } else { self.knock(attachment) }
    }

    /// Notes how many bytes have come by an attachment's transport, those of a frame that is not whole included: what is
    /// on its way is not given up for being large. A client tells it as bytes come; on a server it is enough to tell it
    /// before each [`handle_timeout`](Self::handle_timeout).
    pub fn note_arrived(&mut self, now: Instant, attachment: Attachment, count: u64) {
        let now = self.tick(now);
        if self.role() == Role::Server {
            return self
                .binding_mut(attachment)
                .into_iter()
                .for_each(|binding| binding.note_partial(now, count));
        }
        let Some(heard_at) = self.binding(attachment).map(|binding| binding.heard_at) else { return };
        if let Some(client) = &mut self.client {
            let counted = (Some(attachment), count);
            if client.path.arrived != counted {
                (client.path.arrived, client.path.arrived_at) = (counted, now);
                if now.since(heard_at) >= LONG_FRAME {
                    client.path.partial_at = now;
                }
            }
        }
    }

    /// Client: counts a frame that came by the carrier.
    pub(super) fn note_frame(&mut self, frame: &Frame) {
        let now = self.now;
        let Some(client) = &mut self.client else { return };
        let mut body = 0;
        if let Frame::Message(message) = frame {
            body = message.body.len() as u64;
            client.path.trial.note_message(now);
        }
        client.path.heard_bytes = client.path.heard_bytes.saturating_add(body + FRAME_BYTES);
    }

    /// Measures the round trip that began with the `hello` or poll of an attachment.
    pub(super) fn measure(&mut self, attachment: Attachment) {
        let Some(began) = self.binding(attachment).map(|binding| binding.begun_at) else { return };
        let took = self.now.since(began);
        self.client.iter_mut().for_each(|client| client.path.note_round_trip(took));
    }

    /// A pong came to the latest ping.
    pub(super) fn measure_ping(&mut self, attachment: Attachment) {
        let now = self.now;
        let Some(client) = &mut self.client else { return };
        client.path.answered_at = now;
        if let Some(asked) = client.path.asked.take_if(|asked| asked.attachment == attachment) {
            client.path.note_round_trip(now.since(asked.at));
        }
    }

    /// A ping is said now.
    pub(super) fn note_asked(&mut self, attachment: Attachment) {
        let at = self.now;
        if let Some(client) = &mut self.client {
            let path = &mut client.path;
            let on_trial = path.asked.is_some_and(|asked| asked.attachment == attachment && asked.on_trial);
            let heard_bytes = path.heard_bytes;
            path.asked = Some(Question { attachment, at, heard_bytes, on_trial, pushed: false });
        }
    }

    /// A push was answered: what was asked by it has arrived.
    pub(super) fn note_pushed(&mut self, attachment: Attachment) {
        let waits = self.binding(attachment).is_some_and(|binding| binding.ping_due);
        let Some(client) = &mut self.client else { return };
        if let Some(asked) = client.path.asked.as_mut().filter(|asked| asked.attachment == attachment) {
            asked.pushed |= !waits;
        }
    }

    /// Client: whether a ping waits for its answer.
    pub(super) fn is_asking(&self, attachment: Attachment) -> bool {
        let asked = self.client.as_ref().and_then(|client| client.path.asked);
        asked.is_some_and(|asked| asked.attachment == attachment)
    }

    /// A ping is said now that only asks for a receipt.
    pub(super) fn note_receipt_asked(&mut self) {
        let now = self.now;
        self.client.iter_mut().for_each(|client| client.path.receipt_asked_at = Some(now));
    }

    /// Forgets a ping that was lost. Says whether there was one that waited for its answer.
    pub(super) fn forget_asked(&mut self, attachment: Attachment) -> bool {
        let Some(client) = &mut self.client else { return false };
        client.path.asked.take_if(|asked| asked.attachment == attachment).is_some()
    }

    /// A message is about to be put on the carrier.
    pub(super) fn note_given(&mut self) {
        if self.client.is_none() {
            return;
        }
        let (now, first) = (self.now, !self.outbox.is_advanced());
        let streams = self.carrier().is_some_and(|carrier| carrier.transport == TransportKind::Sse);
        if let Some(client) = &mut self.client {
            // On a WebSocket receipts tell what became of it.
            if streams {
                client.path.trial.note_message(now);
            }
            if first {
                client.path.given_at = now;
            }
        }
    }

    fn knock(&mut self, attachment: Attachment) {
        if let Some(binding) = self.binding_mut(attachment) {
            // Not the number of an attachment, by which a path is proved the first time.
            binding.ping =
                binding.ping.max(attachment.value()).saturating_add(1).min(crate::frame::MAX_NUMBER);
            binding.ping_due = true;
        }
        self.note_asked(attachment);
    }

    /// What was asked just now is asked on trial, or serves as well.
    fn note_question(&mut self, on_trial: bool) {
        let Some(client) = &mut self.client else { return };
        client.path.trial.note_question(on_trial);
        client.path.asked.iter_mut().for_each(|asked| asked.on_trial = on_trial);
    }

    fn poll_anew(&mut self, now: Moment, attachment: Attachment) {
        self.begin_holds();
        let until = later(now, self.answer_time());
        if let Some(binding) = self.binding_mut(attachment) {
            (binding.proved, binding.poll_open, binding.poll_at) = (false, false, None);
            binding.until = Some(until);
        }
    }

    /// When to judge the path next.
    pub(super) fn path_due(&self) -> Option<Moment> {
        let path = &self.client.as_ref()?.path;
        let carrier = self.carrier().filter(|binding| binding.stage == Stage::Attached && binding.proved)?;
        let answer = self.answer_time();
        let heard = carrier.heard_at.max(path.arrived_at);
        if carrier.is_polling() {
            let begun = later(carrier.begun_at, path.holds.asked()).max(path.arrived_at);
            return carrier.poll_open.then(|| later(begun, answer));
        }
        if let Some(asked) = self.question(carrier.attachment) {
            // What stood in front of the pong takes its time.
            let before = time_for(path.heard_bytes.saturating_sub(asked.heard_bytes));
            return Some(later(later(asked.at, before).max(path.partial_at), answer));
        }
        let doubted = carrier.transport == TransportKind::WebSocket && self.outbox.is_advanced();
        let doubt = doubted.then(|| later(heard.max(path.given_at).min(self.receipt_due()), answer));
        let due = earlier(doubt, path.ping_after.map(|silence| later(heard, silence)));
        earlier(due, self.trial_due(carrier, heard))
    }

    /// When a peer that hears what was said would have sent a receipt.
    fn receipt_due(&self) -> Moment {
        let Some(path) = self.client.as_ref().map(|client| &client.path) else { return self.now };
        let since = path.given_at.max(path.answered_at);
        path.receipt_asked_at.map_or_else(|| later(since, RECEIPT_WAIT), |asked| asked.max(since))
    }

    /// The ping on an attachment that has no answer yet.
    pub(super) fn question(&self, attachment: Attachment) -> Option<Question> {
        self.client.as_ref()?.path.asked.filter(|asked| asked.attachment == attachment)
    }

    /// Acts on what the carrier owes.
    pub(super) fn judge_path(&mut self, now: Moment) {
        if self.client.is_none() {
            return;
        }
        self.lengthen_proof(now);
        if self.path_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(carrier) = self.carrier() else { return };
        let attachment = carrier.attachment;
        if carrier.is_polling() {
            self.note_lost_poll();
            return self.poll_anew(now, attachment);
        }
        let half = self.answer_time() / 2;
        let unanswered = carrier.push.unanswered > 0;
        let (heard_at, streams) = (carrier.heard_at, carrier.transport == TransportKind::Sse);
        match self.question(attachment) {
            // What waits for a push to end cannot be answered; that push is judged by itself.
            Some(_) if streams && carrier.ping_due => self.knock(attachment),
            None => {
                let heard =
                    self.client.as_ref().map_or(heard_at, |client| heard_at.max(client.path.arrived_at));
                let on_trial = self.trial_due(carrier, heard).is_some_and(|due| due <= now);
                self.knock(attachment);
                self.note_question(on_trial);
            }
            // The second push in a row that is not answered.
            Some(asked) if streams && !asked.pushed && unanswered => {
                self.detach(attachment, DetachReason::UplinkLost, None);
            }
            // The server has it, and its pong is held back.
            Some(asked) if streams && asked.on_trial && asked.pushed => {
                self.detach(attachment, DetachReason::Unproved, None);
            }
            // What still comes down does so unasked.
            Some(asked) if !streams && heard_at > later(asked.at, half) => {
                self.detach(attachment, DetachReason::UplinkLost, None);
            }
            Some(_) => self.detach(attachment, DetachReason::Silent, None),
        }
    }

    /// A path is not given up for want of a `welcome` or of proof while bytes come: they may stand behind much.
    fn lengthen_proof(&mut self, now: Moment) {
        let Some(arrived_at) = self.client.as_ref().map(|client| client.path.arrived_at) else { return };
        let until = later(arrived_at, self.answer_time());
        let Some(attachment) = self.attachment() else { return };
        let Some(binding) = self.binding_mut(attachment) else { return };
        let late = binding.until.is_some_and(|until| until <= now);
        let proving =
            binding.stage == Stage::Greeting || (binding.stage == Stage::Attached && !binding.proved);
        if late && proving && until > now && now.since(binding.begun_at) < LONGEST_PROOF {
            binding.until = Some(until);
        }
    }
}
