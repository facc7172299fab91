//! The seam to HTTP for client ends: who sends a request, and where one session's requests go.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use super::{PathNotes, TransportError, media};
use crate::frame::{Batch, DecodeError, Encoding, Frame, Limits, Role, SessionId};

/// After such pauses a request is made again that is one too many for somebody on the way (429), and after the first three
/// of them where there is no room for it (503): that may be for long.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1500),
    Duration::from_millis(3000),
];
const PAUSES_FOR_ROOM: usize = 3;

/// How often such a pause is told from silence.
const SLICE: Duration = Duration::from_millis(500);

/// The longest pause that is made because an answer asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Any error, from outside.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of an answer, as it arrives.
pub type ExchangeBody = UnsyncBoxBody<Bytes, BoxError>;

/// Sends HTTP requests.
///
/// A request is sent by polling the future that [`Exchange::exchange`] returns and given up by dropping it, so an
/// implementation needs no timeout of its own. At most two are under way at once for one session.
#[async_trait]
pub trait Exchange: Send + Sync {
    /// Sends a request and waits for the head of the answer.
    ///
    /// # Cancel safety
    /// Dropped in the middle, the request may or may not arrive: the protocol repeats it.
    ///
    /// # Errors
    /// When no HTTP answer came, whatever the reason. An answer with an error status is an answer.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError>;
}

/// Where a client's requests go, and how.
#[derive(Clone)]
pub struct Endpoint {
    exchange: Arc<dyn Exchange>,
    uri: Uri,
    headers: HeaderMap,
    encoding: Encoding,
    limits: Limits,
    push_timeout: Duration,
    notes: Arc<PathNotes>,
}

impl Endpoint {
    /// An endpoint at the base URL, which may have a query, without headers of its own, in JSON.
    pub fn new(exchange: Arc<dyn Exchange>, uri: Uri) -> Self {
        Self {
            exchange,
            uri,
            headers: HeaderMap::new(),
            encoding: Encoding::Json,
            limits: Limits::default(),
            push_timeout: Duration::from_secs(3),
            notes: Arc::default(),
        }
    }

    /// Headers that every request bears, as cookies and tokens.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// The encoding of both directions. Default: JSON.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// What is taken and sent at most. What the peer's `welcome` says lowers what is sent.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// After how long, at most, a push without an answer is given up: within it four times as long as the last one
    /// took, at least a second; but where three round trips take longer, so long, up to 15 s. A large one has a second more for
    /// each 16 KiB, and twice as much after each that was lost, up to sixteen times and 2 min. Default: 3 s.
    #[must_use]
    pub fn push_timeout(mut self, timeout: Duration) -> Self {
        self.push_timeout = timeout;
        self
    }

    /// Shares what is known of the path. Default: nothing is.
    #[must_use]
    pub fn path_notes(mut self, notes: Arc<PathNotes>) -> Self {
        self.notes = notes;
        self
    }

    pub(super) fn notes(&self) -> &PathNotes {
        &self.notes
    }

    pub(super) fn encoding_used(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn limits_used(&self) -> Limits {
        self.limits
    }

    pub(super) fn push_timeout_used(&self) -> Duration {
        self.push_timeout
    }

    /// What a request accepts that is answered by a batch.
    pub(super) fn accept_batch(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => media::LINES,
            Encoding::Binary => media::BINARY,
        }
    }

    /// What a request accepts that is answered by a stream.
    pub(super) fn accept_stream(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => media::EVENT_STREAM,
            Encoding::Binary => media::BINARY,
        }
    }

    /// The `POST` of a batch of this session's.
    fn request(
        &self,
        session: SessionId,
        accept: &'static str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, BoxError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = session_uri(&self.uri, session)?;
        request.headers_mut().clone_from(&self.headers);
        let content_type = match self.encoding {
            Encoding::Json => media::TEXT,
            Encoding::Binary => media::BINARY,
        };
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        Ok(request)
    }

    /// Sends a batch; the head of the answer comes, whatever it is.
    pub(super) fn send(&self, session: SessionId, accept: &'static str, body: Bytes) -> Sending {
        let exchange = Arc::clone(&self.exchange);
        let request = self.request(session, accept, body);
        Box::pin(async move {
            let sent = match request {
                Ok(request) => exchange.exchange(request).await,
                Err(error) => Err(error),
            };
            sent.map_err(TransportError::Network)
        })
    }

    /// Sends a batch that is answered by a batch, whose bytes may be counted as they come.
    pub(super) fn ask(&self, session: SessionId, body: Bytes, count: Option<&Arc<AtomicU64>>) -> Asking {
        let count = count.map(Arc::clone);
        let (sending, limits) = (self.send(session, self.accept_batch(), body), self.limits);
        Box::pin(async move { Answer::read(sending.await?, limits, count.as_deref()).await })
    }

    /// The same, for what comes behind `hello`: what somebody on the way turns down for now is sent again. What
    /// is counted then moves at least twice a second.
    pub(super) fn insist(
        &self,
        session: SessionId,
        body: Bytes,
        count: Option<&Arc<AtomicU64>>,
        turned_down: &Arc<AtomicU64>,
    ) -> Asking {
        let (endpoint, count, turned_down) = (self.clone(), count.map(Arc::clone), Arc::clone(turned_down));
        Box::pin(async move {
            let mut made = 0;
            loop {
                let answered = endpoint.ask(session, body.clone(), count.as_ref()).await;
                let Err(TransportError::Http { status, retry_after }) = &answered else { return answered };
                let pause = pause_before_repeat(*status, *retry_after, made);
                let Some(mut left) = pause else { return answered };
                made += 1;
                while !left.is_zero() {
                    // Nobody is to take the pause for silence.
                    turned_down.fetch_add(1, Ordering::Relaxed);
                    let slice = left.min(SLICE);
                    tokio::time::sleep(slice).await;
                    left -= slice;
                }
                turned_down.fetch_add(1, Ordering::Relaxed);
            }
        })
    }
}

/// The pause after which a request that somebody on the way answered so is made again, where that is worth it after so many.
pub(crate) fn pause_before_repeat(
    status: u16,
    retry_after: Option<Duration>,
    made: usize,
) -> Option<Duration> {
    let worth = match StatusCode::from_u16(status) {
        Ok(StatusCode::TOO_MANY_REQUESTS) => true,
        Ok(StatusCode::SERVICE_UNAVAILABLE) => made < PAUSES_FOR_ROOM,
        _ => false,
    };
    let asked = retry_after.unwrap_or_default();
    PAUSES.get(made).filter(|_| worth && asked <= LONGEST_PAUSE).map(|pause| asked.max(*pause))
}

/// The URL of a request of this session's: the base URL and the public id, by which a balancer may route.
pub(crate) fn session_uri(base: &Uri, session: SessionId) -> Result<Uri, http::Error> {
    let mut parts = base.clone().into_parts();
    let old = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
    let joint = match old.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{old}{joint}session={session}"))?);
    Ok(Uri::from_parts(parts)?)
}

/// Its headers and the query of its URL may hold secrets, so they are not shown.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &self.uri.host())
            .field("path", &self.uri.path())
            .field("encoding", &self.encoding)
            .finish_non_exhaustive()
    }
}

/// A request under way.
pub(super) type Sending =
    Pin<Box<dyn Future<Output = Result<Response<ExchangeBody>, TransportError>> + Send>>;

/// A request under way whose answer is read whole.
pub(super) type Asking = Pin<Box<dyn Future<Output = Result<Answer, TransportError>> + Send>>;

/// A batch that answers a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) batch: Batch,
    /// Whether it is a `close` under an error status: then nothing else is in it.
    pub(super) refused: bool,
}

impl Answer {
    async fn read(
        response: Response<ExchangeBody>,
        limits: Limits,
        count: Option<&AtomicU64>,
    ) -> Result<Self, TransportError> {
        let (head, body) = response.into_parts();
        let encoding = match media::content_type(&head.headers).as_str() {
            media::LINES => Encoding::Json,
            media::BINARY => Encoding::Binary,
            // Nothing of ours: a captive portal, a proxy's own page.
            _ => return Err(not_ours(head.status, &head.headers)),
        };
        let bytes = collect(body, limits.max_batch_bytes, count).await?;
        let refused = !head.status.is_success();
        if refused {
            let first = Batch::new(bytes.clone(), encoding, Role::Server, limits)?.next();
            if !matches!(first, Some(Ok(Frame::Close(_)))) {
                return Err(not_ours(head.status, &head.headers));
            }
        }
        Ok(Self { batch: Batch::new(bytes, encoding, Role::Server, limits)?, refused })
    }
}

/// Reads a body whole.
async fn collect(
    mut body: ExchangeBody,
    limit: usize,
    count: Option<&AtomicU64>,
) -> Result<Bytes, TransportError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = body.frame().await {
        let Ok(bytes) = piece.map_err(TransportError::Network)?.into_data() else { continue };
        if whole.len().saturating_add(bytes.len()) > limit {
            return Err(DecodeError::TooLarge { what: "answer", limit }.into());
        }
        if let Some(count) = count {
            count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.freeze())
}

/// The error for an answer that is not of the protocol.
pub(crate) fn not_ours(status: StatusCode, headers: &HeaderMap) -> TransportError {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    TransportError::Http { status: status.as_u16(), retry_after: seconds.map(Duration::from_secs) }
}
