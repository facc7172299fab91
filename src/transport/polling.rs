//! The client's end of long-polling.
//!
//! The first request says `hello` and is answered at once; then `poll` requests are held until the server has
//! something to say, with pushes beside them. It implements the client's side of `docs/PROTOCOL.md`,
//! "Long-polling". When to poll, and how long a request is held, is the session's affair.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::exchange::{Answer, Asking, Endpoint};
use super::push::Uplink;
use super::{Received, Transport, TransportError};
use crate::frame::{BatchWriter, Frame, TransportKind};

/// The client's end of a series of held requests with pushes beside them: at most two requests at once.
///
/// The first frame fed is `hello`. What is fed up to the first flush is the first request; its answer comes as
/// frames, and its end is not told. After that
///
/// - a `poll` may be fed at any time, whether the transport is ready or not, and leaves with the next flush as a
///   request of its own. Its answer comes as frames, and then [`Received::PollEnded`]. A `poll` that is fed while
///   one is open takes its place: the older request is dropped.
/// - all other frames go by pushes, of which one is in flight at a time. From the first flush to `welcome`, and
///   while a push is in flight or its answer is being received, the transport is not ready. So what is fed always
///   leaves with the next flush, and nothing waits here that the session would repeat.
///
/// A push that is not answered in time, or not by one of ours, ends as not answered, and the transport lives on. Where
/// a box answers `413`, later ones are smaller; where it does to a single message, the transport ends. A `poll` that fails
/// ends the transport. What a box turns down by `429` or `503` is sent again a few times. All requests are driven by
/// [`poll_recv`](Transport::poll_recv).
pub struct Polling {
    uplink: Uplink,
    /// A `poll` that has not left.
    next: Option<Bytes>,
    open: Option<(Request, Asking)>,
    /// An answer of which frames, or its end, are left to be received.
    answer: Option<(Request, Answer)>,
    over: bool,
    /// Bytes of answers so far.
    bytes: Arc<AtomicU64>,
}

/// Why a poll has failed that is answered by a `welcome`: only `hello` is.
const STALE: &str = "a box on the way answers in place of the server, with what it said before";

/// What an open request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Hello,
    Poll,
}

impl Polling {
    /// A transport that opens with the first flush.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            uplink: Uplink::new(endpoint),
            next: None,
            open: None,
            answer: None,
            over: false,
            bytes: Arc::default(),
        }
    }

    fn check(&self) -> Result<(), TransportError> {
        if self.over { Err(TransportError::Ended) } else { Ok(()) }
    }

    fn end(&mut self, error: TransportError) -> TransportError {
        self.over = true;
        (self.next, self.open, self.answer) = (None, None, None);
        error
    }

    /// Begins the requests that were fed.
    fn send(&mut self) -> Result<(), TransportError> {
        if let Some((session, body)) = self.uplink.take_greeting()? {
            self.open = Some((Request::Hello, self.uplink.endpoint().ask(session, body, Some(&self.bytes))));
            self.uplink.wake_reader();
        }
        if let Some(body) = self.next.take() {
            let session = self.uplink.session().ok_or(TransportError::NoHello)?;
            let (endpoint, turned_down) = (self.uplink.endpoint(), self.uplink.turned_down());
            let asking = endpoint.insist(session, body, Some(&self.bytes), turned_down);
            self.open = Some((Request::Poll, asking));
            self.uplink.wake_reader();
        }
        self.uplink.push();
        Ok(())
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        loop {
            if let Some((request, answer)) = &mut self.answer {
                let (request, refused) = (*request, answer.refused);
                match answer.batch.next() {
                    Some(Ok(Frame::Welcome(_))) if request == Request::Poll => {
                        return Poll::Ready(Err(TransportError::Network(STALE.into())));
                    }
                    Some(frame) => return Poll::Ready(Ok(Received::Frame(frame?))),
                    None if refused => return Poll::Ready(Err(TransportError::Ended)),
                    None => self.answer = None,
                }
                if request == Request::Poll {
                    return Poll::Ready(Ok(Received::PollEnded));
                }
            }
            let Some((request, asking)) = &mut self.open else { return Poll::Pending };
            let answer = ready!(asking.as_mut().poll(cx))?;
            self.answer = Some((*request, answer));
            self.open = None;
        }
    }
}

impl Transport for Polling {
    fn kind(&self) -> TransportKind {
        TransportKind::LongPolling
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        self.check()?;
        self.uplink.keep_reader(cx);
        if let Some(ended) = self.uplink.take_fault() {
            return Poll::Ready(ended.map_err(|error| self.end(error)));
        }
        if let Poll::Ready(received) = self.uplink.poll_answer(cx) {
            return Poll::Ready(Ok(received));
        }
        let received = ready!(self.poll_down(cx));
        match &received {
            Ok(Received::Frame(frame)) => self.uplink.note(frame),
            Err(error) => self.uplink.note_failure(error),
            Ok(_) => {}
        }
        Poll::Ready(received.map_err(|error| self.end(error)))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check()?;
        self.uplink.poll_ready(cx).map(Ok)
    }

    fn start_send(&mut self, frame: &Frame) {
        if let Frame::Poll(_) = frame {
            let mut writer = BatchWriter::new(self.uplink.endpoint().encoding_used());
            writer.push(frame);
            self.next = Some(writer.take());
        } else {
            self.uplink.start_send(frame);
        }
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check()?;
        let sent = self.send();
        Poll::Ready(sent.map_err(|error| self.end(error)))
    }

    /// Pushes what was fed and waits for the push in flight; then the open `poll` is dropped.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.check()?;
        let closed = ready!(self.uplink.poll_close(cx));
        self.end(TransportError::Ended);
        Poll::Ready(closed)
    }

    fn shrink(&mut self) {
        self.uplink.shrink();
    }

    fn arrived(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed).wrapping_add(self.uplink.times_turned_down())
    }
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling")
            .field("uplink", &self.uplink)
            .field("open", &self.open.as_ref().map(|open| open.0))
            .finish_non_exhaustive()
    }
}
