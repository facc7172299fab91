//! The server's end of SSE, binary streams and long-polling: a response body that the driver fills.
//!
//! It is endless, or for one answer. It implements the server's side of `docs/PROTOCOL.md`, "SSE",
//! "Long-polling" and "Plain SSE". It knows nothing of requests: what a client sends beside it goes elsewhere.

mod body;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};

pub use self::body::{ResponseBody, ResponseHead, ResponseStart};
use self::body::{Shared, wake};
use super::outbox::{BUFFERED, Brim, Outbox};
use super::plain_events::PlainEvents;
use super::{Received, Transport, TransportError, keep_waker, media};
use crate::frame::event_stream;
use crate::frame::{Close, Encoding, Frame, Limits, TransportKind};

/// How frames stand in a response.
#[derive(Debug)]
pub enum Form {
    /// Server-sent events: each flush is one event with a JSON frame in each `data:` line.
    EventStream,
    /// Binary frames, back to back.
    Frames,
    /// A JSON frame in each line.
    Lines,
    /// Server-sent events with nothing but payloads, for clients without a library.
    PlainEvents(PlainEvents),
}

impl Form {
    /// The response's `Content-Type`.
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::EventStream | Self::PlainEvents(_) => media::EVENT_STREAM,
            Self::Frames => media::BINARY,
            Self::Lines => media::LINES,
        }
    }
}

/// How long a response goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// For one answer: after the first flush that had anything to write the transport is over.
    Answer,
    /// Until one end ends it.
    Stream,
}

/// Makes a response: what the driver fills, and what the HTTP layer waits for.
///
/// An answer is one batch within `limits`: frames that no longer fit wait for the next answer, because the
/// transport is not ready for them and ends.
pub fn response(
    kind: TransportKind,
    form: Form,
    extent: Extent,
    limits: Limits,
) -> (ResponseTransport, ResponseHead) {
    let shared = Shared::default();
    let writer = match form {
        Form::EventStream => {
            let (events, brim) = (event_stream::Writer::new(), Brim::of(Encoding::Json, &limits));
            Writer::Events { events, frames: 0, brim }
        }
        Form::Frames => Writer::Batches(Outbox::new(Encoding::Binary, &limits)),
        Form::Lines => Writer::Batches(Outbox::new(Encoding::Json, &limits)),
        Form::PlainEvents(events) => Writer::Plain(Box::new(events)),
    };
    let transport = ResponseTransport { kind, extent, writer, first: First::Nothing, shared: shared.clone() };
    (transport, ResponseHead::new(shared))
}

/// What was fed first.
enum First {
    Nothing,
    Close(Close),
    /// Anything else, or it was flushed.
    Other,
}

enum Writer {
    Events {
        events: event_stream::Writer,
        frames: usize,
        brim: Brim,
    },
    Batches(Outbox),
    /// Boxed: few are plain.
    Plain(Box<PlainEvents>),
}

impl Writer {
    fn push(&mut self, frame: &Frame) {
        match self {
            Self::Events { events, frames, .. } => {
                events.push(frame);
                *frames = frames.saturating_add(1);
            }
            Self::Batches(outbox) => outbox.push(frame),
            Self::Plain(events) => events.push(frame),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Events { events, frames, brim } => brim.is_reached(events.len(), *frames),
            Self::Batches(outbox) => outbox.is_full(),
            Self::Plain(events) => events.len() >= BUFFERED,
        }
    }

    /// Takes what is to be written now, if anything.
    fn take(&mut self, extent: Extent) -> Option<Bytes> {
        match self {
            Self::Events { frames: 0, .. } => None,
            Self::Events { events, frames, .. } => {
                *frames = 0;
                Some(events.take())
            }
            Self::Batches(outbox) => {
                let batch = outbox.take()?;
                if outbox.encoding() == Encoding::Binary || extent == Extent::Answer {
                    return Some(batch);
                }
                // The frames of the next flush begin on a line of their own.
                let mut lines = BytesMut::with_capacity(batch.len().saturating_add(1));
                lines.put_slice(&batch);
                lines.put_u8(b'\n');
                Some(lines.freeze())
            }
            Self::Plain(events) => events.take(),
        }
    }

    fn shrink(&mut self) {
        match self {
            Self::Events { events, .. } => events.shrink(),
            Self::Batches(outbox) => outbox.shrink(),
            Self::Plain(events) => events.shrink(),
        }
    }
}

/// The driver's side of a response.
///
/// What it receives is nothing, until the client is gone; of a plain client, a `pong` for each `ping` that the
/// HTTP layer took, because no other sign of life comes from there. It is not ready while more than 64 KiB wait
/// to be taken. A flush hands over and never waits; closing waits until all was taken. Dropped, it ends the
/// response behind what was flushed.
pub struct ResponseTransport {
    kind: TransportKind,
    extent: Extent,
    writer: Writer,
    first: First,
    shared: Shared,
}

impl ResponseTransport {
    fn hand_over(&mut self) -> Result<(), TransportError> {
        let Some(chunk) = self.writer.take(self.extent) else {
            let state = self.shared.lock();
            return if state.gone || state.ended { Err(TransportError::Ended) } else { Ok(()) };
        };
        let first = mem::replace(&mut self.first, First::Other);
        let ping = match &mut self.writer {
            Writer::Plain(events) => events.take_ping(),
            _ => None,
        };
        let waker = {
            let mut state = self.shared.lock();
            if state.gone || state.ended {
                return Err(TransportError::Ended);
            }
            if let First::Close(close) = first {
                state.close = Some(close);
            }
            state.queued = state.queued.saturating_add(chunk.len());
            state.chunks.push_back(chunk);
            state.ping = ping.or(state.ping);
            state.opened = true;
            state.ended = self.extent == Extent::Answer;
            state.body.take()
        };
        wake(waker);
        Ok(())
    }
}

impl Transport for ResponseTransport {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        let mut state = self.shared.lock();
        if state.gone || state.ended {
            return Poll::Ready(Err(TransportError::Ended));
        }
        if state.chunks.is_empty() {
            if let Some(ping) = state.ping.take() {
                return Poll::Ready(Ok(Received::Frame(Frame::Pong(ping))));
            }
        }
        keep_waker(&mut state.driver, cx);
        Poll::Pending
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.writer.is_full() {
            self.hand_over()?;
        }
        let mut state = self.shared.lock();
        if state.gone || state.ended {
            return Poll::Ready(Err(TransportError::Ended));
        }
        if state.queued < BUFFERED {
            return Poll::Ready(Ok(()));
        }
        state.wants_room = true;
        keep_waker(&mut state.driver, cx);
        Poll::Pending
    }

    fn start_send(&mut self, frame: &Frame) {
        if let First::Nothing = self.first {
            self.first = match frame {
                Frame::Close(close) => First::Close(close.clone()),
                _ => First::Other,
            };
        }
        self.writer.push(frame);
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(self.hand_over())
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        // Over already: what was fed since has nowhere to go.
        let _ = self.hand_over();
        let (polled, waker) = {
            let mut state = self.shared.lock();
            let waker = state.close_out();
            let polled = if state.chunks.is_empty() {
                Poll::Ready(Ok(()))
            } else if state.gone {
                Poll::Ready(Err(TransportError::Ended))
            } else {
                state.wants_room = true;
                keep_waker(&mut state.driver, cx);
                Poll::Pending
            };
            (polled, waker)
        };
        wake(waker);
        polled
    }

    fn shrink(&mut self) {
        self.writer.shrink();
        self.shared.lock().chunks.shrink_to_fit();
    }
}

impl fmt::Debug for ResponseTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseTransport")
            .field("kind", &self.kind)
            .field("extent", &self.extent)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl Drop for ResponseTransport {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.lock();
            // Nobody is there to be told what becomes of it.
            state.driver = None;
            state.close_out()
        };
        wake(waker);
    }
}
