//! Opens transports to one server.

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;

use crate::frame::{
    Batch, Close, CloseCode, Encoding, Frame, Json, Limits, Retry, Role, SessionId, TransportKind,
};
use crate::transport::{
    BoxError, Endpoint, PathNotes, Polling, SUBPROTOCOL, Streaming, Transport, TransportError, WebSocket,
    media, not_ours, pause_before_repeat, session_uri,
};

use super::connect::{Connector, LinkError, Purpose, Setup};
use super::exchange::HyperExchange;
use super::http2::{self, Asked};
use super::link::{Link, Protocol, Stream};
use super::patience::Patience;
use super::token::{Freshness, TokenSource};

/// How long to wait where there are too many requests (429; RFC 6585, section 4) and the answer does not say.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);

/// What it takes to dial one server.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) base: Uri,
    pub(super) connector: Connector,
    /// What requests have found out about the way to the server.
    pub(super) notes: Arc<PathNotes>,
    /// Set when this server was found to take WebSockets by HTTP/1.1 only.
    pub(super) upgrades_only: AtomicBool,
    pub(super) headers: HeaderMap,
    pub(super) encoding: Encoding,
    pub(super) limits: Limits,
    /// Bounds each step: the token, the connection, the handshake.
    pub(super) patience: Patience,
    pub(super) tokens: Option<TokenSource>,
}

/// A transport that is open as far as it can be before `hello`, and what its `hello` bears.
pub(super) struct Dialled {
    pub(super) transport: Box<dyn Transport>,
    pub(super) auth: Option<Json>,
    /// How new its token was asked to be.
    pub(super) freshness: Freshness,
}

/// Why a transport was not opened.
#[derive(Debug)]
pub(super) struct DialError {
    pub(super) verdict: Verdict,
    /// For people.
    pub(super) reason: Arc<str>,
}

/// What a failure says about the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This transport does not work here: the next may.
    Transport,
    /// The server does not offer this transport.
    NotOffered(Close),
    /// This transport was turned down for now.
    Later(TurnedDown),
    /// No transport can work now: nobody is reached at all, or there is no token.
    Host,
    /// No transport can work before somebody changes how this client is set up.
    Setup(Setup),
    /// The server said in band what the matter is.
    Closed(Close),
}

/// How somebody on the way said: not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnedDown {
    status: u16,
    retry_after: Option<Duration>,
}

impl TurnedDown {
    /// What an answer says, if it is that.
    fn by(status: u16, retry_after: Option<Duration>) -> Option<Self> {
        let now = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let told = retry_after.is_some() || now.iter().any(|code| code.as_u16() == status);
        told.then_some(Self { status, retry_after })
    }

    /// The pause after which the same is tried again, where that is worth it after so many.
    pub(super) fn pause(self, made: usize) -> Option<Duration> {
        pause_before_repeat(self.status, self.retry_after, made)
    }

    /// How long to wait where it is not, before anything else.
    pub(super) fn wait(self) -> Option<Duration> {
        // The next one now would be one too many as well.
        let too_many = (self.status == StatusCode::TOO_MANY_REQUESTS.as_u16()).then_some(WAIT_FOR_ROOM);
        self.retry_after.or(too_many)
    }
}

impl Dialer {
    /// Opens a transport.
    ///
    /// SSE and long-polling open their connection only: `hello` is their first request. So nothing of a session is
    /// put on a transport that reaches nobody.
    pub(super) async fn open(
        &self,
        kind: TransportKind,
        session: SessionId,
    ) -> Result<Box<dyn Transport>, DialError> {
        Ok(match kind {
            TransportKind::WebSocket => Box::new(self.websocket(session).await?),
            TransportKind::Sse => Box::new(Streaming::new(self.endpoint().await?)),
            TransportKind::LongPolling => Box::new(Polling::new(self.endpoint().await?)),
        })
    }

    /// Fetches a token, if there is a source of them.
    pub(super) async fn token(&self, freshness: Freshness) -> Result<Option<Json>, DialError> {
        let Some(source) = &self.tokens else { return Ok(None) };
        match timeout(self.patience.get(), source.fetch(freshness)).await {
            Ok(Ok(token)) => Ok(Some(token)),
            Ok(Err(error)) => {
                let reason = format!("there is no token: {}", chain(error.as_ref()));
                Err(DialError::new(Verdict::Host, reason))
            }
            Err(_) => Err(DialError::new(Verdict::Host, "there is no token in time")),
        }
    }

    async fn connect(&self, purpose: Purpose) -> Result<Stream, DialError> {
        match timeout(self.patience.get(), self.connector.connect(&self.base, purpose)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.judge_link(&error)),
            Err(_) => Err(DialError::new(Verdict::Host, "the server cannot be reached in time")),
        }
    }

    fn judge_link(&self, error: &LinkError) -> DialError {
        let verdict = match error {
            LinkError::Setup(setup) => Verdict::Setup(setup.clone()),
            // Whole requests need no tunnel.
            LinkError::TunnelRefused { .. } if self.base.scheme() == Some(&Scheme::HTTP) => {
                Verdict::Transport
            }
            LinkError::TunnelRefused { .. } | LinkError::Unreached(_) => Verdict::Host,
        };
        DialError::new(verdict, chain(error))
    }

    async fn endpoint(&self) -> Result<Endpoint, DialError> {
        let first = self.connect(Purpose::Requests).await?;
        let exchange = HyperExchange::new(first, self.connector.clone());
        Ok(Endpoint::new(Arc::new(exchange), self.base.clone())
            .headers(self.headers.clone())
            .encoding(self.encoding)
            .limits(self.limits)
            .path_notes(Arc::clone(&self.notes)))
    }

    /// Opens a WebSocket, on HTTP/2 where that was agreed on and the server allows it.
    async fn websocket(&self, session: SessionId) -> Result<WebSocket<Link>, DialError> {
        let purpose = match self.upgrades_only.load(Ordering::Relaxed) {
            true => Purpose::WebSocketByUpgrade,
            false => Purpose::WebSocket,
        };
        let stream = self.connect(purpose).await?;
        if stream.inner().protocol() == Protocol::Http1 {
            return self.in_time(self.upgrade(stream, session)).await;
        }
        let request = self.connect_request(session).map_err(|error| DialError::unsaid(error.as_ref()))?;
        let asking = async { Ok(http2::ask_websocket(stream, request).await) };
        match self.in_time(asking).await? {
            Ok(Asked::Opened(link)) => return Ok(WebSocket::client(link, self.encoding, self.limits).await),
            Ok(Asked::Refused(answer)) => {
                let error = self.judge(answer);
                if error.verdict != Verdict::Transport {
                    return Err(error);
                }
                tracing::debug!(reason = %error.reason, "extended CONNECT was refused");
            }
            Ok(Asked::NotAllowed) => {}
            Err(error) => tracing::debug!(%error, "extended CONNECT failed"),
        }
        // What stands there may know how to upgrade all the same. If it does it is not asked the other way again.
        let stream = self.connect(Purpose::WebSocketByUpgrade).await?;
        let opened = self.in_time(self.upgrade(stream, session)).await?;
        self.upgrades_only.store(true, Ordering::Relaxed);
        Ok(opened)
    }

    /// Has each step take as long as is right after so much time without a transport.
    pub(super) fn adapt(&self, adrift: Duration) {
        self.patience.adapt(adrift, self.notes.least_trip().unwrap_or_default());
    }

    /// Forgets what was found out about the way to the server.
    pub(super) fn forget(&self) {
        self.upgrades_only.store(false, Ordering::Relaxed);
        self.notes.forget();
    }

    async fn in_time<T>(&self, opening: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
        let late = |_| DialError::new(Verdict::Transport, "the upgrade was not answered in time");
        timeout(self.patience.get(), opening).await.map_err(late)?
    }

    async fn upgrade(&self, stream: Stream, session: SessionId) -> Result<WebSocket<Link>, DialError> {
        let request = self.upgrade_request(session).map_err(|error| DialError::unsaid(error.as_ref()))?;
        let asked = Instant::now();
        let opened = WebSocket::dial(stream.into_inner(), request, self.encoding, self.limits).await;
        match opened {
            Ok((transport, _)) => {
                self.notes.took(asked.elapsed());
                Ok(transport)
            }
            Err(tungstenite::Error::Http(response)) => Err(self.judge(*response)),
            Err(error) => Err(DialError::unsaid(&error)),
        }
    }

    /// The opening handshake of HTTP/1.1 (RFC 6455).
    fn upgrade_request(&self, session: SessionId) -> Result<Request<()>, BoxError> {
        let mut parts = session_uri(&self.base, session)?.into_parts();
        parts.scheme = Some("ws".parse()?);
        let mut request = Uri::from_parts(parts)?.into_client_request()?;
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        Ok(request)
    }

    /// The opening handshake of HTTP/2 (RFC 8441).
    fn connect_request(&self, session: SessionId) -> Result<Request<()>, BoxError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = session_uri(&self.base, session)?;
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        request.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        Ok(request)
    }

    /// Judges the answer to an upgrade that is none: ours if a `close` is in it, else somebody's on the way.
    fn judge(&self, response: Response) -> DialError {
        let (head, body) = response.into_parts();
        let ours = media::content_type(&head.headers) == media::LINES;
        let batch = body
            .filter(|_| ours)
            .and_then(|body| Batch::new(body.into(), Encoding::Json, Role::Server, self.limits).ok());
        if let Some(Ok(Frame::Close(close))) = batch.and_then(|mut batch| batch.next()) {
            let reason = close.to_string();
            let verdict = match (&close.code, close.code.retry()) {
                (CloseCode::NotAcceptable, _) => Verdict::NotOffered(close),
                (CloseCode::Unauthorized | CloseCode::Forbidden | CloseCode::UnsupportedVersion, _)
                | (_, Retry::Backoff | Retry::FreshToken) => Verdict::Closed(close),
                _ => Verdict::Transport,
            };
            return DialError::new(verdict, reason);
        }
        if head.status == StatusCode::UPGRADE_REQUIRED {
            // The server says so when WebSocket headers come without it (`docs/PROTOCOL.md`, "WebSocket").
            let reason = "a box on the way took the header Upgrade away (HTTP status 426)";
            return DialError::new(Verdict::Transport, reason);
        }
        DialError::of(&not_ours(head.status, &head.headers))
    }
}

impl DialError {
    fn new(verdict: Verdict, reason: impl Into<Arc<str>>) -> Self {
        Self { verdict, reason: reason.into() }
    }

    /// A transport that does not open, and nobody says why.
    fn unsaid(error: &(dyn Error + 'static)) -> Self {
        Self::new(Verdict::Transport, chain(error))
    }

    /// What the end of a transport says about the next attempt.
    pub(super) fn of(error: &TransportError) -> Self {
        let verdict = match (error, Setup::behind(error)) {
            (_, Some(setup)) => Verdict::Setup(setup),
            (TransportError::Http { status, retry_after }, _) => {
                TurnedDown::by(*status, *retry_after).map_or(Verdict::Transport, Verdict::Later)
            }
            _ => Verdict::Transport,
        };
        Self::new(verdict, chain(error))
    }
}

/// An error and what is behind it, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}
