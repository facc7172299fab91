//! Opens transports to one server.

use std::error::Error;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tower_service::Service;

use crate::frame::{
    Batch, Close, CloseCode, Encoding, Frame, Json, Limits, Retry, Role, SessionId, TransportKind,
};
use crate::transport::{
    BoxError, Endpoint, Polling, SUBPROTOCOL, Streaming, Transport, TransportError, WebSocket, media,
    not_ours, session_uri,
};

use super::exchange::{HyperExchange, Stream};
use super::token::{Freshness, TokenSource};

/// What it takes to dial one server.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) base: Uri,
    pub(super) headers: HeaderMap,
    pub(super) encoding: Encoding,
    pub(super) limits: Limits,
    /// Bounds each step: the token, the connection, the handshake.
    pub(super) patience: Duration,
    pub(super) tokens: Option<TokenSource>,
}

/// A transport that is open as far as it can be before `hello`, and what its `hello` bears.
pub(super) struct Dialled {
    pub(super) transport: Box<dyn Transport>,
    pub(super) auth: Option<Json>,
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
    /// This transport was turned down for now, and this is how long.
    Later(Duration),
    /// No transport can work now: nobody is reached at all, or there is no token.
    Host,
    /// The server said in band what the matter is.
    Closed(Close),
}

impl Dialer {
    /// Opens a transport.
    ///
    /// SSE and long-polling open their connection only: `hello` is their first request. So nothing of a session is
    /// put on a transport that reaches nobody.
    pub(super) async fn dial(
        &self,
        kind: TransportKind,
        session: SessionId,
        freshness: Freshness,
    ) -> Result<Dialled, DialError> {
        let auth = self.token(freshness).await?;
        let connector = self.connector();
        let connecting = timeout(self.patience, connect(connector.clone(), self.base.clone()));
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(DialError::new(Verdict::Host, chain(error.as_ref()))),
            Err(_) => return Err(DialError::new(Verdict::Host, "the server cannot be reached in time")),
        };
        let transport: Box<dyn Transport> = match kind {
            TransportKind::WebSocket => match timeout(self.patience, self.upgrade(stream, session)).await {
                Ok(opened) => Box::new(opened?),
                Err(_) => {
                    return Err(DialError::new(Verdict::Transport, "the upgrade was not answered in time"));
                }
            },
            TransportKind::Sse => Box::new(Streaming::new(self.endpoint(stream, connector))),
            TransportKind::LongPolling => Box::new(Polling::new(self.endpoint(stream, connector))),
        };
        Ok(Dialled { transport, auth })
    }

    /// Fetches a token, if there is a source of them.
    pub(super) async fn token(&self, freshness: Freshness) -> Result<Option<Json>, DialError> {
        let Some(source) = &self.tokens else { return Ok(None) };
        match timeout(self.patience, source.fetch(freshness)).await {
            Ok(Ok(token)) => Ok(Some(token)),
            Ok(Err(error)) => {
                let reason = format!("there is no token: {}", chain(error.as_ref()));
                Err(DialError::new(Verdict::Host, reason))
            }
            Err(_) => Err(DialError::new(Verdict::Host, "there is no token in time")),
        }
    }

    fn connector(&self) -> HttpConnector {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.patience));
        connector
    }

    fn endpoint(&self, first: Stream, others: HttpConnector) -> Endpoint {
        Endpoint::new(Arc::new(HyperExchange::new(first, others)), self.base.clone())
            .headers(self.headers.clone())
            .encoding(self.encoding)
            .limits(self.limits)
    }

    async fn upgrade(
        &self,
        stream: Stream,
        session: SessionId,
    ) -> Result<WebSocket<tokio::net::TcpStream>, DialError> {
        let request = self
            .upgrade_request(session)
            .map_err(|error| DialError::new(Verdict::Transport, chain(error.as_ref())))?;
        let opened = WebSocket::dial(stream.into_inner(), request, self.encoding, self.limits).await;
        match opened {
            Ok((transport, _)) => Ok(transport),
            Err(tungstenite::Error::Http(response)) => Err(self.judge(*response)),
            Err(error) => Err(DialError::new(Verdict::Transport, chain(&error))),
        }
    }

    fn upgrade_request(&self, session: SessionId) -> Result<http::Request<()>, BoxError> {
        let mut parts = session_uri(&self.base, session)?.into_parts();
        parts.scheme = Some("ws".parse()?);
        let mut request = Uri::from_parts(parts)?.into_client_request()?;
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
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
        DialError::of(&not_ours(head.status, &head.headers))
    }
}

impl DialError {
    fn new(verdict: Verdict, reason: impl Into<Arc<str>>) -> Self {
        Self { verdict, reason: reason.into() }
    }

    /// What the end of a transport says about the next attempt.
    pub(super) fn of(error: &TransportError) -> Self {
        let verdict = match error {
            TransportError::Http { retry_after: Some(wait), .. } => Verdict::Later(*wait),
            _ => Verdict::Transport,
        };
        Self::new(verdict, chain(error))
    }
}

async fn connect(mut connector: HttpConnector, uri: Uri) -> Result<Stream, BoxError> {
    poll_fn(|cx| connector.poll_ready(cx)).await?;
    Ok(connector.call(uri).await?)
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
