//! What goes out next on an attachment, in which order.

use crate::frame::{Ack, Attach, Attachment, Frame, MessageKind, Role, TransportKind};

use super::binding::Stage;
use super::{EndedBy, Phase, Receipts, Session};

impl Session {
    pub(super) fn transmit(&mut self, attachment: Attachment) -> Option<&Frame> {
        if self.has_clear_way(attachment) {
            if self.outbox.has_next() {
                return self.receipt_or_message();
            }
            if !self.inbox.is_owed() && !self.must_ask() {
                return None;
            }
        }
        let binding = self.binding(attachment)?;
        if !binding.is_writable(self.role()) {
            return None;
        }
        if self.is_ended() {
            let close = self.parting(attachment);
            return self.lend(close);
        }
        if let Some(control) = self.control(attachment) {
            return self.lend(Some(control));
        }
        if !self.may_carry(attachment) {
            return None;
        }
        if self.binding(attachment).is_some_and(|binding| binding.ack_due) {
            // The answer to `attach` waits behind no replay.
            let control = self.receipt_or_close(attachment);
            return self.lend(control);
        }
        if self.message_is_next(attachment) {
            return if self.is_welcomed(attachment) {
                self.receipt_or_message()
            } else {
                self.next_message()
            };
        }
        let control = self.receipt_or_close(attachment).or_else(|| self.ask(attachment));
        self.lend(control)
    }

    /// Whether the peer is to be asked what it has received.
    #[inline]
    fn must_ask(&self) -> bool {
        // A careful end goes on only when it is told.
        let at_once = self.is_careful() || matches!(self.phase, Phase::Closing { .. });
        self.outbox.is_asking(at_once, self.config.send_buffer) && self.config.receipts == Receipts::Given
    }

    /// The `ping` that asks for a receipt, where nothing else brings one soon: polls do at once, and so do the answers to
    /// pushes.
    fn ask(&mut self, attachment: Attachment) -> Option<Frame> {
        if !self.must_ask() {
            return None;
        }
        if self.is_asking(attachment) {
            // Only the latest ping need be answered, and its pong brings a receipt.
            return None;
        }
        let role = self.role();
        let binding = self.binding_mut(attachment).filter(|binding| binding.stage == Stage::Attached)?;
        let ping = match (role, binding.transport) {
            (Role::Client, TransportKind::WebSocket) if binding.proved => Frame::Ping(None),
            // A number of its own: on a stream only the answer to the latest ping proves that it lives.
            (Role::Server, TransportKind::WebSocket | TransportKind::Sse) => {
                binding.ping += 1;
                Frame::Ping(Some(binding.ping))
            }
            _ => return None,
        };
        self.outbox.note_asked();
        self.note_receipt_asked();
        Some(ping)
    }

    /// Server: whether nothing but messages and receipts can be next: the one transport is attached and owes no control
    /// frame. It is so nearly always, and spares the questions below, whose answers it implies.
    fn has_clear_way(&self, attachment: Attachment) -> bool {
        let [binding] = self.bindings.as_slice() else { return false };
        binding.attachment == attachment
            && self.role() == Role::Server
            && binding.has_clear_way(self.role())
            && self.grant.as_ref().is_none_or(|grant| grant.confirm.is_none())
            && self.move_due.is_none()
            && self.is_open()
            && !self.peer_closes
            && !self.is_careful()
    }

    /// The next message, behind what the peer does not know yet of those received.
    fn receipt_or_message(&mut self) -> Option<&Frame> {
        if self.inbox.is_untold() {
            let ack = self.inbox.tell();
            return self.lend(Some(Frame::Ack(ack)));
        }
        self.next_message()
    }

    /// The `poll` of a client's attachment that has none open.
    pub(super) fn due_request(&mut self, attachment: Attachment) -> Option<Frame> {
        let binding = self.binding(attachment)?;
        let polls = self.role() == Role::Client && binding.is_polling() && binding.stage != Stage::Greeting;
        if !polls || binding.poll_open || binding.poll_at.is_some() || self.is_ended() {
            return None;
        }
        self.request(attachment).map(Box::new).map(Frame::Poll)
    }

    pub(super) fn lend(&mut self, frame: Option<Frame>) -> Option<&Frame> {
        self.lent = frame;
        self.lent.as_ref()
    }

    /// The close of a session that is over: once on each transport.
    fn parting(&mut self, attachment: Attachment) -> Option<Frame> {
        let Phase::Ended { close, .. } = &self.phase else { return None };
        let frame = Frame::Close(close.clone());
        let binding = self.binding_mut(attachment).filter(|binding| !binding.close_said)?;
        binding.close_said = true;
        // A `hello` that was said may have made the session, or come back to it: the server is not to wait in vain.
        // Where another carries, that is told there.
        let greets = binding.stage == Stage::Greeting;
        let silent = greets && (binding.candidate || binding.greeting_due.is_some());
        (!silent).then_some(frame)
    }

    /// Whether the greeting of an attachment is over.
    fn is_welcomed(&self, attachment: Attachment) -> bool {
        self.binding(attachment).is_some_and(|binding| binding.stage != Stage::Greeting)
    }

    /// Greetings and the slots for control frames: bounded, the latest of a kind only.
    fn control(&mut self, attachment: Attachment) -> Option<Frame> {
        let role = self.role();
        if let Some(resumed) = self.binding_mut(attachment)?.greeting_due.take() {
            return match role {
                Role::Client => self.hello(attachment).map(Box::new).map(Frame::Hello),
                Role::Server => self.welcome(attachment, resumed).map(Box::new).map(Frame::Welcome),
            };
        }
        let binding = self.binding_mut(attachment)?;
        if binding.stage == Stage::Greeting {
            return None;
        }
        if std::mem::take(&mut binding.attach_due) {
            // Not counted as told: the candidate may die and the old path go on.
            let Ack { received, taken } = self.inbox.receipt();
            return Some(Frame::Attach(Attach { received, taken: (taken != received).then_some(taken) }));
        }
        if std::mem::take(&mut binding.ping_due) {
            let ping = binding.ping;
            self.note_asked(attachment);
            return Some(Frame::Ping(Some(ping)));
        }
        let binding = self.binding_mut(attachment)?;
        if std::mem::take(&mut binding.pong_due) {
            binding.pong_said = true;
            return Some(Frame::Pong(binding.pong));
        }
        if let Some(request) = self.due_request(attachment) {
            return Some(request);
        }
        let binding = self.binding_mut(attachment)?;
        if binding.stage != Stage::Attached {
            return None;
        }
        match &mut self.client {
            Some(client) => client.say_token().map(Frame::Auth),
            None => {
                let confirmed = self.grant.as_mut().and_then(|grant| grant.confirm.take()).map(Frame::AuthOk);
                confirmed.or_else(|| self.move_due.take().map(|ask| Frame::Move(*ask)))
            }
        }
    }

    /// Whether messages, receipts and the close may go on this attachment.
    fn may_carry(&self, attachment: Attachment) -> bool {
        // While `attach` waits for its answer the server may have fenced the old path already.
        let moving = self.bindings.len() > 1 && self.is_moving();
        self.is_carrier(attachment) && !moving
    }

    fn message_is_next(&self, attachment: Attachment) -> bool {
        let waits = self.binding(attachment).is_some_and(|binding| binding.push.retry_at.is_some());
        !waits && !self.peer_closes && self.outbox.has_next() && !self.is_reined(attachment)
    }

    fn next_message(&mut self) -> Option<&Frame> {
        if self.role() == Role::Client && !self.was_attached && self.waiting_since.is_none() {
            self.waiting_since = Some(self.now);
        }
        self.note_given();
        let (frame, named) = self.outbox.next()?;
        if let (Frame::Message(message), Some((ticket, seq))) = (frame, named) {
            if message.kind == MessageKind::Request {
                self.requests.insert(seq, ticket);
            }
        }
        Some(frame)
    }

    /// A receipt that goes by itself, or the close once all before it is acknowledged, or that it waits for room.
    fn receipt_or_close(&mut self, attachment: Attachment) -> Option<Frame> {
        let owed = self.inbox.is_owed() && self.is_welcomed(attachment);
        let binding = self.binding_mut(attachment)?;
        if std::mem::take(&mut binding.ack_due) || owed {
            return Some(Frame::Ack(self.inbox.tell()));
        }
        let (said, told) = (binding.close_said, binding.closing_said);
        let greeted = binding.stage == Stage::Attached;
        let Phase::Closing { close, refused, .. } = &self.phase else { return None };
        // Two ends that close at once take nothing more from each other and would wait in vain for receipts:
        // who has seen that says its close right behind its messages, and the answer says what came through.
        let early = *refused || self.config.receipts == Receipts::Absent;
        let through = self.outbox.is_empty() || self.peer_closes || (early && self.outbox.is_handed_over());
        if said || !greeted {
            return None;
        }
        if !through {
            // Where the window holds messages back, a peer that closes as well must be told, or neither says more.
            if told || !self.outbox.is_held_back() {
                return None;
            }
            self.binding_mut(attachment)?.closing_said = true;
            return Some(Frame::Closing);
        }
        let mut close = close.clone();
        close.detail.received = Some(self.inbox.receipt().received);
        self.binding_mut(attachment)?.close_said = true;
        if self.config.receipts == Receipts::Absent {
            self.finish(close.clone(), EndedBy::Local);
            self.bindings.iter_mut().for_each(|binding| binding.close_said = true);
        }
        Some(Frame::Close(close))
    }

    /// The receipt as it goes on an attachment. Only on the one that carries it counts as told: what a candidate
    /// loses nobody repeats on the path that goes on.
    pub(super) fn tell_on(&mut self, attachment: Attachment) -> Ack {
        if self.is_carrier(attachment) { self.inbox.tell() } else { self.inbox.receipt() }
    }
}
