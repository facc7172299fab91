//! The uplink of SSE and long-polling at the client's end: the request that opens a session's attachment, and the
//! pushes after it, one at a time.
//!
//! It implements the client's side of `docs/PROTOCOL.md`, "Push".

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::exchange::{Answer, Asking, Endpoint};
use super::outbox::Outbox;
use super::{Received, TransportError, keep_waker};
use crate::frame::{Attachment, Close, CloseCode, Frame, Hello, Push, SessionId, SessionKey, Welcome};

/// The status of a request that is too large for whoever answers (RFC 9110, section 15.5.14).
const TOO_LARGE: u16 = 413;

fn is_too_large(error: &TransportError) -> bool {
    matches!(error, TransportError::Http { status: TOO_LARGE, .. })
}

/// The least that a push may take.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// The most that it is given because a round trip takes long.
const MOST_PATIENCE: Duration = Duration::from_secs(15);

/// A push may take a second more for each so many bytes of it.
const BYTES_PER_SECOND: u64 = 16 << 10;

/// How often that is doubled at most, by pushes that were lost in a row: to 1 KiB a second.
const SLOWER: u32 = 4;

/// The most that it may take longer for its bytes.
const MOST_FOR_BYTES: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Uplink {
    endpoint: Endpoint,
    outbox: Outbox,
    stage: Stage,
    flight: Option<Flight>,
    /// What is being fed.
    next: Sent,
    /// What left last, and how much of it were messages.
    sent: Sent,
    /// What the transport ends with, if a message cannot pass.
    fault: Option<Fault>,
    /// When the request under way began whose answer is measured, and how long the last one took.
    began: Instant,
    trip: Duration,
    /// The answer to a push, of which frames are left to be received.
    answer: Option<Answer>,
    /// How often a request was turned down for now, and what the push in flight has seen of it.
    turned_down: Arc<AtomicU64>,
    seen: u64,
    /// Who waits in `poll_ready`.
    sender: Option<Waker>,
    /// Who polls `poll_recv`, which is what drives requests.
    reader: Option<Waker>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing was fed.
    Fresh,
    /// `hello` was fed and has not left.
    Greeting(Credentials),
    /// It has left; pushes wait for the `welcome`.
    Greeted(Credentials),
    /// Pushes may leave, and begin with this.
    Welcomed(Box<Push>),
}

/// What of `hello` stands in each push.
#[derive(Clone, Debug)]
struct Credentials {
    session: SessionId,
    key: SessionKey,
    attachment: Attachment,
}

impl Credentials {
    fn of(hello: &Hello) -> Self {
        Self { session: hello.session, key: hello.key.clone(), attachment: hello.attachment }
    }
}

/// The size of a request.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    bytes: usize,
    messages: usize,
}

/// What to make of a message that a box refuses although it goes alone.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Another transport may take it.
    Here,
    /// None does.
    Everywhere,
}

struct Flight {
    asking: Asking,
    deadline: Pin<Box<Sleep>>,
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").field("deadline", &self.deadline.deadline()).finish_non_exhaustive()
    }
}

impl Uplink {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let outbox = Outbox::new(endpoint.encoding_used(), &endpoint.limits_used());
        Self {
            endpoint,
            outbox,
            stage: Stage::Fresh,
            flight: None,
            next: Sent::default(),
            sent: Sent::default(),
            fault: None,
            began: Instant::now(),
            trip: Duration::ZERO,
            answer: None,
            turned_down: Arc::default(),
            seen: 0,
            sender: None,
            reader: None,
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The session, once `hello` was fed.
    pub(super) fn session(&self) -> Option<SessionId> {
        match &self.stage {
            Stage::Fresh => None,
            Stage::Greeting(hello) | Stage::Greeted(hello) => Some(hello.session),
            Stage::Welcomed(push) => Some(push.session),
        }
    }

    /// Remembers who drives the requests.
    pub(super) fn keep_reader(&mut self, cx: &Context<'_>) {
        keep_waker(&mut self.reader, cx);
    }

    /// Has the requests driven that were begun outside `poll_recv`.
    pub(super) fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_sender(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }

    /// Whether a frame other than `poll` may be fed: into the opening request, or into the next push when
    /// none is in flight.
    pub(super) fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        let open = match self.stage {
            Stage::Fresh | Stage::Greeting(_) => true,
            Stage::Greeted(_) => false,
            Stage::Welcomed(_) => self.flight.is_none() && self.answer.is_none(),
        };
        if open && !self.outbox.is_full() && !self.endpoint.notes().is_reached(self.outbox.len()) {
            return Poll::Ready(());
        }
        keep_waker(&mut self.sender, cx);
        Poll::Pending
    }

    pub(super) fn start_send(&mut self, frame: &Frame) {
        match (&self.stage, frame) {
            (Stage::Fresh, Frame::Hello(hello)) => self.stage = Stage::Greeting(Credentials::of(hello)),
            (Stage::Welcomed(push), _) if self.outbox.is_empty() => {
                self.outbox.push(&Frame::Push(push.clone()));
            }
            _ => {}
        }
        self.outbox.push(frame);
        self.next.messages += usize::from(matches!(frame, Frame::Message(_)));
    }

    /// Takes what was fed, and notes how much it is.
    fn take(&mut self) -> Option<Bytes> {
        self.sent = Sent { bytes: self.outbox.len(), ..std::mem::take(&mut self.next) };
        self.outbox.take()
    }

    /// What a request that has failed says about sizes.
    pub(super) fn note_failure(&mut self, error: &TransportError) {
        if !is_too_large(error) {
            return;
        }
        let notes = self.endpoint.notes();
        notes.lower(self.sent.bytes);
        if self.sent.messages == 1 {
            self.fault = Some(if notes.refused_alone() { Fault::Everywhere } else { Fault::Here });
        }
    }

    /// What the transport is to end with, if there is anything: a close, if it would be the same on any other.
    pub(super) fn take_fault(&mut self) -> Option<Result<Received, TransportError>> {
        Some(match self.fault.take()? {
            Fault::Here => Err(TransportError::Http { status: TOO_LARGE, retry_after: None }),
            Fault::Everywhere => {
                let reason = "a box on the way takes no request of the size of one message";
                Ok(Received::Frame(Frame::Close(Close::new(CloseCode::TooLarge, reason))))
            }
        })
    }

    /// Takes the opening request's body, once: then its answer is to be awaited.
    pub(super) fn take_greeting(&mut self) -> Result<Option<(SessionId, Bytes)>, TransportError> {
        match (&self.stage, self.outbox.is_empty()) {
            (Stage::Fresh, false) => Err(TransportError::NoHello),
            (Stage::Greeting(hello), _) => {
                let session = hello.session;
                self.stage = Stage::Greeted(hello.clone());
                self.began = Instant::now();
                Ok(self.take().map(|body| (session, body)))
            }
            _ => Ok(None),
        }
    }

    /// Notes what a frame of the downlink means for pushes.
    pub(super) fn note(&mut self, frame: &Frame) {
        if let Frame::Welcome(welcome) = frame {
            self.welcome(welcome);
        }
    }

    fn welcome(&mut self, welcome: &Welcome) {
        let limits = self.endpoint.limits_used();
        self.outbox.lower_limits(&limits, welcome.max_message_bytes, welcome.max_batch_bytes);
        if let Stage::Greeted(hello) = &self.stage {
            self.trip = self.began.elapsed();
            self.endpoint.notes().took(self.trip);
            // What was fed against the contract, before this, has no push to go in: it is lost.
            drop(self.outbox.take());
            self.next = Sent::default();
            self.stage = Stage::Welcomed(Box::new(Push {
                session: hello.session,
                key: hello.key.clone(),
                epoch: welcome.epoch,
                attachment: hello.attachment,
            }));
            self.wake_sender();
        }
    }

    /// Begins a push of all that was fed, unless one is in flight.
    pub(super) fn push(&mut self) {
        let Stage::Welcomed(push) = &self.stage else { return };
        if self.flight.is_some() || self.answer.is_some() {
            return;
        }
        let session = push.session;
        if let Some(body) = self.take() {
            let patience = self.patience(body.len());
            let asking = self.endpoint.insist(session, body, None, &self.turned_down);
            self.seen = self.times_turned_down();
            let deadline = Box::pin(tokio::time::sleep(patience));
            self.began = Instant::now();
            self.flight = Some(Flight { asking, deadline });
            self.wake_reader();
        }
    }

    /// How long a push of so many bytes may take: the answer time of `docs/PROTOCOL.md`, "Paths".
    fn patience(&self, bytes: usize) -> Duration {
        let least = self.endpoint.notes().least_trip().unwrap_or_default();
        let slow = least.saturating_mul(3).min(MOST_PATIENCE);
        let most = self.endpoint.push_timeout_used().max(slow);
        let trip = self.trip.saturating_mul(4).clamp(LEAST_PATIENCE.min(most), most);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let slower = self.endpoint.notes().lost_in_a_row().min(SLOWER);
        trip + Duration::from_millis((bytes << slower).saturating_mul(1000) / BYTES_PER_SECOND)
            .min(MOST_FOR_BYTES)
    }

    /// Drives the push in flight and receives its answer. Pending as well when there is none.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        loop {
            if let Some(answer) = &mut self.answer {
                return Poll::Ready(match answer.batch.next() {
                    // Said by a cache: only `hello` is answered so.
                    Some(Ok(Frame::Welcome(_))) => self.ended(false),
                    Some(Ok(frame)) => Received::Answer(frame),
                    Some(Err(_)) => self.ended(false),
                    None => self.ended(true),
                });
            }
            let Some(flight) = &mut self.flight else { return Poll::Pending };
            match flight.asking.as_mut().poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    self.flight = None;
                    if self.sent.messages > 0 {
                        self.endpoint.notes().passed();
                        self.endpoint.notes().answered(self.sent.bytes);
                    }
                    self.trip = self.began.elapsed();
                    self.endpoint.notes().took(self.trip);
                    self.answer = Some(answer);
                }
                Poll::Ready(Err(error)) => {
                    tracing::trace!(%error, "push failed");
                    self.note_failure(&error);
                    let refused = is_too_large(&error) && self.sent.messages > 1;
                    return Poll::Ready(if refused {
                        self.ended(false);
                        Received::PushRefused
                    } else {
                        self.lost()
                    });
                }
                Poll::Pending => {
                    ready!(flight.deadline.as_mut().poll(cx));
                    let seen = self.turned_down.load(Ordering::Relaxed);
                    if std::mem::replace(&mut self.seen, seen) != seen {
                        // It is turned down for now, and made again: there is an end to that.
                        flight.deadline.as_mut().reset(Instant::now() + LEAST_PATIENCE);
                        continue;
                    }
                    tracing::trace!("push given up");
                    return Poll::Ready(self.lost());
                }
            }
        }
    }

    /// Counts how often a request was turned down for now.
    pub(super) fn turned_down(&self) -> &Arc<AtomicU64> {
        &self.turned_down
    }

    pub(super) fn times_turned_down(&self) -> u64 {
        self.turned_down.load(Ordering::Relaxed)
    }

    /// The push in flight was not answered: perhaps for its size, so that the next one is smaller.
    fn lost(&mut self) -> Received {
        if self.sent.messages > 0 {
            self.endpoint.notes().lost(self.sent.bytes, self.sent.messages);
        }
        self.ended(false)
    }

    fn ended(&mut self, answered: bool) -> Received {
        (self.flight, self.answer) = (None, None);
        self.wake_sender();
        Received::PushEnded { answered }
    }

    /// Pushes all that was fed, answers unheard.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        loop {
            self.push();
            if self.flight.is_none() && self.answer.is_none() {
                // What is left came before the `welcome`, and cannot leave.
                let left = !self.outbox.is_empty();
                return Poll::Ready(if left { Err(TransportError::Ended) } else { Ok(()) });
            }
            let ended = ready!(self.poll_answer(cx));
            if matches!(ended, Received::PushEnded { answered: false } | Received::PushRefused) {
                return Poll::Ready(Err(TransportError::Ended));
            }
        }
    }

    pub(super) fn shrink(&mut self) {
        self.outbox.shrink();
    }
}
