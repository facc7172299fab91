//! The session as a state machine without I/O: what may be said when, and what happens when not.
//!
//! This room owns every rule of the protocol that outlives a frame: numbers, receipts, windows, replay,
//! attachments and candidates, liveness, closing. It must not know what a transport is made of, and it never
//! reads a clock, a random source or the environment. It implements `docs/PROTOCOL.md`, "Sessions".
//!
//! A driver feeds it (`handle_*`, commands) and drains it (`poll_*`):
//!
//! 1. bind a transport to an attachment: on a client by [`Session::introduce`], on a server by
//!    [`Session::handle_hello`] or [`Session::handle_poll`];
//! 2. hand over what the transports bring: [`Session::handle_frame`], [`Session::handle_push_ended`],
//!    [`Session::handle_poll_ended`], [`Session::handle_detach`];
//! 3. write what [`Session::poll_transmit`] lends for each transport that is ready;
//! 4. act on [`Session::poll_event`];
//! 5. call [`Session::handle_timeout`] when [`Session::poll_timeout`] has passed.

mod binding;
mod client;
mod config;
mod event;
mod inbox;
mod moment;
mod outbox;
mod path;
mod progress;
mod receive;
mod server;
mod silence;
#[cfg(test)]
mod tests;
mod timing;
mod transmit;
mod trial;
mod uplink;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frame::{
    Ack, Attachment, Body, Close, CloseCode, DecodeError, Epoch, Frame, MessageKind, Move, Role, Seq,
    SessionId, TransportKind,
};

use binding::{Binding, Stage};
use inbox::Inbox;
use outbox::Outbox;

use client::ClientSide;
pub use client::Intent;
pub use config::{Config, InvalidConfig, Receipts};
pub use event::{Departure, DetachReason, Ended, EndedBy, Event, Ticket, Undelivered};
use moment::{Moment, later};
pub use path::Lesson;
use server::Grant;
pub use server::{Greeting, Return};

/// By which way a frame came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The transport itself: the path by which it is judged alive.
    Carrier,
    /// A `push` request beside it, or the answer to one.
    Push,
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is closing or has ended.
    #[error("the session is closed")]
    Closed,
    /// The send buffer is full: its messages wait for the peer.
    #[error("the send buffer is full")]
    Full,
    /// The body is larger than messages may be.
    #[error("the message is larger than {limit} bytes")]
    TooLarge {
        /// What they may be.
        limit: u64,
    },
    /// As many requests as are allowed wait for their answers.
    #[error("too many requests wait for an answer")]
    TooManyRequests,
    /// It answers a message that the peer never sent in this session.
    #[error("the peer never asked")]
    NeverAsked,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// `close` was called: what was accepted is still delivered, then the close is said, until answered.
    Closing {
        close: Close,
        until: Moment,
        /// A message of the peer was not taken any more: if it closes too, it waits for a receipt in vain.
        refused: bool,
    },
    /// Over. The close is said on each transport that still comes.
    Ended {
        close: Close,
        at: Moment,
    },
}

/// One end of a session: a sans-IO state machine, the same type for both roles.
///
/// # Invariants
///
/// 1. Numbers count 1, 2, 3, … per direction and are never used again, however often transports change.
/// 2. What [`Session::send`] accepted is acknowledged, still held, or reported in [`Ended::undelivered`].
/// 3. Messages are delivered in order and once.
/// 4. Memory stays within the [`Config`] whatever the peer does.
/// 5. After [`Session::close`] nothing new is accepted; what was accepted before is delivered or reported.
/// 6. Any order of calls is legal. What is not drained waits; an earlier `now` counts as the latest seen.
/// 7. There is no clock, randomness or environment inside.
///
/// After `handle_timeout(now)`, `poll_timeout()` is later than `now` or `None`.
#[derive(Debug)]
// What every turn of a driver touches stands together: most sessions have left the cache when they are told something.
#[repr(C)]
pub struct Session {
    config: Arc<Config>,
    /// What only a client keeps: it makes this one.
    client: Option<Box<ClientSide>>,
    /// The latest time seen.
    now: Moment,
    began: Instant,
    /// The live attachments: one that carries or did, and candidates.
    bindings: Vec<Binding>,
    phase: Phase,
    events: VecDeque<Event>,
    /// Server: what is known of the client's token, if it matters.
    grant: Option<Box<Grant>>,
    move_due: Option<Box<Move>>,
    /// Server: since when nothing carries it. Client: since when a `hello` with messages is unanswered.
    waiting_since: Option<Moment>,
    /// At least 1, and no more than a day.
    heartbeat_ms: u32,
    /// The largest message that the peer takes.
    max_message: u32,
    /// Until how many seconds behind its begin nothing is judged, because a deadline was seen late.
    reprieved_s: u32,
    /// Whether a transport ever carried it (server), or a `welcome` ever came (client).
    was_attached: bool,
    /// The peer closes, and takes no more messages.
    peer_closes: bool,
    /// How many carriers in a row ended without progress while own messages waited.
    fruitless: u8,
    /// Whether a message was received or acknowledged since the latest attachment.
    progressed: bool,
    outbox: Outbox,
    inbox: Inbox,
    // From here on what is rarely touched.
    id: SessionId,
    /// The highest attachment that was attached (server), or that was attached or tried to be (client).
    current: Option<Attachment>,
    /// Requests without an answer yet, by number.
    requests: BTreeMap<Seq, Ticket>,
    /// The control frame that was lent last.
    lent: Option<Frame>,
    epoch: Option<Epoch>,
    /// Server: what the `welcome` of the current attachment says of it; a repeated `hello` gets the same.
    resumed: bool,
    /// How often what a careful end may put on this carrier without a receipt has doubled.
    doubled: u8,
    /// Requests accepted and without an answer yet, numbered or not.
    open_requests: u32,
}

impl Session {
    fn new(config: Arc<Config>, id: SessionId, now: Instant) -> Self {
        let max_message = config.limits.max_message_bytes as u64;
        Self {
            id,
            client: None,
            epoch: None,
            began: now,
            now: Moment::BEGIN,
            reprieved_s: 0,
            bindings: Vec::with_capacity(1),
            current: None,
            outbox: Outbox::new(config.early_window),
            inbox: Inbox::new(config.window, max_message),
            requests: BTreeMap::new(),
            open_requests: 0,
            phase: Phase::Open,
            was_attached: false,
            resumed: false,
            waiting_since: None,
            heartbeat_ms: u32::try_from(config.heartbeat.as_millis()).unwrap_or(u32::MAX).max(1),
            max_message: u32::try_from(max_message).unwrap_or(u32::MAX),
            grant: None,
            move_due: None,
            peer_closes: false,
            progressed: false,
            fruitless: 0,
            doubled: 0,
            events: VecDeque::with_capacity(1),
            lent: None,
            config,
        }
    }

    /// What it was configured with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        if self.client.is_some() { Role::Client } else { Role::Server }
    }

    /// The public id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The life of the session; `None` on a client before its first `welcome`.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The attachment that carries messages now, if there is one.
    pub fn attachment(&self) -> Option<Attachment> {
        self.carrier().map(|carrier| carrier.attachment)
    }

    /// Client: whether a transport has been told to take over and has not answered yet.
    pub fn is_moving(&self) -> bool {
        self.bindings.iter().any(|binding| binding.stage == Stage::Attaching)
    }

    /// What was received in order, and how much of it the application has taken.
    pub fn receipt(&self) -> Ack {
        self.inbox.receipt()
    }

    /// The highest own message that the peer has acknowledged.
    pub fn acked(&self) -> Seq {
        self.outbox.acked()
    }

    /// The latest accepted message that the peer has acknowledged, as all before it.
    pub fn acked_ticket(&self) -> Ticket {
        self.outbox.acked_ticket()
    }

    /// How many messages are held, and their bytes: accepted, not acknowledged.
    pub fn held(&self) -> (usize, u64) {
        (self.outbox.len(), self.outbox.bytes())
    }

    /// Whether it accepts messages.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// How it ended.
    pub fn end(&self) -> Option<&Close> {
        match &self.phase {
            Phase::Ended { close, .. } => Some(close),
            _ => None,
        }
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Ended { at, .. } => at.instant(self.began),
            _ => None,
        }
    }

    /// Whether the peer, as far as it knows, may have to hold back until it hears what was taken here: then each
    /// [`Session::acknowledge`] matters to it.
    pub fn is_pressing(&self) -> bool {
        self.inbox.is_pressing()
    }

    /// The largest message that the peer takes, in bytes of its body.
    pub fn max_message_bytes(&self) -> u64 {
        u64::from(self.max_message)
    }

    /// Client: the transports that the server offers, best first; none before its first `welcome`.
    pub fn offered(&self) -> &[TransportKind] {
        self.client.as_ref().map_or(&[], |client| &client.offered)
    }

    /// Accepts a message: from here on it is delivered once and in order, or reported.
    ///
    /// # Errors
    /// When the session is closed, the send buffer is full, the message too large, or an answer to what the peer never
    /// sent.
    pub fn send(&mut self, kind: MessageKind, body: Body) -> Result<Ticket, SendError> {
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        if let MessageKind::Reply(to) | MessageKind::Failure(to) = kind {
            // The request of a session before, say: the peer would end this one for it.
            if to > self.inbox.receipt().received {
                return Err(SendError::NeverAsked);
            }
        }
        let size = body.len() as u64;
        if size > self.max_message_bytes() {
            return Err(SendError::TooLarge { limit: self.max_message_bytes() });
        }
        if self.config.receipts == Receipts::Absent {
            let ticket = self.outbox.push(kind, body);
            self.outbox.number_newest();
            self.outbox.drop_oldest(self.config.send_buffer);
            return Ok(ticket);
        }
        if !self.outbox.fits(size, self.config.send_buffer) {
            return Err(SendError::Full);
        }
        if kind == MessageKind::Request {
            if self.open_requests as usize >= self.config.max_requests {
                return Err(SendError::TooManyRequests);
            }
            self.open_requests += 1;
        }
        Ok(self.outbox.push(kind, body))
    }

    /// Notes that somebody waits for the receipt of a message: the peer is asked for it once it was sent.
    pub fn await_receipt(&mut self, ticket: Ticket) {
        self.outbox.await_receipt(ticket);
    }

    /// Ends the session in order: what was accepted is delivered first, then the close is said and repeated
    /// until the peer answers it, for at most the close timeout.
    pub fn close(&mut self, now: Instant, close: Close) {
        let now = self.tick(now);
        if !self.is_open() {
            return;
        }
        if self.role() == Role::Client && !self.was_attached && self.bindings.is_empty() {
            return self.finish(close, EndedBy::Local);
        }
        if self.config.receipts == Receipts::Absent && self.outbox.is_handed_over() {
            return self.finish(close, EndedBy::Local);
        }
        let until = later(now, self.config.close_timeout);
        self.phase = Phase::Closing { close, until, refused: false };
    }

    /// Ends the session at once: the close is said, its answer not awaited, what is not acknowledged reported.
    pub fn abort(&mut self, now: Instant, close: Close) {
        self.tick(now);
        self.finish(close, EndedBy::Local);
    }

    /// Counts messages as taken by the application, in the order of their [`Event::Message`].
    pub fn acknowledge(&mut self, now: Instant, count: u64) {
        let now = self.tick(now);
        self.inbox.take(count);
        self.inbox.arm(now, self.config.ack_delays(self.id));
    }

    /// The receipt as the answer to a push of an attachment.
    ///
    /// On the attachment that carries, what was received counts as told: a client that misses the answer pushes
    /// again. What was taken does not, and neither does anything on others: a late or repeated push may be answered
    /// to nobody, and then a client that waits for room would wait for ever.
    pub fn push_answer(&mut self, attachment: Attachment) -> Ack {
        if self.is_carrier(attachment) {
            self.inbox.tell_received();
            self.inbox.arm(self.now, self.config.ack_delays(self.id));
        }
        self.inbox.receipt()
    }

    /// Takes a frame that a transport brought.
    ///
    /// On a server a frame of an attachment that is no longer bound is judged by itself: its messages, receipts and
    /// close count, all else is ignored. On a client it is ignored altogether: before its first `welcome` a client
    /// cannot tell which life of the session speaks there. What breaks the protocol ends the session with
    /// `protocol_error`.
    pub fn handle_frame(&mut self, now: Instant, attachment: Attachment, via: Via, frame: Frame) {
        let now = self.tick(now);
        if self.is_ended() {
            return self.handle_late_frame(attachment, &frame);
        }
        if self.role() == Role::Client && self.binding(attachment).is_none() {
            return;
        }
        if !frame.is_sent_by(self.role().peer()) {
            return self.fail("a frame that only this side may send");
        }
        if !self.note_heard(attachment, via, &frame) {
            return;
        }
        match frame {
            Frame::Message(message) => self.handle_message(attachment, via, message),
            Frame::Ack(ack) => self.handle_ack(attachment, via, ack),
            Frame::Close(close) => self.handle_close(attachment, close),
            frame if self.binding(attachment).is_some() => self.handle_control(now, attachment, via, frame),
            _ => {}
        }
        self.inbox.arm(now, self.config.ack_delays(self.id));
    }

    /// Notes that an attachment brought what is not of the protocol.
    ///
    /// A client gives the transport up, for a middlebox may have answered. A server ends the session.
    pub fn handle_malformed(&mut self, now: Instant, attachment: Attachment, error: &DecodeError) {
        self.tick(now);
        match self.role() {
            Role::Client => self.detach(attachment, DetachReason::Malformed, None),
            Role::Server => self.finish(error.close(), EndedBy::Local),
        }
    }

    /// Notes that an attachment's transport has ended, in whatever way.
    ///
    /// On a server a long-polling transport is one answer: its end detaches nothing before its time.
    pub fn handle_detach(&mut self, now: Instant, attachment: Attachment) {
        let now = self.tick(now);
        let role = self.role();
        match self.binding_mut(attachment) {
            Some(binding) if role == Role::Server && binding.is_polling() => {
                if binding.poll_open {
                    (binding.poll_open, binding.poll_at, binding.heard_at) = (false, None, now);
                }
            }
            _ => self.detach(attachment, DetachReason::Ended, None),
        }
    }

    /// How large the message is that goes next, as soon as one may; 0 if there is none.
    pub fn next_size(&self) -> u64 {
        self.outbox.next_size()
    }

    /// Lends the next frame for an attachment's transport, if there is one to write now.
    pub fn poll_transmit(&mut self, attachment: Attachment) -> Option<&Frame> {
        self.transmit(attachment)
    }

    /// Lends the `poll` that may go now on a client's long-polling attachment. It is the one frame that need not
    /// wait for a `push` in flight; where nothing holds frames back, [`Session::poll_transmit`] lends it too.
    pub fn poll_request(&mut self, attachment: Attachment) -> Option<&Frame> {
        let request = self.due_request(attachment);
        self.lend(request)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Gives spare memory back: for a session that is idle.
    pub fn shrink(&mut self) {
        self.outbox.shrink();
        self.inbox.shrink();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        self.lent = None;
    }

    // What both roles share.

    /// How often the server pings.
    fn heartbeat(&self) -> Duration {
        Duration::from_millis(u64::from(self.heartbeat_ms))
    }

    /// Time never goes back.
    fn tick(&mut self, now: Instant) -> Moment {
        self.now = self.now.max(Moment::new(self.began, now));
        self.now
    }

    fn binding(&self, attachment: Attachment) -> Option<&Binding> {
        self.bindings.iter().find(|binding| binding.attachment == attachment)
    }

    fn binding_mut(&mut self, attachment: Attachment) -> Option<&mut Binding> {
        self.bindings.iter_mut().find(|binding| binding.attachment == attachment)
    }

    /// The binding that carries messages: on a client also one whose `hello` attaches and is not answered yet.
    fn carrier(&self) -> Option<&Binding> {
        let carries = |binding: &&Binding| {
            binding.stage == Stage::Attached || (binding.stage == Stage::Greeting && !binding.candidate)
        };
        self.bindings.iter().filter(carries).max_by_key(|binding| binding.attachment)
    }

    fn is_carrier(&self, attachment: Attachment) -> bool {
        self.carrier().is_some_and(|carrier| carrier.attachment == attachment)
    }

    /// Gives an attachment up.
    fn detach(&mut self, attachment: Attachment, reason: DetachReason, close: Option<Close>) {
        let Some(at) = self.bindings.iter().position(|binding| binding.attachment == attachment) else {
            return;
        };
        let carried = self.is_carrier(attachment);
        let binding = self.bindings.swap_remove(at);
        if self.is_ended() {
            return;
        }
        let departure = self.depart(&binding, carried);
        self.events.push_back(Event::Detached { attachment, reason, close, departure });
        match self.role() {
            Role::Server if carried => self.waiting_since = Some(self.now),
            Role::Server => {}
            Role::Client => self.hurry_candidates(),
        }
    }

    /// Gives all attachments below one up.
    fn fence(&mut self, winner: Attachment) {
        while let Some(lower) = self.bindings.iter().map(|b| b.attachment).find(|number| *number < winner) {
            let close = (self.role() == Role::Server).then(|| Close::superseded(winner));
            self.detach(lower, DetachReason::Superseded, close);
        }
    }

    /// Ends the session because the peer broke the protocol.
    fn fail(&mut self, reason: &'static str) {
        self.finish(Close::new(CloseCode::ProtocolError, reason), EndedBy::Local);
    }

    fn finish(&mut self, mut close: Close, by: EndedBy) {
        if self.is_ended() {
            return;
        }
        close.detail.received = Some(self.inbox.receipt().received);
        self.phase = Phase::Ended { close: close.clone(), at: self.now };
        self.requests.clear();
        self.open_requests = 0;
        let undelivered = self.outbox.drain();
        self.bindings.iter_mut().for_each(|binding| binding.close_said = false);
        self.events.push_back(Event::Ended(Ended { close, by, undelivered }));
    }
}
