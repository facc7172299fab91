//! WebSocket: both directions in one stream (RFC 6455), at either end.
//!
//! A text message is a JSON batch, a binary message a binary batch. Each flush is one WebSocket message and one
//! write. It implements `docs/PROTOCOL.md`, "WebSocket". It knows nothing of the HTTP that opens a WebSocket
//! beyond the client's handshake, which tungstenite makes.

mod accepted;
mod bounded;
mod carrier;
mod dialled;
mod reader;
#[cfg(test)]
mod tests;
mod tidings;

use std::fmt;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

pub(super) use self::carrier::{Carrier, IDLE_MESSAGES, Incoming};
use super::outbox::Outbox;
use super::{Received, Transport, TransportError};
use crate::frame::{Batch, CloseCode, Encoding, Frame, Limits, Role, TransportKind};

/// The subprotocol that names the version: the value of `Sec-WebSocket-Protocol` at both ends.
pub const SUBPROTOCOL: &str = "throughline.v1";

/// A WebSocket that carries frames, at either end.
///
/// It sends in its own encoding: a client's is given, a server's follows the first message that it received.
///
/// # Guarantees
///
/// - One flush is one WebSocket message and, up to 17 KiB, one write. Larger batches go as fragments of 17 KiB,
///   so that neither end keeps a larger buffer for them.
/// - A batch is never beyond the limits, and never beyond what the peer's `welcome` says it takes.
/// - Pings of the WebSocket itself are answered while reading; at most 35 KiB of answers pile up behind a
///   blocked write.
/// - A message of the peer's in absurdly many fragments ends the transport.
/// - A server's end keeps no buffers while it is idle.
// What is touched where nothing came and a message goes out stands together.
#[repr(C)]
pub struct WebSocket<S> {
    limits: Limits,
    close: Option<CloseCode>,
    incoming: Option<Batch>,
    role: Role,
    /// Whether the outbox's encoding is settled.
    settled: bool,
    outbox: Outbox,
    carrier: Carrier<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Takes over the server's end of a stream on which the opening handshake is done.
    pub async fn server(io: S, limits: Limits) -> Self {
        let carrier = Carrier::accept(io, limits.max_batch_bytes);
        Self::new(carrier, Role::Server, Encoding::Json, limits)
    }

    /// Takes over the client's end of a stream on which the opening handshake is done.
    pub async fn client(io: S, encoding: Encoding, limits: Limits) -> Self {
        let carrier = Carrier::open(io, limits.max_batch_bytes).await;
        Self::new(carrier, Role::Client, encoding, limits)
    }

    /// Makes the opening handshake of a client on a fresh stream (HTTP/1.1, `GET` with Upgrade).
    ///
    /// The request bears all headers of the handshake, as tungstenite's `IntoClientRequest` makes them of a URI,
    /// and [`SUBPROTOCOL`] in `Sec-WebSocket-Protocol`.
    ///
    /// # Cancel safety
    /// Dropped in the middle, it drops the stream.
    ///
    /// # Errors
    /// When the stream fails, or the answer is not the end of a handshake: `Http` has the answer then.
    pub async fn dial(
        io: S,
        request: http::Request<()>,
        encoding: Encoding,
        limits: Limits,
    ) -> Result<(Self, Response), tungstenite::Error> {
        let (carrier, response) = Carrier::dial(io, request, limits.max_batch_bytes).await?;
        Ok((Self::new(carrier, Role::Client, encoding, limits), response))
    }

    fn new(carrier: Carrier<S>, role: Role, encoding: Encoding, limits: Limits) -> Self {
        let mut outbox = Outbox::new(encoding, &limits);
        if role == Role::Server {
            outbox = outbox.in_shared_room(carrier::HEADER);
        }
        Self { carrier, role, limits, incoming: None, outbox, settled: role == Role::Client, close: None }
    }

    fn begin(&mut self, incoming: Incoming) -> Result<(), TransportError> {
        let (bytes, encoding) = match incoming {
            Incoming::Text(text) => (text, Encoding::Json),
            Incoming::Binary(bytes) => (bytes, Encoding::Binary),
            Incoming::Pong(_) => return Ok(()),
        };
        if !self.settled {
            self.settled = true;
            self.outbox.set_encoding(encoding, &self.limits);
        }
        self.incoming = Some(Batch::new(bytes, encoding, self.role.peer(), self.limits)?);
        Ok(())
    }

    /// The next frame of the batch that is being decoded.
    #[inline]
    fn next_frame(&mut self) -> Option<Result<Frame, TransportError>> {
        let next = self.incoming.as_mut()?.next();
        match next {
            Some(Ok(frame)) => {
                if let Frame::Welcome(welcome) = &frame {
                    let (message, batch) = (welcome.max_message_bytes, welcome.max_batch_bytes);
                    self.outbox.lower_limits(&self.limits, message, batch);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(self.refuse(error.into()))),
            None => {
                // Let go before the next read, so that the read buffer is free to be used again.
                self.incoming = None;
                None
            }
        }
    }

    fn refuse(&mut self, error: TransportError) -> TransportError {
        self.incoming = None;
        self.carrier.refuse();
        error
    }

    fn kind_of_message(&self) -> Data {
        match self.outbox.encoding() {
            Encoding::Json => Data::Text,
            Encoding::Binary => Data::Binary,
        }
    }

    /// Gives the batch to the carrier once there is room.
    #[inline]
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(self.carrier.poll_room(cx))?;
        let kind = self.kind_of_message();
        if let Some(batch) = self.outbox.take() {
            self.carrier.feed(kind, batch);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("role", &self.role)
            .field("carrier", &self.carrier)
            .field("outbox", &self.outbox)
            .finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for WebSocket<S> {
    fn kind(&self) -> TransportKind {
        TransportKind::WebSocket
    }

    #[inline]
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        for _ in 0..IDLE_MESSAGES {
            if let Some(next) = self.next_frame() {
                return Poll::Ready(next.map(Received::Frame));
            }
            let incoming = ready!(self.carrier.poll_message(cx))?;
            if let Err(error) = self.begin(incoming) {
                return Poll::Ready(Err(self.refuse(error)));
            }
        }
        // Nothing but messages without frames: others have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.outbox.is_full() { self.poll_hand_over(cx) } else { Poll::Ready(self.carrier.check_open()) }
    }

    #[inline]
    fn start_send(&mut self, frame: &Frame) {
        if let Frame::Close(close) = frame {
            self.close = Some(close.code.clone());
        }
        self.outbox.push(frame);
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.carrier.takes_whole(self.outbox.len()) && !self.outbox.is_empty() {
            self.carrier.write_whole(cx, self.kind_of_message(), self.outbox.framed())?;
            self.outbox.begin_anew();
        } else if !self.outbox.is_empty() {
            ready!(self.poll_hand_over(cx))?;
        }
        self.carrier.poll_flush(cx)
    }

    /// Says close with 4000 and the HTTP status of the `close` frame that was fed last, 1000 without one, and
    /// waits until the peer has answered or is gone: bound that wait.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if !self.outbox.is_empty() {
            ready!(self.poll_hand_over(cx))?;
        }
        self.carrier.poll_close(cx, self.close.as_ref())
    }

    fn shrink(&mut self) {
        self.outbox.shrink();
        self.carrier.shrink();
    }

    fn arrived(&self) -> u64 {
        self.carrier.unfinished() as u64
    }
}
