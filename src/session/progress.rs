//! Progress, of both ends: what receipts say of a carrier, what is told when one is given up, and how it goes on where every
//! carrier dies before anything got through.
//!
//! It implements what `docs/PROTOCOL.md`, "Starting", says of sessions.

use std::time::Duration;

use crate::frame::{Ack, Attachment, Role, TransportKind};

use super::binding::{Binding, Stage};
use super::outbox::WrongAck;
use super::trial::Trial;
use super::{Departure, Receipts, Session};

/// After so many carriers in a row that ended without progress an end is careful.
const CAREFUL: u8 = 2;

/// What a careful end has on a fresh carrier without a receipt. It doubles whenever all of it is acknowledged.
const CAREFUL_MESSAGES: usize = 16;
const CAREFUL_BYTES: u64 = 1 << 10;

/// How often it doubles at most: then it is more than any window admits by default.
const MAX_DOUBLED: u8 = 10;

impl Session {
    /// A message was received.
    pub(super) fn note_delivered(&mut self) {
        if let Some(client) = &mut self.client {
            client.path.delivered = true;
        }
    }

    /// Takes a receipt, and notes whether it is progress.
    pub(super) fn take_receipt(&mut self, ack: Ack) -> Result<(), WrongAck> {
        let (before, on_its_way) = (self.outbox.acked(), self.outbox.has_given(1, u64::MAX));
        self.outbox.acknowledge(ack)?;
        if self.outbox.acked() > before {
            self.progressed = true;
            self.note_acknowledged();
            if self.outbox.is_empty() {
                self.fruitless = 0;
            } else if on_its_way && !self.outbox.has_given(1, u64::MAX) {
                self.doubled = (self.doubled + 1).min(MAX_DOUBLED);
            }
        }
        Ok(())
    }

    /// The peer has acknowledged more: what was said reaches it.
    fn note_acknowledged(&mut self) {
        let (now, carrier) =
            (self.now, self.carrier().map(|carrier| (carrier.attachment, carrier.transport)));
        let Some(client) = &mut self.client else { return };
        (client.path.answered_at, client.path.receipt_asked_at) = (now, None);
        // On a stream the answers to pushes say so, too, which prove nothing of it.
        if let Some((attachment, TransportKind::WebSocket)) = carrier {
            client.path.asked.take_if(|asked| asked.attachment == attachment);
        }
    }

    /// Begins again at the oldest unacknowledged message, for another carrier.
    pub(super) fn begin_carrier(&mut self, attachment: Attachment) {
        self.progressed = false;
        self.doubled = 0;
        let now = self.now;
        if let Some(client) = &mut self.client {
            let path = &mut client.path;
            (path.carrier, path.delivered) = (Some(attachment), false);
            (path.answered_at, path.receipt_asked_at) = (now, None);
            path.outlived = Duration::ZERO;
            path.trial = Trial::default();
        }
        self.begin_holds();
        self.outbox.rewind();
    }

    /// Judges an attachment that was given up.
    pub(super) fn depart(&mut self, binding: &Binding, carried: bool) -> Departure {
        let now = self.now;
        if carried && !self.progressed && self.outbox.is_advanced() {
            self.fruitless = self.fruitless.saturating_add(1);
        }
        let polling = self.role() == Role::Client && binding.poll_open;
        let idle = if carried { self.mortal_silence(binding) } else { None };
        Departure {
            quiet: now.since(binding.heard_at),
            idle,
            polling: polling.then(|| now.since(binding.begun_at)),
            fruitful: self.brings_on(binding),
            owing: !self.outbox.is_empty(),
        }
    }

    /// Client: whether what carries the session has made progress: a message came by it; or it is proved, and where own
    /// messages wait some of them were acknowledged.
    pub fn is_fruitful(&self) -> bool {
        self.carrier().is_some_and(|carrier| self.brings_on(carrier))
    }

    fn brings_on(&self, binding: &Binding) -> bool {
        let Some(path) = self.client.as_ref().map(|client| &client.path) else { return false };
        // What is acknowledged beside a path that carries nothing down is no hope for it.
        path.carrier == Some(binding.attachment)
            && (path.delivered || (binding.proved && (self.progressed || self.outbox.is_empty())))
    }

    /// Whether carriers die before anything gets through: then little is put on one at a time.
    pub(super) fn is_careful(&self) -> bool {
        self.fruitless >= CAREFUL && self.config.receipts == Receipts::Given
    }

    /// Whether more waits for a receipt, or for `welcome`, before it is put on an attachment: a careful end does, and nobody puts
    /// much behind `hello`.
    pub(super) fn is_reined(&self, attachment: Attachment) -> bool {
        let careful = self.is_careful();
        let greets = |binding: &Binding| binding.stage == Stage::Greeting;
        if (careful || self.client.is_some()) && self.binding(attachment).is_some_and(greets) {
            return careful || self.outbox.would_exceed(self.config.early_window.bytes);
        }
        careful && self.outbox.has_given(CAREFUL_MESSAGES << self.doubled, CAREFUL_BYTES << self.doubled)
    }
}
