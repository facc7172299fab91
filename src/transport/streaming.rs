//! The client's end of SSE and of the binary stream.
//!
//! The request that says `hello` is answered by a stream, the downlink; pushes go beside it. It implements the
//! client's side of `docs/PROTOCOL.md`, "SSE".

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;

use super::exchange::{Endpoint, ExchangeBody, Sending, not_ours};
use super::push::Uplink;
use super::{Received, Transport, TransportError, media};
use crate::frame::{
    Batch, DecodeError, Encoding, Frame, FrameStream, Limits, Role, TransportKind, event_stream,
};

/// How many pieces of the stream without a frame one poll takes before it yields.
const IDLE_PIECES: usize = 32;

/// The client's end of a streamed response with pushes beside it.
///
/// The first frame fed is `hello`. What is fed up to the first flush, that is `hello` and perhaps messages, is the
/// request that opens the stream; what is fed later goes by pushes, of which one is in flight at a time. From the
/// first flush to `welcome`, and while a push is in flight or its answer is being received, the transport is not
/// ready: so what is fed always leaves with the next flush, and nothing waits here that the session would repeat.
///
/// A push that is not answered in time, or not by one of ours, ends as not answered, and the transport lives on. Where
/// a box answers `413`, later ones are smaller; where it does to a single message, the transport ends.
/// All requests are driven by [`poll_recv`](Transport::poll_recv).
#[derive(Debug)]
pub struct Streaming {
    uplink: Uplink,
    down: Down,
    /// Bytes of the stream so far.
    bytes: u64,
}

enum Down {
    /// Nothing was flushed.
    Unopened,
    Opening(Sending),
    Open(Box<Stream>),
    Over,
}

impl Streaming {
    /// A transport that opens with the first flush.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { uplink: Uplink::new(endpoint), down: Down::Unopened, bytes: 0 }
    }

    fn check(&self) -> Result<(), TransportError> {
        if matches!(self.down, Down::Over) { Err(TransportError::Ended) } else { Ok(()) }
    }

    fn open(&mut self) -> Result<(), TransportError> {
        match self.uplink.take_greeting() {
            Ok(Some((session, body))) => {
                let endpoint = self.uplink.endpoint();
                self.down = Down::Opening(endpoint.send(session, endpoint.accept_stream(), body));
                self.uplink.wake_reader();
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                self.down = Down::Over;
                Err(error)
            }
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, TransportError>> {
        loop {
            match &mut self.down {
                Down::Unopened => return Poll::Pending,
                Down::Opening(sending) => {
                    let response = ready!(sending.as_mut().poll(cx))?;
                    let limits = self.uplink.endpoint().limits_used();
                    self.down = Down::Open(Box::new(Stream::new(response, limits)?));
                }
                Down::Open(stream) => return stream.poll_frame(cx, &mut self.bytes),
                Down::Over => return Poll::Ready(Err(TransportError::Ended)),
            }
        }
    }
}

impl Transport for Streaming {
    fn kind(&self) -> TransportKind {
        TransportKind::Sse
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        self.check()?;
        self.uplink.keep_reader(cx);
        if let Some(ended) = self.uplink.take_fault() {
            if ended.is_err() {
                self.down = Down::Over;
            }
            return Poll::Ready(ended);
        }
        if let Poll::Ready(received) = self.uplink.poll_answer(cx) {
            return Poll::Ready(Ok(received));
        }
        match ready!(self.poll_down(cx)) {
            Ok(frame) => {
                self.uplink.note(&frame);
                Poll::Ready(Ok(Received::Frame(frame)))
            }
            Err(error) => {
                self.down = Down::Over;
                self.uplink.note_failure(&error);
                Poll::Ready(Err(error))
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check()?;
        self.uplink.poll_ready(cx).map(Ok)
    }

    fn start_send(&mut self, frame: &Frame) {
        self.uplink.start_send(frame);
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check()?;
        self.open()?;
        self.uplink.push();
        Poll::Ready(Ok(()))
    }

    /// Pushes what was fed and waits for the push in flight; then the stream is dropped.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check()?;
        let closed = ready!(self.uplink.poll_close(cx));
        self.down = Down::Over;
        Poll::Ready(closed)
    }

    fn shrink(&mut self) {
        self.uplink.shrink();
    }

    fn arrived(&self) -> u64 {
        self.bytes.wrapping_add(self.uplink.times_turned_down())
    }
}

impl fmt::Debug for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unopened => "Unopened",
            Self::Opening(_) => "Opening",
            Self::Open(_) => "Open",
            Self::Over => "Over",
        })
    }
}

/// An answer, decoded as it comes.
struct Stream {
    body: ExchangeBody,
    decoder: Decoder,
    status: StatusCode,
    headers: HeaderMap,
    /// Whether all was received that is to be: under an error status that is one `close`.
    done: bool,
}

enum Decoder {
    Events {
        parser: event_stream::Parser,
        batch: Option<Batch>,
        limits: Limits,
    },
    Frames(FrameStream),
    /// A batch as a whole, once the answer has ended: so a server may refuse.
    Lines {
        bytes: BytesMut,
        batch: Option<Batch>,
        limits: Limits,
    },
}

impl Stream {
    fn new(response: Response<ExchangeBody>, limits: Limits) -> Result<Self, TransportError> {
        let (head, body) = response.into_parts();
        let refused = !head.status.is_success();
        let decoder = match media::content_type(&head.headers).as_str() {
            media::EVENT_STREAM => {
                let parser = {
                    // Other fields than `data` have lines as well.
                    let lines = limits.max_batch_frames.saturating_add(16);
                    event_stream::Parser::new(limits.max_batch_bytes, lines)
                };
                Decoder::Events { parser, batch: None, limits }
            }
            media::BINARY => Decoder::Frames(FrameStream::new(Role::Server, limits)),
            media::LINES if refused => Decoder::Lines { bytes: BytesMut::new(), batch: None, limits },
            // Nothing of ours: a captive portal, a proxy's own page.
            _ => return Err(not_ours(head.status, &head.headers)),
        };
        Ok(Self { body, decoder, status: head.status, headers: head.headers, done: false })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>, count: &mut u64) -> Poll<Result<Frame, TransportError>> {
        if self.done {
            return Poll::Ready(Err(TransportError::Ended));
        }
        let polled = ready!(self.poll_next(cx, count));
        if self.status.is_success() {
            return Poll::Ready(polled);
        }
        self.done = true;
        Poll::Ready(match polled {
            Ok(Frame::Close(close)) => Ok(Frame::Close(close)),
            Err(error @ TransportError::Network(_)) => Err(error),
            _ => Err(not_ours(self.status, &self.headers)),
        })
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, count: &mut u64) -> Poll<Result<Frame, TransportError>> {
        for _ in 0..IDLE_PIECES {
            if let Some(frame) = self.decoder.next() {
                return Poll::Ready(frame.map_err(TransportError::from));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(piece)) => {
                    if let Ok(bytes) = piece.into_data() {
                        *count = count.saturating_add(bytes.len() as u64);
                        self.decoder.feed(bytes)?;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(TransportError::Network(error))),
                None => {
                    let last = self.decoder.end();
                    return Poll::Ready(match last {
                        Some(frame) => frame.map_err(TransportError::from),
                        None => Err(TransportError::Ended),
                    });
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Decoder {
    fn feed(&mut self, piece: Bytes) -> Result<(), DecodeError> {
        match self {
            Self::Events { parser, .. } => parser.feed(piece),
            Self::Frames(frames) => frames.feed(&piece),
            Self::Lines { bytes, limits, .. } => {
                let limit = limits.max_batch_bytes;
                if bytes.len().saturating_add(piece.len()) > limit {
                    return Err(DecodeError::TooLarge { what: "answer", limit });
                }
                bytes.extend_from_slice(&piece);
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Result<Frame, DecodeError>> {
        match self {
            Self::Events { parser, batch, limits } => loop {
                if let Some(frame) = batch.as_mut().and_then(Iterator::next) {
                    return Some(frame);
                }
                *batch = None;
                let event = match parser.next()? {
                    Ok(event) => event,
                    Err(error) => return Some(Err(error)),
                };
                match Batch::new(event.data, Encoding::Json, Role::Server, *limits) {
                    Ok(next) => *batch = Some(next),
                    Err(error) => return Some(Err(error)),
                }
            },
            Self::Frames(frames) => frames.next(),
            Self::Lines { batch, .. } => batch.as_mut().and_then(Iterator::next),
        }
    }

    /// What the end of the stream brings to light.
    fn end(&mut self) -> Option<Result<Frame, DecodeError>> {
        let Self::Lines { bytes, batch, limits } = self else { return None };
        match Batch::new(bytes.split().freeze(), Encoding::Json, Role::Server, *limits) {
            Ok(whole) => batch.insert(whole).next(),
            Err(error) => Some(Err(error)),
        }
    }
}
