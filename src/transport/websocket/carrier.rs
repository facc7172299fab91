//! WebSocket messages over a byte stream: what the framed and the plain WebSocket have in common.
//!
//! It owns what both ends of a WebSocket share: sizes, the phases of its end, what errors mean. A server's end is
//! `accepted`, of our own making; a client's is `dialled`, on tungstenite. It knows no frames of the protocol.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use super::accepted::Accepted;
use super::dialled::Dialled;
use crate::frame::{CloseCode, DecodeError, JsonError};
use crate::transport::TransportError;

/// The largest fragment sent: both ends keep a buffer of about this size after a large message, and none larger.
/// It is a little more than 16 KiB so that a body of just that size, with what is around it, needs no second one.
pub(super) const FRAGMENT: usize = 17 << 10;

/// Up to here what is fed waits for the flush, so that a batch of one fragment leaves in one write.
pub(super) const WRITE: usize = FRAGMENT;

/// How many WebSocket messages without use for us (pings, empty ones) one poll takes before it yields.
pub(in crate::transport) const IDLE_MESSAGES: usize = 32;

/// The room that a batch leaves for its header.
pub(super) use super::accepted::HEADER;

/// A message that came.
pub(in crate::transport) enum Incoming {
    /// A text message; it is UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// The answer to a ping.
    Pong(Bytes),
}

/// Where the closing handshake stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Our close is fed.
    Closing,
    /// Our close has left; the peer's is awaited.
    Lingering,
    /// Closed in order.
    Closed,
    /// Over.
    Failed,
}

/// How many bytes may be read without a message coming of them, headers included.
pub(super) fn pieces_bound(max_message: usize) -> usize {
    // A sixteenth is what headers cost in fragments of 224 bytes: nobody cuts finer. The rest is for one
    // block read ahead and for whoever cuts a small message into many pieces.
    max_message.saturating_add(max_message / 16).saturating_add(32 << 10)
}

pub(super) fn too_large(max_message: usize) -> TransportError {
    DecodeError::TooLarge { what: "WebSocket message", limit: max_message }.into()
}

/// What the WebSocket's own close says (`docs/PROTOCOL.md`, "Close codes").
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell<'a> {
    pub(super) number: u16,
    pub(super) reason: &'a str,
}

impl<'a> Farewell<'a> {
    fn of(code: Option<&'a CloseCode>) -> Self {
        match code {
            Some(code) => Self { number: code.http_status().saturating_add(4000), reason: code.as_str() },
            None => Self { number: 1000, reason: "" },
        }
    }
}

pub(super) fn not_utf8() -> TransportError {
    let error = serde::de::Error::custom("text message is not UTF-8");
    DecodeError::Json(JsonError::Malformed(error)).into()
}

/// One end of a WebSocket.
#[expect(
    clippy::large_enum_variant,
    reason = "a server has many of the large variant, and boxes the whole already"
)]
pub(in crate::transport) enum Carrier<S> {
    Accepted(Accepted<S>),
    /// A process has few of them, and they are large.
    Dialled(Box<Dialled<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier<S> {
    /// Takes over the server's end of a stream on which the opening handshake is done.
    pub(in crate::transport) fn accept(io: S, max_message: usize) -> Self {
        Self::Accepted(Accepted::new(io, max_message))
    }

    /// Takes over the client's end.
    pub(in crate::transport) async fn open(io: S, max_message: usize) -> Self {
        Self::Dialled(Box::new(Dialled::open(io, max_message).await))
    }

    /// Makes the opening handshake of a client.
    pub(in crate::transport) async fn dial(
        io: S,
        request: http::Request<()>,
        max_message: usize,
    ) -> Result<(Self, Response), tungstenite::Error> {
        let (dialled, response) = Dialled::dial(io, request, max_message).await?;
        Ok((Self::Dialled(Box::new(dialled)), response))
    }

    /// Gives spare memory back: a server's end, of which there are many. A client keeps what its largest fragment took.
    pub(in crate::transport) fn shrink(&mut self) {
        if let Self::Accepted(end) = self {
            end.shrink();
        }
    }

    /// Receives a message. Pings are answered within, and a close by the peer is the end.
    #[inline]
    pub(in crate::transport) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Incoming, TransportError>> {
        match self {
            Self::Accepted(end) => end.poll_message(cx),
            Self::Dialled(end) => end.poll_message(cx),
        }
    }

    /// How many bytes have come of a message that is not whole.
    pub(super) fn unfinished(&self) -> usize {
        match self {
            Self::Accepted(end) => end.unfinished(),
            Self::Dialled(end) => end.unfinished(),
        }
    }

    /// Reads no more: what came is not what it should be.
    pub(in crate::transport) fn refuse(&mut self) {
        match self {
            Self::Accepted(end) => end.refuse(),
            Self::Dialled(end) => end.refuse(),
        }
    }

    /// Whether a message of so many bytes may go by [`Carrier::write_whole`] now.
    #[inline]
    pub(in crate::transport) fn takes_whole(&self, bytes: usize) -> bool {
        match self {
            Self::Accepted(end) => end.takes_whole(bytes),
            Self::Dialled(_) => false,
        }
    }

    /// Writes a message that stands behind [`HEADER`] bytes of room, where that is possible. It leaves with the flush.
    #[inline]
    pub(in crate::transport) fn write_whole(
        &mut self,
        cx: &mut Context<'_>,
        kind: Data,
        framed: &mut [u8],
    ) -> Result<(), TransportError> {
        match self {
            Self::Accepted(end) => end.write_whole(cx, kind, framed),
            Self::Dialled(_) => Err(TransportError::Ended),
        }
    }

    /// Waits until [`Carrier::feed`] may be called.
    #[inline]
    pub(in crate::transport) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        match self {
            Self::Accepted(end) => end.poll_room(cx),
            Self::Dialled(end) => end.poll_room(cx),
        }
    }

    /// Begins a message. After [`Carrier::poll_room`] only.
    ///
    /// It does not check that text is UTF-8: what is sent was checked where it entered the process.
    #[inline]
    pub(in crate::transport) fn feed(&mut self, kind: Data, payload: Bytes) {
        match self {
            Self::Accepted(end) => end.feed(kind, payload),
            Self::Dialled(end) => end.feed(kind, payload),
        }
    }

    /// Feeds a ping. After [`Carrier::poll_room`] only.
    pub(in crate::transport) fn feed_ping(&mut self, payload: Bytes) {
        match self {
            Self::Accepted(end) => end.feed_ping(&payload),
            Self::Dialled(end) => end.feed_ping(payload),
        }
    }

    /// Writes all that was fed.
    #[inline]
    pub(in crate::transport) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        match self {
            Self::Accepted(end) => end.poll_flush(cx),
            Self::Dialled(end) => end.poll_flush(cx),
        }
    }

    /// Writes all that was fed, says close, and waits until the peer has said it too or is gone: bound that wait.
    pub(in crate::transport) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        code: Option<&CloseCode>,
    ) -> Poll<Result<(), TransportError>> {
        let close = Farewell::of(code);
        match self {
            Self::Accepted(end) => end.poll_close(cx, close),
            Self::Dialled(end) => end.poll_close(cx, close),
        }
    }

    #[inline]
    pub(in crate::transport) fn check_open(&self) -> Result<(), TransportError> {
        match self {
            Self::Accepted(end) => end.check_open(),
            Self::Dialled(end) => end.check_open(),
        }
    }

    #[cfg(test)]
    pub(super) fn accepted(&self) -> &Accepted<S> {
        match self {
            Self::Accepted(end) => end,
            Self::Dialled(_) => panic!("a client's end"),
        }
    }

    #[cfg(test)]
    pub(super) fn dialled(&self) -> &Dialled<S> {
        match self {
            Self::Accepted(_) => panic!("a server's end"),
            Self::Dialled(end) => end,
        }
    }
}

impl<S> fmt::Debug for Carrier<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(end) => end.fmt(f),
            Self::Dialled(end) => end.fmt(f),
        }
    }
}
