//! What a server is told before it serves, and what it refuses to be told.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::{Limits, TransportKind, Window};
use crate::hub::Hub;
use crate::session::{Config, InvalidConfig, Receipts};
use crate::socket::Socket;

use super::auth::{Attempt, Authenticator};
use super::policy::{Offer, Policy};
use super::registry::Bounds;
use super::tasks::Tasks;
use super::{Server, origin};

/// How long an ended session is remembered at least: clients give up an unanswered `hello` after as long.
const MEMORY: Duration = Duration::from_secs(60);

/// Describes a [`Server`]. Every setting has a default; all are checked by [`Builder::serve`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `serve`"]
pub struct Builder {
    session: Config,
    hub: Hub,
    patience: Option<Duration>,
    max_sessions: usize,
    max_ended: Option<usize>,
    max_unattached: usize,
    hello_deadline: Duration,
    body_deadline: Duration,
    auth_deadline: Duration,
    origins: Vec<String>,
    any_origin: bool,
    trust_forwarded: bool,
    plain_websocket: bool,
    plain_events: bool,
    browser_client: bool,
    authenticator: Option<Arc<dyn Authenticator>>,
    policy: Option<Policy>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            session: Config::default(),
            hub: Hub::new(),
            patience: Some(Duration::from_secs(30)),
            max_sessions: 100_000,
            max_ended: None,
            max_unattached: 1024,
            hello_deadline: Duration::from_secs(10),
            body_deadline: Duration::from_secs(10),
            auth_deadline: Duration::from_secs(10),
            origins: Vec::new(),
            any_origin: false,
            trust_forwarded: false,
            plain_websocket: false,
            plain_events: true,
            browser_client: true,
            authenticator: None,
            policy: None,
        }
    }
}

/// Why a server cannot be as described. The caller is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A value that no session can work with.
    #[error(transparent)]
    Session(#[from] InvalidConfig),
    /// A value that no server can work with.
    #[error("{field} {rule}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// What was given to [`Builder::allow_origin`] is not an origin.
    #[error("allow_origin: {origin:?} is not scheme://host or scheme://host:port")]
    Origin {
        /// It.
        origin: String,
    },
}

impl Builder {
    /// The bounds and times of each session, all at once. The setters below change single ones.
    pub fn session(mut self, config: Config) -> Self {
        self.session = config;
        self
    }

    /// What is taken from a client at most: bytes of a message and of a batch, frames of a batch. A request body is
    /// at most one batch. Default: 512 KiB, 960 KiB, 1024. Raising them raises what each request can make the
    /// server hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.session.limits = limits;
        self
    }

    /// How much is held for the handler of each session: told to the client, which stays within it. Default: 256
    /// messages and 1 MiB.
    pub fn window(mut self, window: Window) -> Self {
        self.session.window = window;
        self
    }

    /// How much of each session may wait to be sent or acknowledged. Default: 1024 messages and 2 MiB.
    pub fn send_buffer(mut self, bound: Window) -> Self {
        self.session.send_buffer = bound;
        self
    }

    /// How long `send` waits for room before the session is ended with `slow_consumer`; `None` waits for ever.
    /// Default: 30 s.
    pub fn send_patience(mut self, patience: impl Into<Option<Duration>>) -> Self {
        self.patience = patience.into();
        self
    }

    /// The time between pings. Default: 20 s, under the 30 s that is the lowest idle limit of common proxies.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.session.heartbeat = heartbeat;
        self
    }

    /// How long a session lives with nothing that carries it. Default: 120 s.
    pub fn resume_window(mut self, window: Duration) -> Self {
        self.session.resume_window = window;
        self
    }

    /// The longest that a poll is held. Default: 25 s.
    pub fn max_hold(mut self, hold: Duration) -> Self {
        self.session.max_hold = hold;
        self
    }

    /// The transports that are offered, best first. Default: all.
    pub fn transports(mut self, transports: impl IntoIterator<Item = TransportKind>) -> Self {
        self.session.transports = transports.into_iter().collect();
        self
    }

    /// How many sessions live at once, carried or waiting to be; one more is refused with `overloaded`. Default:
    /// 100,000. An idle one weighs a few KiB.
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.max_sessions = count;
        self
    }

    /// How many ended sessions are remembered, so that whoever comes back is told how they ended; beyond that the
    /// oldest are forgotten. Default: as many as may live. Each weighs 64 bytes and its places in tables, 150 in all.
    pub fn max_ended(mut self, count: usize) -> Self {
        self.max_ended = Some(count);
        self
    }

    /// How many transports may be on their way to a session at once: WebSockets without a `hello`, requests that are being
    /// judged, and those whose body takes longer than 100 ms to come. One more is refused with `overloaded`. Default: 1024. Each can
    /// hold one batch. Bodies that come at once take no place: what bounds those is how many connections the host lets in.
    pub fn max_unattached(mut self, count: usize) -> Self {
        self.max_unattached = count;
        self
    }

    /// The longest from an open WebSocket to its `hello`. Default: 10 s.
    pub fn hello_deadline(mut self, time: Duration) -> Self {
        self.hello_deadline = time;
        self
    }

    /// The longest that the body of a request may take to arrive, and 1 s more for each 2 KiB that have come. Default: 10 s.
    pub fn body_deadline(mut self, time: Duration) -> Self {
        self.body_deadline = time;
        self
    }

    /// The longest that the authenticator may take; then the client is told `overloaded`. Default: 10 s.
    pub fn auth_deadline(mut self, time: Duration) -> Self {
        self.auth_deadline = time;
        self
    }

    /// Lets in pages of another origin, as `https://app.example.com` or `http://localhost:5173`.
    ///
    /// A page of the server's own origin (its `Origin` names the host of the request) is always let in, others only
    /// when listed; `null` never is. Requests without an `Origin` are let in, but there only credentials count that
    /// a browser does not add by itself: see [`Attempt`](super::Attempt).
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Lets in the pages of any origin, with the cookies of whoever visits them.
    ///
    /// Any page on the web can then act here as its visitor. Only for servers that know no visitors.
    pub fn allow_any_origin_dangerously(mut self) -> Self {
        self.any_origin = true;
        self
    }

    /// Believes `X-Forwarded-Host` when it compares `Origin` with the host. Only behind a proxy that sets it:
    /// otherwise anybody can. Default: off.
    pub fn trust_forwarded(mut self, trust: bool) -> Self {
        self.trust_forwarded = trust;
        self
    }

    /// Serves WebSockets of clients without a library, at `?plain`: each message is one payload, and the session
    /// lives as long as the WebSocket. Default: off.
    pub fn plain_websocket(mut self, on: bool) -> Self {
        self.plain_websocket = on;
        self
    }

    /// Serves event streams to clients without a library (`curl -N`, `EventSource`), which only receive. Default:
    /// on.
    pub fn plain_events(mut self, on: bool) -> Self {
        self.plain_events = on;
        self
    }

    /// Serves the client for browsers at `GET` with `?client.js`, so that a page can `import { connect } from
    /// "/live?client.js"`, and its rooms with `?rooms.js`. Default: on.
    pub fn browser_client(mut self, on: bool) -> Self {
        self.browser_client = on;
        self
    }

    /// Says who clients are. Default: nobody asks, and no session has a principal.
    pub fn authenticator(mut self, authenticator: impl Authenticator + 'static) -> Self {
        self.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// Says which transports a client is offered, by what its request and its token show. It is asked at every `hello`,
    /// behind the authenticator, so that the answer may change while a session lives; it must not block. Plain clients
    /// (`EventSource`, `curl`, `?plain`) say no `hello` and are not asked about: they have no other way. Default: every client is
    /// offered the same.
    ///
    /// ```
    /// use throughline::TransportKind;
    /// use throughline::server::{Attempt, Offer, Server};
    ///
    /// let builder = Server::builder().policy(|attempt: &Attempt<'_>| {
    ///     if attempt.headers().contains_key("x-legacy-gateway") {
    ///         return Offer::usual().forbid(TransportKind::WebSocket).because("the gateway cuts WebSockets");
    ///     }
    ///     Offer::usual()
    /// });
    /// # let _ = builder;
    /// ```
    pub fn policy(mut self, policy: impl Fn(&Attempt<'_>) -> Offer + Send + Sync + 'static) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// The rooms that handlers are given, to share them with other servers of this process. Default: its own.
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = hub;
        self
    }

    /// Makes the server. The handler runs once per session, in a task of its own, from the first attach on; when it
    /// returns, the session is closed in order.
    ///
    /// # Errors
    /// When a setting is impossible. It names the setting.
    pub fn serve<H, R>(self, handler: H) -> Result<Server, ServeError>
    where
        H: Fn(Socket, Hub) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.check()?;
        let listed = self.origins.iter().map(|origin| {
            origin::normalize(origin).ok_or_else(|| ServeError::Origin { origin: origin.clone() })
        });
        let origins = origin::Policy {
            listed: listed.collect::<Result<_, _>>()?,
            any: self.any_origin,
            trust_forwarded: self.trust_forwarded,
        };
        let bounds = Bounds {
            sessions: self.max_sessions,
            ended: self.max_ended.unwrap_or(self.max_sessions),
            memory: self.session.resume_window.max(MEMORY),
        };
        let session = self.session;
        let settings = Settings {
            plain_session: Arc::new(Config { resume_window: Duration::ZERO, ..session.clone() }),
            events_session: Arc::new(Config { receipts: Receipts::Absent, ..session.clone() }),
            session: Arc::new(session),
            patience: self.patience,
            max_unattached: self.max_unattached,
            hello_deadline: self.hello_deadline,
            body_deadline: self.body_deadline,
            auth_deadline: self.auth_deadline,
            origins,
            plain_websocket: self.plain_websocket,
            plain_events: self.plain_events,
            browser_client: self.browser_client,
            authenticator: self.authenticator,
            policy: self.policy,
        };
        let start = Box::new(move |tasks: &Tasks, socket, hub| tasks.spawn(handler(socket, hub)));
        Ok(Server::new(settings, bounds, self.hub, start))
    }

    fn check(&self) -> Result<(), ServeError> {
        self.session.check()?;
        let most = tokio::sync::Semaphore::MAX_PERMITS;
        let times = Duration::from_millis(1)..=Duration::from_secs(86_400);
        let rules = [
            ("max_sessions", "must be at least 1", self.max_sessions >= 1),
            (
                "max_unattached",
                "must be at least 1 and fit a semaphore",
                (1..=most).contains(&self.max_unattached),
            ),
            ("hello_deadline", "must be 1 ms to 1 day", times.contains(&self.hello_deadline)),
            ("body_deadline", "must be 1 ms to 1 day", times.contains(&self.body_deadline)),
            ("auth_deadline", "must be 1 ms to 1 day", times.contains(&self.auth_deadline)),
        ];
        match rules.into_iter().find(|(_, _, holds)| !holds) {
            Some((field, rule, _)) => Err(ServeError::Setting { field, rule }),
            None => Ok(()),
        }
    }
}

/// What a builder was told, checked.
pub(super) struct Settings {
    pub(super) session: Arc<Config>,
    /// Of sessions that live as long as their plain WebSocket.
    pub(super) plain_session: Arc<Config>,
    /// Of sessions that only a plain event stream carries.
    pub(super) events_session: Arc<Config>,
    pub(super) patience: Option<Duration>,
    pub(super) max_unattached: usize,
    pub(super) hello_deadline: Duration,
    pub(super) body_deadline: Duration,
    pub(super) auth_deadline: Duration,
    pub(super) origins: origin::Policy,
    pub(super) plain_websocket: bool,
    pub(super) plain_events: bool,
    pub(super) browser_client: bool,
    pub(super) authenticator: Option<Arc<dyn Authenticator>>,
    pub(super) policy: Option<Policy>,
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn nothing(_: Socket, _: Hub) {}

    #[test]
    fn the_defaults_serve() {
        assert!(Builder::default().serve(nothing).is_ok());
    }

    #[test]
    fn an_impossible_setting_is_refused_by_name() {
        let error = |builder: Builder| builder.serve(nothing).unwrap_err().to_string();
        assert!(error(Server::builder().max_sessions(0)).starts_with("max_sessions "));
        assert!(error(Server::builder().max_unattached(usize::MAX)).starts_with("max_unattached "));
        assert!(error(Server::builder().hello_deadline(Duration::ZERO)).starts_with("hello_deadline "));
        assert!(error(Server::builder().heartbeat(Duration::ZERO)).starts_with("heartbeat "));
        assert!(error(Server::builder().transports([])).starts_with("transports "));
        for origin in ["app.example", "https://", "https://a/b", "null", "*"] {
            assert!(error(Server::builder().allow_origin(origin)).contains(origin));
        }
    }
}
