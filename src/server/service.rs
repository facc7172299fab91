//! The one service: hyper's and tower's, for any body.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, Version};
use http_body::Body;
use hyper::upgrade::OnUpgrade;

use crate::frame::{Close, CloseCode};

use super::answer::{self, Answer, AnswerBody};
use super::answering::Answering;
use super::auth::Presented;
use super::door::{Visitor, broken};
use super::events::Wish;
use super::exchange::{self, Bodies};
use super::opening::Opening;
use super::route::{self, Route};
use super::{Inner, browser, origin, websocket};

/// What answers the requests for one URL. It looks at the method, the headers and the query, never at the path.
///
/// It is a [`hyper::service::Service`] and a [`tower_service::Service`] for requests with any body, always ready,
/// and never fails. Clones share everything.
#[derive(Clone, Debug)]
pub struct Service {
    server: Arc<Inner>,
}

impl<B> hyper::service::Service<Request<B>> for Service
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<B>) -> Answering {
        self.respond(request)
    }
}

impl<B> tower_service::Service<Request<B>> for Service
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        self.respond(request)
    }
}

/// What is left to do for a request whose head was judged.
enum Next {
    Answer(Answer),
    Exchange(Bodies, Visitor),
    Events(Wish, Visitor),
}

impl Service {
    pub(super) fn new(server: Arc<Inner>) -> Self {
        Self { server }
    }

    fn respond<B>(&self, mut request: Request<B>) -> Answering
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let from = self.server.settings.origins.judge(request.headers(), request.uri());
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        // From here on the head is gone: what waits for long must not pin hyper's buffer.
        let (parts, body) = request.into_parts();
        let next = self.judge(parts, upgrade, &from).unwrap_or_else(|close| {
            tracing::debug!(%close, "a request was refused");
            Next::Answer(websocket::refusal(&close))
        });
        let server = Arc::clone(&self.server);
        match next {
            Next::Answer(answer) => Answering::judged(answer.into(), from),
            Next::Exchange(bodies, visitor) => {
                Answering::judging(server.exchange(body, bodies, visitor), from)
            }
            Next::Events(wish, visitor) => Answering::judging(server.events(wish, visitor), from),
        }
    }

    fn judge(
        &self,
        parts: http::request::Parts,
        upgrade: Option<OnUpgrade>,
        from: &origin::From,
    ) -> Result<Next, Close> {
        let opening = Opening::of(&parts);
        let route = match opening {
            Opening::Upgrade => match route::route(&parts.method, &parts.uri, &parts.headers) {
                // An Upgrade in a request of HTTP/1.0 is to be ignored (RFC 9110, section 7.8).
                Route::WebSocket | Route::PlainWebSocket if parts.version == Version::HTTP_10 => {
                    Route::Stripped
                }
                route => route,
            },
            Opening::Connect => route::route_connect(&parts.uri, &parts.headers),
        };
        if *from == origin::From::Refused {
            return Err(Close::new(CloseCode::Forbidden, "pages of this origin are not let in"));
        }
        let opens =
            matches!(route, Route::WebSocket | Route::PlainWebSocket | Route::Events | Route::Exchange);
        if *from == origin::From::Foreign && opens {
            return Err(Close::new(CloseCode::Forbidden, "another site asks, and does not say which"));
        }
        Ok(match route {
            Route::WebSocket | Route::PlainWebSocket => {
                let offer = websocket::Offer::of(opening, &parts.headers);
                let visitor = self.visitor(parts, from)?;
                let plain = route == Route::PlainWebSocket;
                Next::Answer(self.server.open_websocket(offer, upgrade, visitor, plain)?)
            }
            Route::OtherWebSocket => Next::Answer(websocket::other_version()),
            Route::Stripped => Next::Answer(websocket::stripped()),
            Route::Events => Next::Events(Wish::of(&parts.headers), self.visitor(parts, from)?),
            Route::Script(script) if self.server.settings.browser_client => {
                Next::Answer(browser::answer(script, &parts.headers))
            }
            Route::Discovery | Route::Script(_) => Next::Answer(exchange::discovery(&self.server)),
            Route::Exchange => Next::Exchange(Bodies::of(&parts.headers), self.visitor(parts, from)?),
            Route::Preflight => Next::Answer(answer::preflight(from)),
            Route::NotAllowed => Next::Answer(answer::not_allowed()),
        })
    }

    /// What of a request is kept until its `hello` is judged: nothing, if nobody is going to look.
    fn visitor(&self, parts: http::request::Parts, from: &origin::From) -> Result<Visitor, Close> {
        let named = route::parameters(&parts.uri).find(|(name, _)| *name == "session");
        let session = named.map(|(_, id)| id.parse()).transpose();
        let session = session.map_err(|_| broken("the query names no session"))?;
        let settings = &self.server.settings;
        let presented = match settings.authenticator.is_some() || settings.policy.is_some() {
            true => Presented::new(parts, from.vouches()),
            false => Presented::default(),
        };
        Ok(Visitor { presented, session })
    }
}
