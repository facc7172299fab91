//! What the frames of the peer mean, once it is clear that they may be heard.

use crate::frame::{
    Ack, Attachment, Close, CloseCode, Frame, Message, MessageKind, Role, Scope, Seq, TransportKind,
};

use super::binding::Stage;
use super::inbox::Arrival;
use super::{DetachReason, EndedBy, Event, Moment, Phase, Session, Via};

impl Session {
    /// Notes what a frame proves about the path it came by. False: the frame came where none may.
    pub(super) fn note_heard(&mut self, attachment: Attachment, via: Via, frame: &Frame) -> bool {
        let (role, now, heartbeat) = (self.role(), self.now, self.heartbeat());
        let Some(binding) = self.binding_mut(attachment) else { return true };
        let greeting = role == Role::Client && binding.stage == Stage::Greeting && via == Via::Carrier;
        if greeting && !matches!(frame, Frame::Welcome(_) | Frame::Close(_)) {
            self.detach(attachment, DetachReason::Malformed, None);
            return false;
        }
        let Some(binding) = self.binding_mut(attachment) else { return true };
        let proves_life = match (role, binding.transport) {
            (_, TransportKind::WebSocket) => true,
            (Role::Client, _) => via == Via::Carrier,
            // The stream is proved by the answer to what went down it, once, not by what comes beside it.
            (Role::Server, _) => {
                binding.note_beside(frame, now, heartbeat);
                binding.is_answered_by(frame)
            }
        };
        if proves_life {
            let quiet = now.since(std::mem::replace(&mut binding.heard_at, now));
            if role == Role::Client && binding.stage == Stage::Attached {
                self.note_outlived(quiet);
            }
        }
        if via == Via::Carrier {
            self.note_frame(frame);
            // A receipt that opens the window is as good as a message: what waits for it goes at once.
            let fruitful = match frame {
                Frame::Ack(ack) => self.outbox.is_news(*ack),
                _ => true,
            };
            if let Some(binding) = self.binding_mut(attachment) {
                binding.poll_fruitful |= fruitful;
            }
        }
        true
    }

    pub(super) fn handle_message(&mut self, attachment: Attachment, via: Via, message: Message) {
        if let Phase::Closing { refused, .. } = &mut self.phase {
            // The closer takes no more: its close says what it received.
            *refused |= message.seq > self.inbox.receipt().received;
            return;
        }
        let size = message.body.len() as u64;
        if size > self.config.limits.max_message_bytes as u64 {
            return self
                .finish(Close::new(CloseCode::TooLarge, "a message beyond the limit"), EndedBy::Local);
        }
        let capacity = self.config.receivable(self.role());
        match self.inbox.accept(message.seq, size, message.kind.is_answer(), capacity) {
            Arrival::Next => {
                self.progressed = true;
                self.note_delivered();
                self.deliver(message);
            }
            Arrival::Repeat => {}
            Arrival::Gap if via == Via::Carrier => self.detach(attachment, DetachReason::Gap, None),
            Arrival::Gap => {}
            Arrival::Flood => self.fail("messages beyond the window"),
        }
    }

    fn deliver(&mut self, message: Message) {
        let (to, answer) = match message.kind {
            MessageKind::Plain | MessageKind::Request => {
                return self.events.push_back(Event::Message(message));
            }
            MessageKind::Reply(to) => (to, Ok(message.body)),
            MessageKind::Failure(to) => (to, Err(message.body)),
        };
        if to > self.outbox.sent() {
            return self.fail("an answer to what was never asked");
        }
        let event = match (self.requests.remove(&to), answer) {
            (Some(ticket), answer) => {
                self.open_requests = self.open_requests.saturating_sub(1);
                Event::Reply { ticket, answer }
            }
            (None, Err(failure)) => Event::Failed { seq: to, failure },
            // A second answer finds nobody who waits.
            (None, Ok(_)) => return,
        };
        self.events.push_back(event);
    }

    pub(super) fn handle_ack(&mut self, attachment: Attachment, via: Via, ack: Ack) {
        let before = self.outbox.acked();
        if self.take_receipt(ack).is_err() {
            return self.fail("a receipt for what was never sent");
        }
        if self.outbox.acked() > before {
            self.note_arrival(attachment);
        }
        let attaching = self.binding(attachment).is_some_and(|binding| binding.stage == Stage::Attaching);
        if via == Via::Carrier && attaching {
            self.complete_attach(attachment);
        }
    }

    pub(super) fn handle_close(&mut self, attachment: Attachment, close: Close) {
        if close.code.scope() == Scope::Transport {
            return self.handle_transport_close(attachment, close);
        }
        // On a client a close counts only where the session is: a refused candidate is only that, and what a
        // fenced transport still says is repeated on the one that carries.
        if self.role() == Role::Client
            && (!self.is_carrier(attachment) || self.is_turned_away(attachment, &close))
        {
            return self.detach(attachment, DetachReason::Closed(close), None);
        }
        if let Some(received) = close.detail.received {
            if self.take_receipt(Ack { received, taken: Seq::ZERO }).is_err() {
                return self.fail("a close that acknowledges what was never sent");
            }
        }
        match std::mem::replace(&mut self.phase, Phase::Open) {
            // The answer to our own, or one that crossed it. Where ours was said, that is our answer.
            Phase::Closing { close, .. } => {
                let said: Vec<bool> = self.bindings.iter().map(|binding| binding.close_said).collect();
                self.finish(close, EndedBy::Local);
                self.bindings.iter_mut().zip(said).for_each(|(binding, said)| binding.close_said = said);
            }
            _ => {
                self.finish(close, EndedBy::Peer);
                // A `hello` that was refused needs no answer.
                let greeting =
                    self.binding_mut(attachment).filter(|binding| binding.stage == Stage::Greeting);
                greeting.into_iter().for_each(|binding| binding.close_said = true);
            }
        }
    }

    /// Client: whether a `hello` was refused for the transport that it came on: another may be accepted.
    fn is_turned_away(&self, attachment: Attachment, close: &Close) -> bool {
        let greeting = self.binding(attachment).is_some_and(|binding| binding.stage == Stage::Greeting);
        greeting && close.code == CloseCode::NotAcceptable
    }

    fn handle_transport_close(&mut self, attachment: Attachment, close: Close) {
        if self.binding(attachment).is_none() {
            return;
        }
        let winner = close.detail.attachment;
        let lost = self.client.as_ref().is_some_and(|client| client.is_beyond(winner));
        if close.code == CloseCode::Superseded && lost {
            // Somebody else holds the same session: coming back would only take it from them, and so would a close.
            self.finish(close, EndedBy::Peer);
            return self.bindings.iter_mut().for_each(|binding| binding.close_said = true);
        }
        self.detach(attachment, DetachReason::Closed(close), None);
    }

    /// After the end only the peer's own close matters: it needs no further answer.
    pub(super) fn handle_late_frame(&mut self, attachment: Attachment, frame: &Frame) {
        if let (Frame::Close(_), Some(binding)) = (frame, self.binding_mut(attachment)) {
            binding.close_said = true;
        }
    }

    pub(super) fn handle_control(&mut self, now: Moment, attachment: Attachment, via: Via, frame: Frame) {
        match frame {
            Frame::Ping(number) => {
                if let Some(binding) = self.binding_mut(attachment) {
                    (binding.pong, binding.pong_due) = (number, true);
                }
                // Who asks whether the path lives may be asking what came of what it sent.
                if self.is_carrier(attachment) {
                    self.inbox.ask();
                }
            }
            Frame::Pong(number) => self.handle_pong(now, attachment, via, number),
            Frame::Welcome(welcome) => self.handle_welcome(now, attachment, &welcome),
            Frame::Attach(attach) => self.handle_attach(now, attachment, attach),
            Frame::Auth(token) => self.post_latest(Event::Auth(token)),
            Frame::AuthOk(expires_ms) => {
                self.client.iter_mut().for_each(|client| client.confirm_token());
                self.post_latest(Event::AuthAccepted { expires_ms });
            }
            Frame::Move(ask) => self.post_latest(Event::MoveAsked(ask)),
            Frame::Closing => self.peer_closes = true,
            // `hello`, `poll` and `push` address a session; inside one they have no place.
            _ => self.fail("a frame out of its place"),
        }
    }

    /// Posts an event of which only the latest counts: a peer that floods does not grow the queue.
    pub(super) fn post_latest(&mut self, event: Event) {
        let same = |other: &Event| std::mem::discriminant(other) == std::mem::discriminant(&event);
        self.events.retain(|other| !same(other));
        self.events.push_back(event);
    }
}
