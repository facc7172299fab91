//! One attachment's transport as the session sees it: how far its greeting is, and what it owes.

use std::time::Duration;

use crate::frame::{Attachment, Frame, Role, TransportKind};

use super::{Moment, later};

/// A stream whose client has not been heard of is pinged after so long, then after such pauses, for so long in all: its
/// client may have given it up, and some boxes on the way notice that only when something is to be passed on.
const FIRST_KNOCK: Duration = Duration::from_secs(2);
const KNOCK: Duration = Duration::from_secs(1);
const KNOCKS_FOR: Duration = Duration::from_secs(15);

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Client: `hello` was not answered yet.
    Greeting,
    /// A candidate that was welcomed.
    Introduced,
    /// Client: `attach` was said and not answered yet.
    Attaching,
    /// It carries the session, or has a higher one to give way to.
    Attached,
}

/// What each turn of a driver asks of it stands first, in 64 bytes.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Binding {
    pub(super) attachment: Attachment,
    /// When the stage must have been left, or (client) the path have been proved.
    pub(super) until: Option<Moment>,
    /// When something last proved that the path lives.
    pub(super) heard_at: Moment,
    /// Server: when to ping next; none where polls are the heartbeat.
    pub(super) ping_at: Option<Moment>,
    /// Server, long-polling: when the open poll is answered, frames or not. Client: when the next may go.
    pub(super) poll_at: Option<Moment>,
    pub(super) transport: TransportKind,
    pub(super) stage: Stage,
    /// Whether its `hello` only introduced it.
    pub(super) candidate: bool,
    pub(super) ping_due: bool,
    pub(super) pong_due: bool,
    /// (client) Whether the latest pong was said: a push that is lost says it again.
    pub(super) pong_said: bool,
    /// Client: `hello` is to be said. Server: `welcome`, and whether it says `resumed`.
    pub(super) greeting_due: Option<bool>,
    /// Client: `attach` is to be said.
    pub(super) attach_due: bool,
    /// A receipt goes even if the peer knows it: the answer to `attach`, or the end of a hold.
    pub(super) ack_due: bool,
    /// `closing` was said.
    pub(super) closing_said: bool,
    /// `close` was said.
    pub(super) close_said: bool,
    /// Server, long-polling: whether a request is open to be answered. Client: whether a poll is open.
    pub(super) poll_open: bool,
    /// Client, long-polling: whether the open poll has brought anything besides receipts that were known.
    pub(super) poll_fruitful: bool,
    /// Whether the path was proved to carry both ways.
    pub(super) proved: bool,
    /// Client: what was acknowledged when the latest push began to be judged, pushes in a row without progress
    /// or answer, and until when messages wait.
    pub(super) push: PushState,
    /// The number of the latest ping.
    pub(super) ping: u64,
    /// The latest ping that came.
    pub(super) pong: Option<u64>,
    /// Server: the latest ping that was answered.
    pub(super) ponged: u64,
    /// When what is open now was begun. Client: its `hello` or poll. Server: the attachment.
    pub(super) begun_at: Moment,
    /// Server: whether anything has come by a push of a stream's, which shows that its client has the `welcome`.
    pub(super) heard_of: bool,
    /// Server: what had come, when this was asked last, of a frame that is not whole.
    pub(super) partial: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct PushState {
    pub(super) retry_at: Option<Moment>,
    pub(super) acked: u64,
    pub(super) fruitless: u32,
    pub(super) unanswered: u32,
}

impl Binding {
    pub(super) fn new(attachment: Attachment, transport: TransportKind, stage: Stage, now: Moment) -> Self {
        Self {
            attachment,
            transport,
            stage,
            candidate: false,
            until: None,
            heard_at: now,
            ping_at: None,
            ping: 0,
            ping_due: false,
            pong: None,
            pong_due: false,
            pong_said: false,
            ponged: 0,
            greeting_due: None,
            attach_due: false,
            ack_due: false,
            closing_said: false,
            close_said: false,
            poll_open: false,
            poll_at: None,
            begun_at: now,
            poll_fruitful: false,
            proved: false,
            push: PushState::default(),
            heard_of: false,
            partial: 0,
        }
    }

    /// Server: a frame on a WebSocket is on its way, which a client that has gone would not send.
    pub(super) fn note_partial(&mut self, now: Moment, count: u64) {
        let moved = std::mem::replace(&mut self.partial, count) != count;
        if moved && count > 0 && self.transport == TransportKind::WebSocket {
            self.heard_at = now;
        }
    }

    /// Server: notes a frame that came beside a stream. Messages may have come behind `hello`: they show nothing.
    pub(super) fn note_beside(&mut self, frame: &Frame, now: Moment, heartbeat: Duration) {
        let answers = matches!(frame, Frame::Ping(_) | Frame::Pong(_) | Frame::Attach(_));
        if answers && !self.heard_of && self.transport == TransportKind::Sse {
            self.heard_of = true;
            self.ping_at = (self.stage == Stage::Attached).then(|| later(now, heartbeat));
        }
    }

    /// Server: when to ping the first time.
    pub(super) fn first_ping(&self, now: Moment, heartbeat: Duration) -> Option<Moment> {
        match (self.transport, self.stage) {
            (TransportKind::Sse, _) if !self.heard_of => Some(later(now, FIRST_KNOCK.min(heartbeat))),
            (TransportKind::LongPolling, _) | (_, Stage::Introduced) => None,
            _ => Some(later(now, heartbeat)),
        }
    }

    /// Server: when to ping again.
    pub(super) fn next_ping(&self, now: Moment, heartbeat: Duration) -> Option<Moment> {
        let unheard_of = self.transport == TransportKind::Sse && !self.heard_of;
        if unheard_of && now.since(self.begun_at) < KNOCKS_FOR {
            return Some(later(now, KNOCK.min(heartbeat)));
        }
        (self.stage == Stage::Attached).then(|| later(now, heartbeat))
    }

    pub(super) fn is_polling(&self) -> bool {
        self.transport == TransportKind::LongPolling
    }

    /// Whether a frame is the pong to the latest ping, for the first time.
    pub(super) fn is_answered_by(&mut self, frame: &Frame) -> bool {
        let answers =
            matches!(frame, Frame::Pong(Some(number)) if *number == self.ping && *number > self.ponged);
        if answers {
            self.ponged = self.ping;
        }
        answers
    }

    /// Whether a frame may be put on it now, as far as polls go.
    pub(super) fn is_writable(&self, role: Role) -> bool {
        role == Role::Client || !self.is_polling() || self.poll_open
    }

    /// Whether it is attached, writable, and owes no control frame.
    pub(super) fn has_clear_way(&self, role: Role) -> bool {
        self.stage == Stage::Attached
            && self.is_writable(role)
            && self.greeting_due.is_none()
            && self.push.retry_at.is_none()
            && !(self.attach_due || self.ping_due || self.pong_due || self.ack_due)
    }

    /// When it is given up unless something is heard; none while something else sets the time.
    pub(super) fn silent_at(&self, role: Role, patience: Duration) -> Option<Moment> {
        match (role, self.stage) {
            (Role::Server, Stage::Introduced) | (Role::Client, Stage::Greeting | Stage::Introduced) => None,
            (Role::Server, _) if self.is_polling() && self.poll_open => None,
            _ => Some(later(self.heard_at, patience)),
        }
    }
}
