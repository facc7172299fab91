//! What only the client end does: numbers attachments, greets, proves paths, moves between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frame::{
    Ack, Attachment, Close, CloseCode, Hello, Json, Role, SessionId, SessionKey, TransportKind, VERSION,
    Welcome,
};

use super::binding::{Binding, Stage};
use super::path::Path;
use super::{Config, DetachReason, EndedBy, Event, Moment, Session, Via, later};

/// What a client wants of a transport that it introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Attach at once: on the first connect, and when the old path is dead.
    Attach,
    /// Prove the path first, then attach: the old one delivers until then.
    Candidate,
}

/// How many attachments may be alive at once: one that carries, one that takes over, two candidates.
const MAX_BINDINGS: usize = 4;

/// What only a client keeps.
#[derive(Debug)]
pub(super) struct ClientSide {
    /// What `hello` and `poll` show.
    pub(super) key: SessionKey,
    /// The highest attachment ever used.
    highest: Option<Attachment>,
    /// What the server's latest `welcome` offers, best first.
    pub(super) offered: Vec<TransportKind>,
    token: Token,
    pub(super) path: Path,
}

/// The latest token, and what the server knows of it.
#[derive(Debug, Default)]
struct Token {
    auth: Option<Json>,
    /// It is to be said.
    due: bool,
    /// It was said and is not confirmed yet.
    said: bool,
}

impl ClientSide {
    /// Whether an attachment is beyond all that were ever used here.
    pub(super) fn is_beyond(&self, attachment: Option<Attachment>) -> bool {
        attachment > self.highest
    }

    /// The token, if it is to be said now.
    pub(super) fn say_token(&mut self) -> Option<Json> {
        if !std::mem::take(&mut self.token.due) {
            return None;
        }
        self.token.said = true;
        self.token.auth.clone()
    }

    /// What was said may have been lost.
    fn repeat_token(&mut self) {
        self.token.due |= self.token.said;
    }

    pub(super) fn confirm_token(&mut self) {
        self.token.said = false;
    }
}

impl Session {
    /// The client end of a new session. The id and the key must come from a cryptographic generator.
    pub fn client(config: Arc<Config>, id: SessionId, key: SessionKey, now: Instant) -> Self {
        let path = Path::new(&config);
        let client = ClientSide { key, highest: None, offered: Vec::new(), token: Token::default(), path };
        Self { client: Some(Box::new(client)), ..Self::new(config, id, now) }
    }

    /// Binds a new transport: `hello` is the first frame that [`Session::poll_transmit`] lends for it.
    ///
    /// With [`Intent::Attach`] all other attachments are given up. `None` when the session is over.
    pub fn introduce(
        &mut self,
        now: Instant,
        transport: TransportKind,
        intent: Intent,
        auth: Option<Json>,
    ) -> Option<Attachment> {
        let now = self.tick(now);
        // After a sleep this may come before the timer: an id that the server may have forgotten is not used again.
        self.abandon_if_due(now);
        if self.is_ended() {
            return None;
        }
        let client = self.client.as_mut()?;
        let attachment = client.highest.map_or(Some(Attachment::FIRST), Attachment::next)?;
        client.highest = Some(attachment);
        client.token.auth = auth.or(client.token.auth.take());
        let mut binding = Binding::new(attachment, transport, Stage::Greeting, now);
        binding.until = Some(later(now, self.config.welcome_within));
        binding.greeting_due = Some(false);
        match intent {
            Intent::Attach => {
                self.current = Some(attachment);
                self.fence(attachment);
                self.begin_carrier(attachment);
            }
            Intent::Candidate => binding.candidate = true,
        }
        if self.bindings.len() >= MAX_BINDINGS {
            let spare = |b: &&Binding| b.candidate && b.stage != Stage::Attaching;
            let oldest = self.bindings.iter().filter(spare).map(|b| b.attachment).min();
            oldest.into_iter().for_each(|oldest| self.detach(oldest, DetachReason::Superseded, None));
        }
        self.bindings.push(binding);
        Some(attachment)
    }

    /// Gives a candidate up, unless it is attached or about to be.
    pub fn withdraw(&mut self, now: Instant, attachment: Attachment) {
        self.tick(now);
        let spare = |b: &Binding| b.candidate && matches!(b.stage, Stage::Greeting | Stage::Introduced);
        if self.binding(attachment).is_some_and(spare) {
            self.detach(attachment, DetachReason::Superseded, None);
        }
    }

    /// Sends a fresh token: now if something carries the session, and in every later `hello`.
    pub fn refresh_auth(&mut self, token: Json) {
        let due = self.was_attached;
        if let Some(client) = &mut self.client {
            client.token = Token { auth: Some(token), due, said: false };
        }
    }

    /// What was said of a token may have been lost.
    pub(super) fn repeat_token(&mut self) {
        self.client.iter_mut().for_each(|client| client.repeat_token());
    }

    pub(super) fn hello(&mut self, attachment: Attachment) -> Option<Hello> {
        let window = self.config.window;
        let Ack { received, taken } = self.tell_on(attachment);
        let candidate = self.binding(attachment)?.candidate;
        let client = self.client.as_mut()?;
        if !candidate {
            // It bears the latest token.
            (client.token.due, client.token.said) = (false, false);
        }
        let (key, auth) = (client.key.clone(), client.token.auth.clone());
        let now = self.now;
        let binding = self.binding_mut(attachment)?;
        binding.begun_at = now;
        let transport = binding.transport;
        Some(Hello {
            version: VERSION,
            session: self.id,
            key,
            epoch: self.epoch,
            attachment,
            transport,
            received,
            taken: (taken != received).then_some(taken),
            window,
            candidate,
            auth,
            client: None,
        })
    }

    pub(super) fn handle_welcome(&mut self, now: Moment, attachment: Attachment, welcome: &Welcome) {
        let Some(binding) = self.binding(attachment) else { return };
        if binding.stage != Stage::Greeting {
            return;
        }
        if welcome.session != self.id || welcome.attachment != attachment {
            return self.detach(attachment, DetachReason::Malformed, None);
        }
        if self.epoch.is_some_and(|held| held != welcome.epoch) {
            // Another life of the session: what this one had is not there.
            let close = Close::new(CloseCode::UnknownSession, "the server has forgotten the session");
            return self.finish(close, EndedBy::Peer);
        }
        let ack = Ack { received: welcome.received, taken: welcome.taken.unwrap_or(welcome.received) };
        if self.take_receipt(ack).is_err() {
            return self.fail("a welcome that acknowledges what was never sent");
        }
        self.outbox.set_window(welcome.window);
        self.inbox.set_max_message(welcome.max_message_bytes);
        self.epoch = Some(welcome.epoch);
        self.max_message = u32::try_from(welcome.max_message_bytes).unwrap_or(u32::MAX);
        if let Some(client) = &mut self.client {
            client.offered.clone_from(&welcome.transports);
        }
        if let Some(expires_ms) = welcome.auth_expires_ms {
            self.post_latest(Event::AuthAccepted { expires_ms });
        }
        self.heartbeat_ms = u32::try_from(welcome.heartbeat_ms).unwrap_or(u32::MAX).clamp(1, 86_400_000);
        self.was_attached = true;
        self.waiting_since = None;
        self.greet(now, attachment, welcome.resumed);
    }

    /// Goes on after a `welcome`: proves the path, and attaches if that is still to be said.
    fn greet(&mut self, now: Moment, attachment: Attachment, resumed: bool) {
        self.measure(attachment);
        let prove_by = later(now, self.answer_time());
        let nothing_carries = self.carrier().is_none();
        let Some(binding) = self.binding_mut(attachment) else { return };
        let transport = binding.transport;
        binding.heard_at = now;
        binding.until = Some(prove_by);
        match transport {
            TransportKind::WebSocket => (binding.proved, binding.until) = (true, None),
            TransportKind::Sse => {
                binding.ping = attachment.value();
                binding.ping_due = true;
            }
            // The first poll's answer proves it.
            TransportKind::LongPolling => {}
        }
        if !binding.candidate {
            binding.stage = Stage::Attached;
            let proved = binding.proved;
            self.events.push_back(Event::Attached { attachment, transport, resumed });
            if proved {
                self.begin_trial(attachment);
                self.events.push_back(Event::Proved { attachment });
            }
            return;
        }
        binding.stage = Stage::Introduced;
        if binding.proved || binding.is_polling() || nothing_carries {
            self.say_attach(now, attachment);
        }
    }

    fn say_attach(&mut self, now: Moment, attachment: Attachment) {
        if self.current.is_some_and(|current| current > attachment) {
            return self.detach(attachment, DetachReason::Superseded, None);
        }
        self.current = Some(attachment);
        let patience = self.answer_time().min(self.slow_enough(self.config.attach_within));
        let until = later(now, patience.max(Duration::from_millis(1)));
        if let Some(binding) = self.binding_mut(attachment) {
            binding.stage = Stage::Attaching;
            // A candidate's silence is not counted before.
            (binding.until, binding.heard_at) = (Some(until), now);
            // On long-polling the first poll says it.
            binding.attach_due = !binding.is_polling();
        }
    }

    pub(super) fn handle_pong(&mut self, now: Moment, attachment: Attachment, via: Via, number: Option<u64>) {
        let latest = |binding: &&Binding| binding.ping > 0 && number == Some(binding.ping);
        if self.binding(attachment).filter(latest).is_none() {
            return;
        }
        if self.role() == Role::Server {
            return self.note_arrival(attachment);
        }
        if via != Via::Carrier {
            return;
        }
        let Some(binding) = self.binding_mut(attachment) else { return };
        let proved = std::mem::replace(&mut binding.proved, true);
        self.measure_ping(attachment);
        if proved {
            return;
        }
        let Some(binding) = self.binding_mut(attachment) else { return };
        match binding.stage {
            Stage::Introduced => self.say_attach(now, attachment),
            Stage::Attached => {
                binding.until = None;
                self.begin_trial(attachment);
                self.events.push_back(Event::Proved { attachment });
            }
            Stage::Greeting | Stage::Attaching => {}
        }
    }

    /// The server has answered `attach`: from here on this one carries.
    pub(super) fn complete_attach(&mut self, attachment: Attachment) {
        let prove_by = later(self.now, self.answer_time());
        let Some(binding) = self.binding_mut(attachment) else { return };
        // A poll that was answered has proved itself; a stream may have been attached in need.
        binding.proved |= binding.is_polling();
        binding.stage = Stage::Attached;
        binding.candidate = false;
        binding.until = (!binding.proved).then_some(prove_by);
        let transport = binding.transport;
        self.fence(attachment);
        self.begin_carrier(attachment);
        // What the old path may have lost since `attach` was said.
        self.inbox.forget_told();
        self.repeat_token();
        let proved = self.binding(attachment).is_some_and(|binding| binding.proved);
        self.events.push_back(Event::Attached { attachment, transport, resumed: true });
        if proved {
            self.begin_trial(attachment);
            self.events.push_back(Event::Proved { attachment });
        }
    }

    /// When no path carries: the best welcomed candidate attaches without waiting for its proof.
    pub(super) fn hurry_candidates(&mut self) {
        let attaching = self.bindings.iter().any(|binding| binding.stage == Stage::Attaching);
        if attaching || self.carrier().is_some() {
            return;
        }
        let welcomed = self.bindings.iter().filter(|binding| binding.stage == Stage::Introduced);
        if let Some(best) = welcomed.map(|binding| binding.attachment).max() {
            self.say_attach(self.now, best);
        }
    }
}
