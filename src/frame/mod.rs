//! What bytes mean: frames, their parts, and both encodings of them.
//!
//! This room owns every parser of the crate. It is pure: no clock, no I/O, no logging, no knowledge of
//! what a session does with a frame. It implements `docs/PROTOCOL.md`, "Frames" and "Encodings".
//!
//! A decoder never panics, never allocates more than its input justifies, and refuses what the protocol
//! does not allow with a [`DecodeError`]. Encoding and decoding again gives the same frame, in both
//! encodings.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod batch;
mod binary;
mod body;
mod close;
mod error;
pub mod event_stream;
mod frame_stream;
mod handshake;
mod identity;
mod json;
mod number;
mod seq;

pub use batch::{Batch, BatchWriter, Encoding, Limits};
pub use body::{Body, Json, JsonError, MAX_JSON_DEPTH};
pub use close::{Close, CloseCode, CloseDetail, CloseParts, InvalidCloseCode, Retry, Scope, Word};
pub use error::DecodeError;
pub use frame_stream::FrameStream;
pub use handshake::{
    Ack, Attach, Hello, Move, Poll, Push, TransportKind, UnknownTransport, VERSION, Welcome, Window,
};
pub use identity::{Epoch, ParseIdentityError, SessionId, SessionKey};
pub use seq::{Attachment, MAX_NUMBER, Seq};

/// The two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that dials.
    Client,
    /// The end that is dialled.
    Server,
}

impl Role {
    /// The other end.
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// It wants no answer.
    Plain,
    /// It wants an answer.
    Request,
    /// It answers the peer's message of this number.
    Reply(Seq),
    /// It says that the peer's message of this number failed. Its body is JSON.
    Failure(Seq),
}

impl MessageKind {
    /// Whether it answers a request of the peer, which makes sense in one session only: numbers begin anew in the next.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Reply(_) | Self::Failure(_))
    }
}

/// A unit that the application sends: numbered, kept until acknowledged, delivered once and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number in its direction, from 1.
    pub seq: Seq,
    /// What it is for.
    pub kind: MessageKind,
    /// What it says.
    pub body: Body,
}

/// One unit of the protocol: a message, or a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// Client: creates a session, attaches to it, or introduces a candidate.
    Hello(Box<Hello>),
    /// Server: the answer to `hello`.
    Welcome(Box<Welcome>),
    /// Client: makes a candidate the carrier.
    Attach(Attach),
    /// Both: a message.
    Message(Message),
    /// Both: a cumulative receipt.
    Ack(Ack),
    /// Both: asks for a `pong` with the same number.
    Ping(Option<u64>),
    /// Both: answers the latest `ping`.
    Pong(Option<u64>),
    /// Client: a fresh token.
    Auth(Json),
    /// Server: the token is accepted; it runs out in so many milliseconds (0: it does not say).
    AuthOk(u64),
    /// Server: asks the client to come back on another transport, or elsewhere.
    Move(Move),
    /// Both: this end closes, takes no more messages, and waits for room to send its own.
    Closing,
    /// Both: the end of the transport or of the session.
    Close(Close),
    /// Client: the only frame of a held request.
    Poll(Box<Poll>),
    /// Client: the first frame of a request that brings frames.
    Push(Box<Push>),
}

impl Frame {
    /// Its tag in JSON.
    pub const fn tag(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Attach(_) => "attach",
            Self::Message(message) => match message.kind {
                MessageKind::Plain => "msg",
                MessageKind::Request => "req",
                MessageKind::Reply(_) => "res",
                MessageKind::Failure(_) => "err",
            },
            Self::Ack(_) => "ack",
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::Auth(_) => "auth",
            Self::AuthOk(_) => "auth_ok",
            Self::Move(_) => "move",
            Self::Closing => "closing",
            Self::Close(_) => "close",
            Self::Poll(_) => "poll",
            Self::Push(_) => "push",
        }
    }

    /// Whether this end may send it.
    pub const fn is_sent_by(&self, role: Role) -> bool {
        match self {
            Self::Hello(_) | Self::Attach(_) | Self::Auth(_) | Self::Poll(_) | Self::Push(_) => {
                matches!(role, Role::Client)
            }
            Self::Welcome(_) | Self::AuthOk(_) | Self::Move(_) => matches!(role, Role::Server),
            Self::Message(_)
            | Self::Ack(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Closing
            | Self::Close(_) => true,
        }
    }
    /// Refuses a frame that the end it came from may not send.
    fn check_sent_by(&self, from: Role) -> Result<(), DecodeError> {
        if self.is_sent_by(from) { Ok(()) } else { Err(DecodeError::WrongDirection { frame: self.tag() }) }
    }
}
