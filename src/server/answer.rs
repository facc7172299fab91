//! Answers: their headers and their bodies.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL,
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body::SizeHint;

use crate::frame::{BatchWriter, Close, Encoding, Frame};
use crate::transport;
use crate::transport::media;

use super::origin;

/// The methods that there are.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");

/// What an answer says depends on the page that asks.
const ORIGIN_VARIES: HeaderValue = HeaderValue::from_static("origin");

/// The body of an answer: some bytes, or what a session writes.
#[derive(Debug)]
pub struct AnswerBody(Inner);

#[derive(Debug)]
enum Inner {
    Bytes(Bytes),
    Written(transport::ResponseBody),
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Inner::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Bytes(bytes) => Poll::Ready(Some(Ok(http_body::Frame::data(std::mem::take(bytes))))),
            Inner::Written(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Bytes(bytes) => bytes.is_empty(),
            Inner::Written(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Bytes(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Inner::Written(body) => body.size_hint(),
        }
    }
}

/// An answer of this server.
pub(super) type Answer = Response<AnswerBody>;

/// The media type of one answer.
pub(super) const fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => media::LINES,
        Encoding::Binary => media::BINARY,
    }
}

/// An answer of some bytes.
pub(super) fn bytes(status: StatusCode, media: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(AnswerBody(Inner::Bytes(bytes.into())));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers(media);
    answer
}

/// An answer of one frame.
pub(super) fn frame(status: StatusCode, encoding: Encoding, frame: &Frame) -> Answer {
    let mut batch = BatchWriter::new(encoding);
    batch.push(frame);
    bytes(status, media_type(encoding), batch.take())
}

/// An answer that is a close, with its status.
pub(super) fn close(close: &Close, encoding: Encoding) -> Answer {
    let mut answer = frame(status(close), encoding, &Frame::Close(close.clone()));
    mark(&mut answer, close);
    answer
}

/// An answer that a session writes.
pub(super) fn written(body: transport::ResponseBody, media: &'static str) -> Answer {
    let mut answer = Response::new(AnswerBody(Inner::Written(body)));
    *answer.headers_mut() = headers(media);
    answer
}

/// A stream of events that ends at once, and says when to ask again.
pub(super) fn come_back(close: &Close) -> Answer {
    let after = close.detail.retry_after_ms.unwrap_or(5_000);
    bytes(StatusCode::OK, media::EVENT_STREAM, format!("retry: {after}\n: {}\n\n", close.code))
}

/// A `101` without a body.
pub(super) fn switching() -> Answer {
    let mut answer = Response::new(AnswerBody(Inner::Bytes(Bytes::new())));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(VARY, ORIGIN_VARIES);
    answer
}

/// A `200` without a body, which opens a tunnel.
pub(super) fn tunnel() -> Answer {
    let mut answer = Response::new(AnswerBody(Inner::Bytes(Bytes::new())));
    answer.headers_mut().insert(VARY, ORIGIN_VARIES);
    answer
}

/// What no method fits.
pub(super) fn not_allowed() -> Answer {
    let mut answer = bytes(StatusCode::METHOD_NOT_ALLOWED, media::TEXT, "use GET or POST\n");
    answer.headers_mut().insert(ALLOW, METHODS);
    answer
}

/// To a request whose body does not come to its end. It is no `close`: the network is slow, and no session ends for
/// that.
pub(super) fn late() -> Answer {
    bytes(StatusCode::REQUEST_TIMEOUT, media::TEXT, "the body took too long\n")
}

/// The answer to `OPTIONS`.
pub(super) fn preflight(from: &origin::From) -> Answer {
    let mut answer = Response::new(AnswerBody(Inner::Bytes(Bytes::new())));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(VARY, ORIGIN_VARIES);
    headers.insert(ALLOW, METHODS);
    if matches!(from, origin::From::Allowed(_)) {
        let asked = "Accept, Authorization, Cache-Control, Content-Type, Last-Event-ID";
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(asked));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    answer
}

/// Lets a page of an allowed origin read the answer.
pub(super) fn share(answer: &mut Answer, from: &origin::From) {
    if let origin::From::Allowed(origin) = from {
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_name(RETRY_AFTER));
    }
}

fn status(close: &Close) -> StatusCode {
    StatusCode::from_u16(close.code.http_status()).unwrap_or(StatusCode::GONE)
}

/// The headers that some statuses want.
fn mark(answer: &mut Answer, close: &Close) {
    let status = answer.status();
    let headers = answer.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110, section 15.5.2 wants one. A scheme that browsers do not know brings up no dialog.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Throughline"));
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let seconds = close.detail.retry_after_ms.map_or(1, |after| after.div_ceil(1000));
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// What every answer with a body says. The maps are made once: copying one is cheaper than filling it.
fn headers(media: &'static str) -> HeaderMap {
    static KNOWN: LazyLock<Vec<(&str, HeaderMap)>> = LazyLock::new(|| {
        let known = [media::LINES, media::BINARY, media::EVENT_STREAM, media::TEXT];
        known.map(|media| (media, make_headers(media))).into()
    });
    let known = KNOWN.iter().find(|(known, _)| *known == media);
    known.map_or_else(|| make_headers(media), |(_, headers)| headers.clone())
}

fn make_headers(media: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(VARY, ORIGIN_VARIES);
    // Keeps boxes on the way from storing, compressing or holding back.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}
