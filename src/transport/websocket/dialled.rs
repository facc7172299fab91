//! The client's end of a WebSocket, on tungstenite.
//!
//! It owns the settings of tungstenite, the cutting of large messages into fragments, the closing handshake,
//! and the map from tungstenite's errors.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as Fragment;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::bounded::Bounded;
use super::carrier::{FRAGMENT, Farewell, IDLE_MESSAGES, Incoming, Phase, WRITE, not_utf8, too_large};
use super::tidings::Tidings;
use crate::transport::TransportError;

/// What is read at once. It is allocated for the whole life of the WebSocket.
const READ: usize = 2 << 10;

pub(in crate::transport) struct Dialled<S> {
    stream: WebSocketStream<Bounded<S>>,
    /// Whether it is worth to read.
    tidings: Tidings,
    phase: Phase,
    /// What tungstenite had no room for.
    held: Option<Box<Message>>,
    /// What of the current message is not fed yet.
    rest: Option<(Bytes, Data)>,
    /// Whether anything was fed since the last flush.
    fed: bool,
    /// Whether the peer sent what is not taken: nothing more is read then, but a close can still be said.
    refused: bool,
    max_message: usize,
}

/// tungstenite's settings for messages of at most `max_message` bytes.
fn config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(WRITE)
        // One fragment more than waits, and some pongs. It bounds what pings can pile up behind a blocked write.
        .max_write_buffer_size(WRITE + FRAGMENT + 1024)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
        .accept_unmasked_frames(false)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialled<S> {
    /// Takes over a stream on which the opening handshake is done.
    pub(super) async fn open(io: S, max_message: usize) -> Self {
        let io = Bounded::new(io, max_message);
        let stream = WebSocketStream::from_raw_socket(io, Role::Client, Some(config(max_message))).await;
        Self::new(stream, max_message)
    }

    /// Makes the opening handshake of a client.
    pub(super) async fn dial(
        io: S,
        request: http::Request<()>,
        max_message: usize,
    ) -> Result<(Self, Response), tungstenite::Error> {
        let io = Bounded::new(io, max_message);
        let config = Some(config(max_message));
        let (stream, response) = tokio_tungstenite::client_async_with_config(request, io, config).await?;
        Ok((Self::new(stream, max_message), response))
    }

    fn new(stream: WebSocketStream<Bounded<S>>, max_message: usize) -> Self {
        Self {
            stream,
            tidings: Tidings::default(),
            phase: Phase::Open,
            held: None,
            rest: None,
            fed: false,
            refused: false,
            max_message,
        }
    }

    /// How many bytes have come of a message that is not whole.
    pub(super) fn unfinished(&self) -> usize {
        self.stream.get_ref().unfinished()
    }

    /// Receives a message. Pings are answered within, and a close by the peer is the end.
    #[inline]
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, TransportError>> {
        if self.phase != Phase::Open || self.refused {
            return Poll::Ready(Err(TransportError::Ended));
        }
        if !self.tidings.has_any(cx) {
            return Poll::Pending;
        }
        for _ in 0..IDLE_MESSAGES {
            self.tidings.heed();
            let mut reading = Context::from_waker(&self.tidings.waker);
            let next = ready!(Pin::new(&mut self.stream).poll_next(&mut reading));
            self.tidings.expect_more();
            match next {
                Some(Ok(Message::Text(text))) => {
                    self.stream.get_mut().message();
                    return Poll::Ready(Ok(Incoming::Text(text.into())));
                }
                Some(Ok(Message::Binary(bytes))) => {
                    self.stream.get_mut().message();
                    return Poll::Ready(Ok(Incoming::Binary(bytes)));
                }
                Some(Ok(Message::Pong(payload))) => {
                    self.stream.get_mut().control(payload.len());
                    return Poll::Ready(Ok(Incoming::Pong(payload)));
                }
                Some(Ok(Message::Ping(payload))) => self.stream.get_mut().control(payload.len()),
                // The next round sends the answer, and then there is no more.
                Some(Ok(Message::Close(_))) => {
                    let _ = Pin::new(&mut self.stream).poll_next(cx);
                    return Poll::Ready(Err(self.fail(TransportError::Ended)));
                }
                Some(Ok(Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.fail_with(error))),
                None => return Poll::Ready(Err(self.fail(TransportError::Ended))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    #[cfg(test)]
    pub(super) fn get_ref(&self) -> &S {
        self.stream.get_ref().get_ref()
    }

    /// Reads no more: what came is not what it should be.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// Waits until [`Dialled::feed`] may be called: until all of the message before is with tungstenite.
    #[inline]
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check_open()?;
        while self.held.is_some() || self.rest.is_some() {
            if self.held.is_some() {
                // Pongs have filled its buffer: only an empty one surely has room for a fragment.
                let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
                self.check(flushed)?;
            }
            let room = ready!(Pin::new(&mut self.stream).poll_ready(cx));
            self.check(room)?;
            self.feed_next()?;
        }
        Poll::Ready(Ok(()))
    }

    /// Begins a message. After [`Dialled::poll_room`] only.
    ///
    /// It does not check that text is UTF-8: what is sent was checked where it entered the process.
    #[inline]
    pub(super) fn feed(&mut self, kind: Data, payload: Bytes) {
        self.rest = Some((payload, kind));
        self.fed = true;
    }

    /// Feeds a ping. After [`Dialled::poll_room`] only.
    pub(super) fn feed_ping(&mut self, payload: Bytes) {
        self.held = Some(Box::new(Message::Ping(payload)));
        self.fed = true;
    }

    /// Gives tungstenite what it had no room for, or the next fragment.
    #[inline]
    fn feed_next(&mut self) -> Result<(), TransportError> {
        let message = match (self.held.take(), self.rest.take()) {
            (Some(held), rest) => {
                self.rest = rest;
                *held
            }
            (None, Some((payload, kind))) if payload.len() <= FRAGMENT => {
                Message::Frame(Fragment::message(payload, OpCode::Data(kind), true))
            }
            (None, Some((mut payload, kind))) => {
                let piece = payload.split_to(FRAGMENT);
                self.rest = Some((payload, Data::Continue));
                Message::Frame(Fragment::message(piece, OpCode::Data(kind), false))
            }
            (None, None) => return Ok(()),
        };
        match Pin::new(&mut self.stream).start_send(message) {
            Err(Error::WriteBufferFull(message)) => {
                self.held = Some(message);
                Ok(())
            }
            done => self.check(done),
        }
    }

    /// Writes all that was fed.
    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check_open()?;
        if !self.fed {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_room(cx))?;
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.check(flushed)?;
        self.fed = false;
        Poll::Ready(Ok(()))
    }

    /// Writes all that was fed, says close, and waits until the peer has said it too or is gone.
    ///
    /// Without that wait a server that closes the stream first would reset it, and the peer could lose what was
    /// written last. Whoever calls this bounds the wait.
    pub(super) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        close: Farewell<'_>,
    ) -> Poll<Result<(), TransportError>> {
        loop {
            match self.phase {
                Phase::Open => {
                    ready!(self.poll_flush(cx))?;
                    let Farewell { number, reason } = close;
                    let frame = CloseFrame { code: number.into(), reason: reason.into() };
                    // Refused only when the peer has closed already: then there is nothing to say.
                    let _ = Pin::new(&mut self.stream).start_send(Message::Close(Some(frame)));
                    self.phase = Phase::Closing;
                }
                Phase::Closing => {
                    let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
                    self.check(flushed)?;
                    self.phase = Phase::Lingering;
                }
                Phase::Lingering => {
                    ready!(self.poll_answer(cx));
                    self.phase = Phase::Closed;
                }
                Phase::Closed => return Poll::Ready(Ok(())),
                Phase::Failed => return Poll::Ready(Err(TransportError::Ended)),
            }
        }
    }

    /// Reads on until the peer's close or the end, and drops what comes before.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.refused {
            return self.poll_drain(cx);
        }
        for _ in 0..IDLE_MESSAGES {
            match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(_)) => self.stream.get_mut().message(),
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends this direction and drops what comes, message or not, until the peer ends the other.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = self.stream.get_mut();
        // What matters is that the peer sees an end; it sees one either way.
        let _ = Pin::new(&mut *stream).poll_shutdown(cx);
        for _ in 0..IDLE_MESSAGES {
            let mut space = [0; 1024];
            let mut buf = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
            stream.message();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<(), TransportError> {
        if self.phase == Phase::Open { Ok(()) } else { Err(TransportError::Ended) }
    }

    #[inline]
    fn check(&mut self, result: Result<(), Error>) -> Result<(), TransportError> {
        result.map_err(|error| self.fail_with(error))
    }

    fn fail(&mut self, error: TransportError) -> TransportError {
        self.phase = Phase::Failed;
        (self.held, self.rest) = (None, None);
        error
    }

    fn fail_with(&mut self, error: Error) -> TransportError {
        let error = match error {
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
            ) => TransportError::Ended,
            Error::Capacity(_) => too_large(self.max_message),
            Error::Utf8(_) => not_utf8(),
            other => TransportError::Network(other.into()),
        };
        if matches!(error, TransportError::Decode(_)) {
            self.refuse();
            error
        } else {
            self.fail(error)
        }
    }
}

/// What is in its buffers may be secret, so it is not shown.
impl<S> fmt::Debug for Dialled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialled")
            .field("phase", &self.phase)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
