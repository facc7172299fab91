//! `POST`: `hello`, `poll` and `push` in request bodies.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::frame::{
    Batch, Close, CloseCode, DecodeError, Encoding, Frame, Hello, Limits, Poll, Role, TransportKind,
};
use crate::socket::PushAnswer;
use crate::transport::{Extent, Form, response};

use super::Inner;
use super::answer::{self, Answer};
use super::answering::{Awaited, Outcome};
use super::door::{Arrival, Visitor, broken, rest};
use super::route::{self, StreamForm};

/// What the headers of a request say about bodies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bodies {
    request: Option<Encoding>,
    /// Of a single answer.
    answer: Encoding,
    stream: Option<StreamForm>,
}

impl Bodies {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let request = route::body_encoding(headers);
        let answer = route::answer_encoding(headers, request.unwrap_or(Encoding::Json));
        Self { request, answer, stream: route::stream_form(headers) }
    }
}

/// A body that comes so soon had no time to be in anybody's way.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How slow an uplink may be.
const BYTES_PER_SECOND: usize = 2 << 10;

impl Inner {
    /// Judges a `POST`.
    pub(super) async fn exchange<B>(self: Arc<Self>, body: B, bodies: Bodies, visitor: Visitor) -> Outcome
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let judged = self.judge_exchange(body, bodies, visitor).await;
        judged.unwrap_or_else(|close| answer::close(&close, bodies.answer).into())
    }

    async fn judge_exchange<B>(
        self: Arc<Self>,
        body: B,
        bodies: Bodies,
        visitor: Visitor,
    ) -> Result<Outcome, Close>
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let Some(encoding) = bodies.request else {
            let reason = "a body is text/plain, application/x-ndjson or application/vnd.throughline";
            return Err(Close::new(CloseCode::NotAcceptable, reason));
        };
        let limits = self.settings.session.limits;
        let Some((bytes, mut place)) = self.read(body, limits.max_batch_bytes).await? else {
            return Ok(answer::late().into());
        };
        let mut batch = Batch::new(bytes, encoding, Role::Client, limits).map_err(|error| error.close())?;
        let first = batch.next().ok_or_else(|| broken("the body has no frames"))?;
        match first.map_err(|error| error.close())? {
            // Boxed: it is not to take its room in every poll and push.
            Frame::Hello(hello) => {
                if place.is_none() {
                    place = Some(self.place()?);
                }
                let judged = Box::pin(self.hello(hello, batch, bodies, &visitor)).await;
                drop(place);
                judged
            }
            Frame::Poll(poll) => {
                visitor.check(poll.session)?;
                self.poll(poll, batch, bodies.answer, limits)
            }
            Frame::Push(push) => {
                visitor.check(push.session)?;
                let (frames, malformed) = rest(batch);
                let answered = match self.deliver_push(*push, frames, malformed).await? {
                    PushAnswer::Ack(ack) => answer::frame(StatusCode::OK, bodies.answer, &Frame::Ack(ack)),
                    PushAnswer::Close(close) => answer::close(&close, bodies.answer),
                };
                Ok(answered.into())
            }
            _ => Err(broken("the first frame is not hello, poll or push")),
        }
    }

    /// Reads a body to its end. One that comes in one piece, as nearly all do, is not copied; and what comes at once takes nobody's
    /// place, so that bodies which stop shut out no session that is there. `None`: it did not come in time, which is more for what is
    /// large.
    async fn read<B>(
        &self,
        body: B,
        limit: usize,
    ) -> Result<Option<(Bytes, Option<OwnedSemaphorePermit>)>, Close>
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let too_large = || DecodeError::TooLarge { what: "body", limit }.close();
        if usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX) > limit {
            return Err(too_large());
        }
        let mut body = pin!(body);
        let (mut first, mut all, mut place) = (Bytes::new(), BytesMut::new(), None);
        let began = Instant::now();
        loop {
            let patience = self.settings.body_deadline + time_for(first.len().saturating_add(all.len()));
            let until = began + if place.is_none() { AT_ONCE.min(patience) } else { patience };
            let frame = match timeout_at(until, poll_fn(|cx| body.as_mut().poll_frame(cx))).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) if place.is_none() => {
                    place = Some(self.place()?);
                    continue;
                }
                Err(_) => return Ok(None),
            };
            let Ok(frame) = frame else { return Err(broken("the body was cut short")) };
            let Ok(mut data) = frame.into_data() else { continue };
            let count = data.remaining();
            if count > limit.saturating_sub(first.len()).saturating_sub(all.len()) {
                return Err(too_large());
            }
            if first.is_empty() && all.is_empty() {
                first = data.copy_to_bytes(count);
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&data.copy_to_bytes(count));
            }
            if body.is_end_stream() {
                break;
            }
        }
        Ok(Some((if all.is_empty() { first } else { all.freeze() }, place)))
    }

    async fn hello(
        self: &Arc<Self>,
        hello: Box<Hello>,
        batch: Batch,
        bodies: Bodies,
        visitor: &Visitor,
    ) -> Result<Outcome, Close> {
        let (form, extent) = match hello.transport {
            TransportKind::LongPolling => (form_of(bodies.answer), Extent::Answer),
            TransportKind::Sse => {
                let form = bodies.stream.ok_or_else(|| {
                    let reason =
                        "a stream is text/event-stream, application/vnd.throughline or application/x-ndjson";
                    Close::new(CloseCode::NotAcceptable, reason)
                })?;
                (form_of_stream(form), Extent::Stream)
            }
            TransportKind::WebSocket => return Err(broken("a WebSocket is opened by GET")),
        };
        // What is wrong behind a `hello` refuses it too: nothing has happened yet.
        let behind = batch.collect::<Result<Vec<_>, DecodeError>>().map_err(|error| error.close())?;
        let media = form.content_type();
        let (transport, head) = response(hello.transport, form, extent, self.settings.session.limits);
        let arrival = Arrival { hello, transport: Box::new(transport), behind };
        match self.let_in(visitor, super::door::Sort::Full, arrival).await {
            Ok(()) => Ok(Outcome::Await(Awaited { head, media, encoding: bodies.answer })),
            Err(refused) => Err(refused.close),
        }
    }

    fn poll(
        &self,
        poll: Box<Poll>,
        mut batch: Batch,
        encoding: Encoding,
        limits: Limits,
    ) -> Result<Outcome, Close> {
        match batch.next() {
            None => {}
            Some(Ok(_)) => return Err(broken("a poll stands alone")),
            Some(Err(error)) => return Err(error.close()),
        }
        let form = form_of(encoding);
        let media = form.content_type();
        let (transport, head) = response(TransportKind::LongPolling, form, Extent::Answer, limits);
        self.deliver_poll(poll, Box::new(transport))?;
        Ok(Outcome::Await(Awaited { head, media, encoding }))
    }
}

const fn form_of(encoding: Encoding) -> Form {
    match encoding {
        Encoding::Json => Form::Lines,
        Encoding::Binary => Form::Frames,
    }
}

const fn form_of_stream(form: StreamForm) -> Form {
    match form {
        StreamForm::EventStream => Form::EventStream,
        StreamForm::Frames => Form::Frames,
        StreamForm::Lines => Form::Lines,
    }
}

/// How long so many bytes may take. A client comes to allow as much, [P4].
fn time_for(bytes: usize) -> Duration {
    Duration::from_secs((bytes / BYTES_PER_SECOND) as u64)
}

/// The discovery document.
pub(super) fn discovery(server: &Inner) -> Answer {
    let settings = &server.settings;
    let draining = server.draining.get().is_some();
    let transports: Vec<_> = settings.session.transports.iter().map(|kind| kind.as_str()).collect();
    let limits = settings.session.limits;
    let document = serde_json::json!({
        "name": "throughline",
        "library": env!("CARGO_PKG_VERSION"),
        "protocols": [crate::transport::SUBPROTOCOL],
        "transports": transports,
        "plain": { "events": settings.plain_events, "websocket": settings.plain_websocket },
        "limits": {
            "max_message_bytes": limits.max_message_bytes,
            "max_batch_bytes": limits.max_batch_bytes,
            "max_batch_frames": limits.max_batch_frames,
        },
        "status": if draining { "draining" } else { "serving" },
    });
    let status = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut answer = answer::bytes(status, "application/json", format!("{document}\n"));
    if draining {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}
