//! What only the server end does: judges attachments by their numbers.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frame::{
    Ack, Attach, Attachment, Close, CloseCode, Epoch, Hello, Move, Poll, Role, Seq, SessionId, TransportKind,
    VERSION, Welcome,
};

use super::binding::{Binding, Stage};
use super::{Config, DetachReason, Event, Moment, Receipts, Session, later};

/// How many candidates may wait at once; one more ends the oldest.
const MAX_CANDIDATES: usize = 2;

/// What becomes of a transport that brought a `hello` or a `poll`.
#[derive(Debug)]
#[must_use]
pub enum Greeting {
    /// It belongs to this attachment now, in place of any other transport of the same number.
    Bound(Attachment),
    /// It gets this close and nothing else; nothing has changed.
    Refused(Close),
}

/// Where a stream of a peer without receipts goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// It belongs to this attachment now.
    pub attachment: Attachment,
    /// What comes first is the message after this one.
    pub from: Seq,
    /// Whether messages between what the peer has seen and `from` are lost to it.
    pub lost: bool,
}

/// What a server knows of a client's token.
#[derive(Debug, Default)]
pub(super) struct Grant {
    /// When it runs out.
    until: Option<Moment>,
    /// It has run out.
    is_over: bool,
    /// It is fresh, and that is to be said: for how many milliseconds it holds.
    pub(super) confirm: Option<u64>,
}

impl Session {
    /// The server end of a new session; [`Session::handle_hello`] with the client's first `hello` comes next.
    /// The epoch must come from a random generator.
    pub fn server(config: Arc<Config>, id: SessionId, epoch: Epoch, now: Instant) -> Self {
        let new = Self::new(config, id, now);
        Self { epoch: Some(epoch), waiting_since: Some(new.now), ..new }
    }

    /// Judges a `hello` whose key was checked, and binds its transport.
    pub fn handle_hello(&mut self, now: Instant, hello: &Hello) -> Greeting {
        let now = self.tick(now);
        if let Some(close) = self.refusal(hello.epoch) {
            return Greeting::Refused(close);
        }
        if hello.version != VERSION {
            return Greeting::Refused(Close::new(
                CloseCode::UnsupportedVersion,
                "this server speaks version 1",
            ));
        }
        let number = hello.attachment;
        if let Some(current) = self.current.filter(|current| number < *current) {
            return Greeting::Refused(Close::superseded(current));
        }
        let ack = Ack { received: hello.received, taken: hello.taken.unwrap_or(hello.received) };
        if self.take_receipt(ack).is_err() {
            self.fail("a hello that acknowledges what was never sent");
            return self.refusal(None).map_or(Greeting::Bound(number), Greeting::Refused);
        }
        self.outbox.set_window(hello.window);
        if hello.candidate && self.current != Some(number) {
            self.introduce_candidate(now, number, hello.transport);
        } else {
            self.attach(now, number, hello.transport);
        }
        let resumed = if self.current == Some(number) { self.resumed } else { self.was_attached };
        self.was_attached |= self.current.is_some();
        if let Some(binding) = self.binding_mut(number) {
            binding.greeting_due = Some(resumed);
            binding.poll_open = binding.is_polling();
        }
        Greeting::Bound(number)
    }

    /// Judges a `poll` whose key was checked, and binds the request that is to be answered.
    pub fn handle_poll(&mut self, now: Instant, poll: &Poll) -> Greeting {
        let now = self.tick(now);
        if let Some(close) = self.refusal(Some(poll.epoch)) {
            return Greeting::Refused(close);
        }
        if let Some(close) = self.expiry() {
            return Greeting::Refused(close);
        }
        let number = poll.attachment;
        let known = self.binding(number).map(|binding| (binding.transport, binding.stage));
        match (self.current.map(|current| number.cmp(&current)), known) {
            (Some(Ordering::Less), _) => {
                return Greeting::Refused(Close::superseded(self.current.unwrap_or(number)));
            }
            (_, Some((TransportKind::WebSocket | TransportKind::Sse, _))) => {
                return Greeting::Refused(Close::new(
                    CloseCode::NotAcceptable,
                    "this attachment does not poll",
                ));
            }
            (Some(Ordering::Equal), _) | (_, Some(_)) => {}
            // Introduced too long ago, or never.
            (_, None) => return Greeting::Refused(Close::new(CloseCode::Moved, "say hello again")),
        }
        let ack = Ack { received: poll.received, taken: poll.taken.unwrap_or(poll.received) };
        if self.take_receipt(ack).is_err() {
            self.fail("a poll that acknowledges what was never sent");
            return self.refusal(None).map_or(Greeting::Bound(number), Greeting::Refused);
        }
        let answers_attach = matches!(known, Some((_, Stage::Introduced)));
        if answers_attach || known.is_none() {
            self.attach(now, number, TransportKind::LongPolling);
            self.was_attached = true;
        }
        self.outbox.rewind();
        // The answer to the last poll may have been lost, and the receipts in it.
        self.inbox.doubt_told();
        let hold = Duration::from_millis(poll.hold_ms).min(self.config.max_hold);
        if let Some(binding) = self.binding_mut(number) {
            binding.heard_at = now;
            binding.poll_open = true;
            binding.ack_due = answers_attach || known.is_none() || hold.is_zero();
            binding.poll_at = Some(later(now, hold));
            binding.close_said = false;
        }
        self.note_arrival(number);
        Greeting::Bound(number)
    }

    /// Attaches a new stream of a peer that gives no receipts and has seen all up to `received`.
    ///
    /// # Errors
    /// With the close for the stream, when nothing attaches to this session any more.
    pub fn handle_return(&mut self, now: Instant, received: Seq) -> Result<Return, Close> {
        let now = self.tick(now);
        let number = self.current.map_or(Some(Attachment::FIRST), Attachment::next);
        if let Some(close) = self.refusal(None) {
            return Err(close);
        }
        let Some(attachment) = number else {
            return Err(Close::new(CloseCode::UnknownSession, "no such session"));
        };
        let (held, sent) = (self.outbox.acked(), self.outbox.sent());
        let lost = received < held || received > sent;
        let from = if lost { held } else { received };
        // Within what was sent and not below what was dropped: never refused.
        let _ = self.outbox.acknowledge(Ack { received: from, taken: from });
        self.attach(now, attachment, TransportKind::Sse);
        self.was_attached = true;
        if let Some(binding) = self.binding_mut(attachment) {
            binding.greeting_due = Some(true);
        }
        Ok(Return { attachment, from, lost })
    }

    /// Confirms a fresh token; it runs out in so many milliseconds (0: no matter).
    pub fn accept_auth(&mut self, now: Instant, expires_ms: u64) {
        self.grant.get_or_insert_default().confirm = Some(expires_ms);
        self.grant(now, (expires_ms > 0).then(|| Duration::from_millis(expires_ms)));
    }

    /// Notes for how long the client is who it says it is: what the authenticator said of a `hello` that was
    /// bound. When that time is over without a fresh token, all transports end with `auth_expired`, and
    /// nothing but a `hello` attaches.
    pub fn grant(&mut self, now: Instant, expires: Option<Duration>) {
        let now = self.tick(now);
        if self.role() == Role::Client {
            return;
        }
        let until = expires.map(|expires| now.plus(expires));
        if until.is_some() || self.grant.is_some() {
            let grant = self.grant.get_or_insert_default();
            (grant.until, grant.is_over) = (until, false);
        }
    }

    /// Offers this client other transports than before, best first: those that a configuration names which is the same
    /// otherwise. The next `welcome` says so.
    pub fn offer(&mut self, config: Arc<Config>) {
        if self.role() == Role::Server {
            self.config = config;
        }
    }

    pub(super) fn granted_until(&self) -> Option<Moment> {
        self.grant.as_ref().and_then(|grant| grant.until)
    }

    /// The close that answers whatever is no `hello`, once the token has run out.
    pub fn expiry(&self) -> Option<Close> {
        let over = self.grant.as_ref().is_some_and(|grant| grant.is_over);
        over.then(|| Close::new(CloseCode::AuthExpired, "the token has run out"))
    }

    /// Ends all transports when the token has run out.
    pub(super) fn check_expiry(&mut self, now: Moment) {
        let Some(grant) = self.grant.as_mut().filter(|grant| grant.until.is_some_and(|until| until <= now))
        else {
            return;
        };
        (grant.until, grant.is_over) = (None, true);
        let Some(close) = self.expiry() else { return };
        while let Some(attachment) = self.bindings.first().map(|binding| binding.attachment) {
            self.detach(attachment, DetachReason::Closed(close.clone()), Some(close.clone()));
        }
    }

    /// Asks the client to come back on another transport, or elsewhere.
    pub fn ask_move(&mut self, ask: Move) {
        self.move_due = Some(Box::new(ask));
    }

    /// Why nothing attaches to this session at all.
    fn refusal(&self, epoch: Option<Epoch>) -> Option<Close> {
        if self.role() == Role::Client {
            return Some(Close::new(CloseCode::ProtocolError, "a client greets nobody"));
        }
        if epoch.is_some() && epoch != self.epoch {
            return Some(Close::new(CloseCode::UnknownSession, "no such session"));
        }
        self.end().cloned()
    }

    /// Server: notes that what went down an attachment arrives. Nothing depends on it: it is for who asks how a path does.
    pub(super) fn note_arrival(&mut self, attachment: Attachment) {
        if self.role() == Role::Client || !self.is_carrier(attachment) {
            return;
        }
        if let Some(binding) = self.binding_mut(attachment).filter(|binding| !binding.proved) {
            binding.proved = true;
            self.events.push_back(Event::Proved { attachment });
        }
    }

    pub(super) fn handle_attach(&mut self, now: Moment, attachment: Attachment, attach: Attach) {
        let ack = Ack { received: attach.received, taken: attach.taken.unwrap_or(attach.received) };
        if self.take_receipt(ack).is_err() {
            return self.fail("an attach that acknowledges what was never sent");
        }
        let Some(binding) = self.binding(attachment) else { return };
        let transport = binding.transport;
        if binding.stage == Stage::Introduced {
            self.attach(now, attachment, transport);
            self.was_attached = true;
        }
        if let Some(binding) = self.binding_mut(attachment) {
            binding.ack_due = true;
        }
    }

    /// Makes an attachment the one that carries, fences all lower ones, and replays.
    fn attach(&mut self, now: Moment, attachment: Attachment, transport: TransportKind) {
        if self.current != Some(attachment) {
            self.resumed = self.was_attached;
        }
        self.current = Some(attachment);
        self.fence(attachment);
        self.begin_carrier(attachment);
        let resumed = self.was_attached;
        let heartbeat = self.heartbeat();
        let before = self.binding(attachment).map(|b| (b.ping, b.ponged, b.heard_of));
        self.bindings.retain(|binding| binding.attachment != attachment);
        let mut binding = Binding::new(attachment, transport, Stage::Attached, now);
        (binding.ping, binding.ponged, binding.heard_of) = before.unwrap_or_default();
        // Who gives no receipts answers no ping either.
        binding.heard_of |= self.config.receipts == Receipts::Absent;
        binding.ping_at = binding.first_ping(now, heartbeat);
        self.bindings.push(binding);
        self.waiting_since = None;
        self.events.push_back(Event::Attached { attachment, transport, resumed });
    }

    fn introduce_candidate(&mut self, now: Moment, attachment: Attachment, transport: TransportKind) {
        self.bindings.retain(|binding| binding.attachment != attachment);
        let candidates = self.bindings.iter().filter(|binding| binding.stage == Stage::Introduced);
        let oldest = candidates.clone().map(|binding| binding.attachment).min();
        if let Some(oldest) = oldest.filter(|_| candidates.count() >= MAX_CANDIDATES) {
            self.detach(oldest, DetachReason::Superseded, Some(Close::superseded(attachment)));
        }
        let mut binding = Binding::new(attachment, transport, Stage::Introduced, now);
        binding.candidate = true;
        binding.ping_at = binding.first_ping(now, self.heartbeat());
        binding.until = Some(later(now, self.config.candidate_lifetime));
        self.bindings.push(binding);
    }

    pub(super) fn welcome(&mut self, attachment: Attachment, resumed: bool) -> Option<Welcome> {
        let millis = |time: Duration| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(crate::frame::MAX_NUMBER)
        };
        let Ack { received, taken } = self.tell_on(attachment);
        Some(Welcome {
            session: self.id,
            epoch: self.epoch?,
            attachment,
            received,
            taken: (taken != received).then_some(taken),
            resumed,
            window: self.config.window,
            heartbeat_ms: millis(self.heartbeat()),
            resume_window_ms: millis(self.config.resume_window),
            max_message_bytes: self.config.limits.max_message_bytes as u64,
            max_batch_bytes: self.config.limits.max_batch_bytes as u64,
            transports: self.config.transports.clone(),
            auth_expires_ms: self.granted_until().map(|until| millis(until.since(self.now))),
        })
    }
}
