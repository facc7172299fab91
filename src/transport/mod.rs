//! One live carrier of frames, whatever it is.
//!
//! This room owns the [`Transport`] trait and its implementations. It knows frames, not sessions: no
//! rule of the protocol lives here. It implements `docs/PROTOCOL.md`, "Transports".

mod adapter;
mod exchange;
pub mod media;
mod outbox;
mod path_notes;
mod pipe;
mod plain;
mod plain_events;
mod polling;
mod push;
mod response;
mod streaming;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod websocket;

use std::task::{Context, Poll, Waker};

pub use self::adapter::{Adapted, Reader, Writer};
pub use self::exchange::{BoxError, Endpoint, Exchange, ExchangeBody};
#[cfg(feature = "client")]
pub(crate) use self::exchange::{not_ours, pause_before_repeat, session_uri};
pub use self::path_notes::PathNotes;
pub use self::pipe::{Pipe, pipe};
pub use self::plain::PlainWebSocket;
pub use self::plain_events::PlainEvents;
pub use self::polling::Polling;
pub use self::response::{
    Extent, Form, ResponseBody, ResponseHead, ResponseStart, ResponseTransport, response,
};
pub use self::streaming::Streaming;
pub use self::websocket::{SUBPROTOCOL, WebSocket};
use crate::frame::{DecodeError, Frame, TransportKind};

/// One live carrier of frames for a session.
///
/// It is poll-based because it is the per-frame path: it must read while a write is blocked (two ends
/// that both wait to write would deadlock), and one flush writes all that was fed.
///
/// # Contract
///
/// - `poll_recv` and the sending half are independent: a blocked write never stops reads. Either may be
///   polled when the other is pending, and each keeps its own waker. The sending half, which is all the rest,
///   keeps one together.
/// - `poll_recv` is polled as long as the transport is of use, also by who wants only to send: answers to pings
///   leave and requests of client ends are driven there.
/// - `start_send` only after `poll_ready` has returned `Ready(Ok)`; it may then be called again after another
///   `poll_ready`. The one exception is `poll`, which may be fed at any time. It cannot fail: what goes wrong
///   shows at the next `poll_ready`, `poll_flush` or `poll_recv`.
/// - `start_send` buffers. Nothing need leave before `poll_flush`; all that was fed leaves with it.
/// - `poll_ready` is `Pending` while more than a bounded amount is buffered, and wakes when that changes: who
///   finds it pending flushes. It is also `Pending` while nothing fed could leave, as on the client ends of SSE
///   and long-polling before `welcome` and while a push is in flight. So whatever was fed and flushed has left,
///   and a transport never holds back what the session would rather decide anew.
/// - Frames leave and arrive in order, except that a transport may end at any time and lose what was in
///   flight: the session repeats it.
/// - After any method has returned an error the transport is over: every method returns an error. The one
///   exception is [`TransportError::Decode`] from `poll_recv`: nothing more is received then, but the sending half
///   goes on, so that the peer can be told.
/// - Dropping a transport ends it at once; `poll_close` flushes and ends it in order. It may wait for the peer, so
///   its caller bounds it. Nothing is received once it was called.
pub trait Transport: Send + Unpin {
    /// Which kind this is.
    fn kind(&self) -> TransportKind;

    /// Receives the next thing the carrier brings.
    ///
    /// # Errors
    /// When the transport has ended, in whatever way.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>>;

    /// Waits until a frame may be fed.
    ///
    /// # Errors
    /// When the transport has ended.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Feeds a frame, after [`Transport::poll_ready`]; a `poll` at any time.
    fn start_send(&mut self, frame: &Frame);

    /// Writes all that was fed.
    ///
    /// # Errors
    /// When the transport has ended.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Writes all that was fed and ends the transport in order.
    ///
    /// # Errors
    /// When the transport ended before all was written.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Gives spare memory back: the driver calls it when a large message has passed, and at heartbeats. It polls
    /// [`Transport::poll_recv`] again before it sleeps, because what was to wake it may be gone.
    fn shrink(&mut self) {}

    /// A number that moves while bytes of the peer's come, those of a frame or an answer that is not whole included: by
    /// it a large frame on a slow path is told from silence. Of a request that somebody turned down for now, and that is made
    /// again, it tells as well. It is asked rarely. Default: it never moves.
    fn arrived(&self) -> u64 {
        0
    }
}

/// Any transport, when its type is to be forgotten.
impl<T: Transport + ?Sized> Transport for Box<T> {
    fn kind(&self) -> TransportKind {
        (**self).kind()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        (**self).poll_recv(cx)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        (**self).poll_ready(cx)
    }

    fn start_send(&mut self, frame: &Frame) {
        (**self).start_send(frame);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        (**self).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        (**self).poll_close(cx)
    }

    fn shrink(&mut self) {
        (**self).shrink();
    }

    fn arrived(&self) -> u64 {
        (**self).arrived()
    }
}

/// What a transport brings.
#[derive(Debug)]
#[non_exhaustive]
pub enum Received {
    /// A frame that came down the path by which the transport is judged alive.
    Frame(Frame),
    /// A frame in the answer to a `push`: it says nothing about the downlink. Client ends only.
    Answer(Frame),
    /// The `push` in flight has ended. Client ends of SSE and long-polling only.
    PushEnded {
        /// Whether it was answered in time by one of ours.
        answered: bool,
    },
    /// The `push` in flight was refused for its size by a box on the way: with fewer messages it may pass. Client ends of SSE
    /// and long-polling only.
    PushRefused,
    /// The open `poll` was answered, and all its frames were received. Client end of long-polling only.
    PollEnded,
}

/// Why a transport ended. Only an in-band `close` ends a session: none of these does by itself, except
/// that undecodable bytes are the peer's fault and are answered so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// It ended, in order or not, without an in-band `close`.
    #[error("the transport ended")]
    Ended,
    /// The peer sent what is not a batch of frames.
    #[error("the peer broke the protocol")]
    Decode(#[from] DecodeError),
    /// An HTTP answer that is not ours.
    #[error("answered by HTTP status {status}")]
    Http {
        /// The status.
        status: u16,
        /// What its `Retry-After` says.
        retry_after: Option<std::time::Duration>,
    },
    /// What was fed first to a client end of SSE or long-polling is not `hello`: a bug of its user's.
    #[error("the first frame fed is not hello")]
    NoHello,
    /// Something outside both ends failed.
    #[error("the network failed")]
    Network(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Keeps a waker for later, the one there if it would wake the same task.
fn keep_waker(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}
