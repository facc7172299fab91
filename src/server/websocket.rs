//! WebSockets: who is let in by the opening handshake, and the greeting behind it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use crate::frame::{Close, CloseCode, Encoding, Frame, Hello, TransportKind, Window};
use crate::socket::Driver;
use crate::transport::{PlainWebSocket, Received, SUBPROTOCOL, Transport, TransportError, WebSocket, media};

use super::answer::{self, Answer};
use super::door::{Arrival, Refused, Sort, Visitor, broken, dismiss};
use super::opening::Opening;
use super::{Inner, random, route};

/// The answer to a WebSocket's headers without an Upgrade.
pub(super) fn stripped() -> Answer {
    let text = "This request has the headers of a WebSocket but no Upgrade: something between the client and this \
                server has taken it out, or asked by HTTP/1.0 (nginx: `proxy_http_version 1.1`). Use server-sent events or long-polling, or let the proxy pass Upgrade.\n";
    upgrade_required(text)
}

/// The answer to a WebSocket of another version.
pub(super) fn other_version() -> Answer {
    let mut answer = upgrade_required("Only version 13 of the WebSocket protocol is spoken here.\n");
    answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    answer
}

fn upgrade_required(text: &'static str) -> Answer {
    let mut answer = answer::bytes(StatusCode::UPGRADE_REQUIRED, media::TEXT, text);
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer
}

/// An answer that tells the client to take another transport. It is no `close`, because the session can live.
fn not_here(text: &'static str) -> Answer {
    answer::bytes(StatusCode::NOT_IMPLEMENTED, media::TEXT, text)
}

/// What the headers of an opening handshake ask for, and the answer if all goes well.
pub(super) struct Offer {
    /// Whether they name the subprotocol.
    speaks: bool,
    answer: Result<Answer, Close>,
}

impl Offer {
    pub(super) fn of(opening: Opening, headers: &HeaderMap) -> Self {
        let speaks = route::has_word(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        Self { speaks, answer: opening.accept(headers) }
    }
}

/// A WebSocket's greeting and, if it begins a session, that session's driver: one task for both.
#[expect(clippy::large_enum_variant, reason = "the driver lives in it for as long as the session does")]
enum Reception {
    Greeting(Pin<Box<dyn Future<Output = Option<Driver>> + Send>>),
    Driving(Driver),
}

impl Future for Reception {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Greeting(greeting) => match ready!(greeting.as_mut().poll(cx)) {
                    Some(driver) => *self = Self::Driving(driver),
                    None => return Poll::Ready(()),
                },
                Self::Driving(driver) => return Pin::new(driver).poll(cx),
            }
        }
    }
}

impl Inner {
    /// Answers the opening handshake, and leaves the rest to a task.
    pub(super) fn open_websocket(
        self: &Arc<Self>,
        offer: Offer,
        upgrade: Option<OnUpgrade>,
        visitor: Visitor,
        plain: bool,
    ) -> Result<Answer, Close> {
        let Offer { speaks, answer } = offer;
        // Who names the subprotocol is taken at its word: it would say its key to the application.
        let plain = plain && !speaks;
        if plain && !self.settings.plain_websocket {
            return Err(Close::new(CloseCode::NotAcceptable, "plain WebSockets are not served here"));
        }
        if !plain && self.check_offered(TransportKind::WebSocket).is_err() {
            return Ok(not_here("No WebSockets are served here: use another transport.\n"));
        }
        if !plain && !speaks {
            let reason = "the subprotocol must be throughline.v1; clients without the library add ?plain";
            return Err(Close::new(CloseCode::UnsupportedVersion, reason));
        }
        let mut answer = answer?;
        let Some(upgrade) = upgrade else {
            tracing::error!("the HTTP connection cannot be upgraded: serve it with_upgrades");
            return Ok(not_here(
                "The host of this service does not let connections be upgraded (in hyper: `with_upgrades`). Use \
                 another transport.\n",
            ));
        };
        self.check_draining()?;
        let place = self.place()?;
        let greeting = Box::pin(Arc::clone(self).greet(upgrade, visitor, plain, place));
        self.tasks.spawn(Reception::Greeting(greeting));
        if speaks {
            answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        Ok(answer)
    }

    /// Brings a WebSocket to its session, or tells it why not. The driver of a new session is to be run.
    async fn greet(
        self: Arc<Self>,
        upgrade: OnUpgrade,
        visitor: Visitor,
        plain: bool,
        place: OwnedSemaphorePermit,
    ) -> Option<Driver> {
        let deadline = tokio::time::Instant::now() + self.settings.hello_deadline;
        let upgraded = match tokio::time::timeout_at(deadline, upgrade).await {
            Ok(Ok(upgraded)) => upgraded,
            Ok(Err(error)) if !error.is_canceled() => {
                tracing::warn!(%error, "a connection was not upgraded: is it served with_upgrades?");
                return None;
            }
            _ => {
                tracing::debug!("a connection ended before it was upgraded");
                return None;
            }
        };
        let io = TokioIo::new(upgraded);
        let limits = self.settings.session.limits;
        let (greeted, transport): (_, Box<dyn Transport>) = if plain {
            let transport = PlainWebSocket::new(io, limits).await;
            (hello_of_plain(TransportKind::WebSocket), Box::new(transport))
        } else {
            let mut transport = WebSocket::server(io, limits).await;
            let first = tokio::time::timeout_at(deadline, poll_fn(|cx| transport.poll_recv(cx))).await;
            let Ok(first) = first else {
                tracing::debug!("no hello in time");
                // Not a word in band: the network may be slow, and the session is not to end for that.
                drop(place);
                dismiss(Box::new(transport), None).await;
                return None;
            };
            (judge_first(first)?, Box::new(transport))
        };
        let refused = match greeted {
            Ok(hello) => {
                let sort = if plain { Sort::Plain } else { Sort::Full };
                let arrival = Arrival { hello, transport, behind: Vec::new() };
                match self.bring_in(&visitor, sort, arrival).await {
                    Ok(driver) => return driver,
                    Err(refused) => refused,
                }
            }
            Err(close) => Refused { close, transport: Some(transport) },
        };
        drop(place);
        tracing::debug!(close = %refused.close, "a WebSocket was refused");
        if let Some(transport) = refused.transport {
            dismiss(transport, Some(refused.close)).await;
        }
        None
    }
}

/// What to make of what came first. None: there is nobody to answer.
fn judge_first(first: Result<Received, TransportError>) -> Option<Result<Box<Hello>, Close>> {
    match first {
        Ok(Received::Frame(Frame::Hello(hello))) if hello.transport == TransportKind::WebSocket => {
            Some(Ok(hello))
        }
        Ok(Received::Frame(Frame::Hello(_))) => Some(Err(broken("hello names another transport"))),
        Ok(_) => Some(Err(broken("the first frame is not hello"))),
        Err(TransportError::Decode(error)) => Some(Err(error.close())),
        Err(_) => None,
    }
}

/// What a client without a library would say.
pub(super) fn hello_of_plain(transport: TransportKind) -> Result<Box<Hello>, Close> {
    let (session, key) = random::identity()?;
    // What is written counts as taken: the transport says so.
    let window = Window { messages: 1024, bytes: 1 << 20 };
    Ok(Box::new(Hello::new(session, key, transport, window)))
}

/// A close as the answer to a request without a body.
pub(super) fn refusal(close: &Close) -> Answer {
    answer::close(close, Encoding::Json)
}
