//! What a session tells its driver.

use std::time::Duration;

use crate::frame::{Attachment, Body, Close, Json, Message, MessageKind, Move, Seq, TransportKind};

/// Names a message that a session accepted, in the order of acceptance.
///
/// Not its number: that is given when the message is first put on a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

impl Ticket {
    /// The plain count: 1 for the first message that was accepted.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// What happened to a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A transport carries the session.
    Attached {
        /// Which.
        attachment: Attachment,
        /// Its kind.
        transport: TransportKind,
        /// Whether the session had been attached before. On the server the handler runs when it had not.
        resumed: bool,
    },
    /// A transport was given up: the driver writes it the close, if there is one, and drops it.
    Detached {
        /// Which.
        attachment: Attachment,
        /// Why.
        reason: DetachReason,
        /// What to write to it.
        close: Option<Close>,
        /// What can be learned from it.
        departure: Departure,
    },
    /// What carries the session was proved to carry both ways: on a client as far as the protocol asks; on a server
    /// something has shown that what goes down it arrives.
    Proved {
        /// Which.
        attachment: Attachment,
    },
    /// A message, in order and once. Requests come so too.
    Message(Message),
    /// The answer to a request.
    Reply {
        /// The request.
        ticket: Ticket,
        /// A reply or, as `Err`, the failure that the peer reported.
        answer: Result<Body, Body>,
    },
    /// The peer says that a message failed for which nobody waits for an answer: a plain one, or a request that was
    /// answered already.
    Failed {
        /// The number of the message.
        seq: Seq,
        /// How the peer puts it.
        failure: Body,
    },
    /// Server: the client sent a fresh token; answer with [`super::Session::accept_auth`] or a close.
    Auth(Json),
    /// Client: the server took the token, which runs out in so many milliseconds (0: it does not say).
    AuthAccepted {
        /// From now.
        expires_ms: u64,
    },
    /// Client: the server asks to come back on another transport, or elsewhere.
    MoveAsked(Move),
    /// The session ended. Nothing comes after.
    Ended(Ended),
}

/// How things stood when a transport was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Departure {
    /// How long nothing had come by it.
    pub quiet: Duration,
    /// Client, not on long-polling: how long nothing had come when the first thing was said, or due from the server, that
    /// nothing answered any more; none if something had come behind a longer silence before.
    pub idle: Option<Duration>,
    /// Client, long-polling: how old the open poll was.
    pub polling: Option<Duration>,
    /// Client: whether it brought the session on, as [`super::Session::is_fruitful`] says.
    pub fruitful: bool,
    /// Whether own messages waited to be acknowledged.
    pub owing: bool,
}

/// Why a transport was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DetachReason {
    /// It ended, or its driver dropped it.
    Ended,
    /// A higher attachment took over.
    Superseded,
    /// Messages were missing on it.
    Gap,
    /// Nothing was heard on it in time.
    Silent,
    /// No `welcome` came in time.
    NoWelcome,
    /// It could not be proved in time that it carries both ways.
    Unproved,
    /// What was pushed beside it was not answered, several times over; or, on a WebSocket, what was said up it, though
    /// much came down.
    UplinkLost,
    /// What came on it was not of the protocol.
    Malformed,
    /// The peer closed it.
    Closed(Close),
}

/// The end of a session.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Why.
    pub close: Close,
    /// Who ended it.
    pub by: EndedBy,
    /// Messages that this end accepted and the peer did not acknowledge, oldest first.
    pub undelivered: Vec<Undelivered>,
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndedBy {
    /// This end, and the peer has answered, or need not.
    Local,
    /// The peer.
    Peer,
    /// Time: the peer did not come, come back, or answer.
    Timeout,
}

/// A message that was accepted and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Its ticket.
    pub ticket: Ticket,
    /// Its number, if it was ever put on a transport: its fate is unknown then. Without one it was certainly
    /// not delivered.
    pub seq: Option<Seq>,
    /// What it was for.
    pub kind: MessageKind,
    /// What it said.
    pub body: Body,
}

impl Undelivered {
    /// A message that no session accepted in time: it bears the ticket 0.
    pub fn unsent(kind: MessageKind, body: Body) -> Self {
        Self { ticket: Ticket(0), seq: None, kind, body }
    }

    /// Whether the peer may have received it.
    pub fn is_unknown(&self) -> bool {
        self.seq.is_some()
    }
}

impl DetachReason {
    /// The reason in a word, for logs and histories; of a close its code.
    pub fn code(&self) -> &str {
        match self {
            Self::Ended => "ended",
            Self::Superseded => "superseded",
            Self::Gap => "gap",
            Self::Silent => "silent",
            Self::NoWelcome => "no_welcome",
            Self::Unproved => "unproved",
            Self::UplinkLost => "uplink_lost",
            Self::Malformed => "malformed",
            Self::Closed(close) => close.code.as_str(),
        }
    }
}

impl std::fmt::Display for DetachReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Ended => "the transport ended",
            Self::Superseded => "a newer attachment took over",
            Self::Gap => "messages were missing",
            Self::Silent => "nothing was heard in time",
            Self::NoWelcome => "no welcome came in time",
            Self::Unproved => "the path was not proved in time",
            Self::UplinkLost => "what was said was not answered",
            Self::Malformed => "what came was not of the protocol",
            Self::Closed(close) => return close.fmt(f),
        };
        f.write_str(text)
    }
}
