//! The server: one service for one URL, behind which sessions live.
//!
//! This room owns all that stands between HTTP and sessions: what a request asks for, who may ask, which session is
//! meant, the limits, and the end of it all. It must not know the rules of a session, nor how bytes are made of
//! frames. It implements the server's side of `docs/PROTOCOL.md`, "One URL", "Origin" and "Sessions".
//!
//! It opens no port: the host owns the listener, TLS and routing, and mounts [`Service`] (hyper or tower) or
//! [`Layer`].

mod answer;
mod answering;
mod auth;
mod browser;
mod builder;
mod door;
mod events;
mod exchange;
mod layer;
mod opening;
mod origin;
mod policy;
mod random;
mod registry;
mod route;
mod service;
mod steward;
mod tasks;
mod websocket;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::frame::{Close, CloseCode, Move, SessionId, TransportKind};
use crate::hub::Hub;
use crate::socket::{Command, Socket};

use builder::Settings;
use registry::Registry;
use tasks::Tasks;

pub use answer::AnswerBody;
pub use answering::Answering;
pub use auth::{Attempt, Authenticator, Denied, Grant};
pub use builder::{Builder, ServeError};
pub use layer::{Layer, Layered};
pub use policy::Offer;
pub use service::Service;

/// What runs for each session.
/// Starts the handler of one session, in a task of its own.
type Start = Box<dyn Fn(&Tasks, Socket, Hub) + Send + Sync>;

/// How long sessions that were cut at the end of a shutdown may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Sessions, and the way to them. Clones share everything.
///
/// # The runtime
///
/// A session is two tasks: its driver and its handler. Where more than 256 sessions are busy on one worker of tokio's
/// multi-thread runtime, that worker's queue overflows into the one that all share, from which it takes only now and then
/// while its own is never empty: some sessions then wait a hundred times as long as others. A service with so many busy sessions
/// had better let all who are ready have their turn before sockets are asked for news:
///
/// ```
/// let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(1024).build()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// On a loaded worker new connections and timers then wait for at most so many turns of tasks, a few milliseconds. What it
/// gave is in `docs/BENCHMARKS.md`.
///
/// # Examples
///
/// ```no_run
/// use throughline::{Hub, Server, Socket};
///
/// async fn echo(mut socket: Socket, _hub: Hub) {
///     while let Ok(message) = socket.recv().await {
///         let _ = socket.send(message.body).await;
///     }
/// }
///
/// let live = Server::builder().serve(echo)?;
/// let service = live.service(); // for hyper, or a router
/// # Ok::<(), throughline::server::ServeError>(())
/// ```
///
/// Dropping it ends nothing: sessions live as long as their clients and handlers do. [`Server::shutdown`] ends them.
#[derive(Clone, Debug)]
pub struct Server {
    inner: Arc<Inner>,
}

/// What all parts of a server share.
struct Inner {
    settings: Settings,
    start: Start,
    hub: Hub,
    registry: Registry,
    tasks: Tasks,
    offers: policy::Offers,
    /// Transports that have not yet come to a session.
    unattached: Arc<Semaphore>,
    /// Set when no more is let in: what the sessions are closed with.
    draining: OnceLock<Close>,
    /// How many sessions did not end in time, once that is over.
    cut: OnceLock<usize>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("sessions", &self.registry.len()).finish_non_exhaustive()
    }
}

/// The one clock of this room.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Server {
    /// Begins to describe a server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn new(settings: Settings, bounds: registry::Bounds, hub: Hub, start: Start) -> Self {
        let unattached = Arc::new(Semaphore::new(settings.max_unattached));
        let inner = Inner {
            settings,
            start,
            hub,
            registry: Registry::new(bounds, now()),
            tasks: Tasks::default(),
            offers: policy::Offers::default(),
            unattached,
            draining: OnceLock::new(),
            cut: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The service to mount: on a bare hyper connection, or as a tower service on a router. It must be called in a
    /// tokio runtime, and hyper's connections must be served `with_upgrades`.
    pub fn service(&self) -> Service {
        Service::new(Arc::clone(&self.inner))
    }

    /// A layer that answers requests for exactly this path and passes all others on.
    pub fn layer(&self, path: impl Into<Arc<str>>) -> Layer {
        Layer::new(self.service(), path.into())
    }

    /// The rooms that handlers are given.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// How many sessions live, carried or waiting to be.
    pub fn sessions(&self) -> usize {
        self.inner.registry.len()
    }

    /// Ends a session in order: what was accepted is delivered first. False: there is none of this id.
    pub fn close(&self, id: SessionId, code: CloseCode, reason: impl Into<Cow<'static, str>>) -> bool {
        let session = self.inner.registry.by_id(id);
        session.map(|session| session.ask_close(Close::new(code, reason))).is_some()
    }

    /// Asks the client of a session to come back on another transport, without a break: on one of this kind, a fresh
    /// one where that kind carries the session already, or (`None`) on one of the client's choice. False: there is no
    /// session of this id, or too much is being asked of it already.
    ///
    /// The client begins at a random moment of the first half of the time, so that many who are asked together do not
    /// come together; with zero it begins at once.
    pub fn move_session(
        &self,
        id: SessionId,
        transport: impl Into<Option<TransportKind>>,
        within: Duration,
    ) -> bool {
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let ask = Move { transport: transport.into(), within_ms: millis.min(crate::frame::MAX_NUMBER) };
        self.inner.registry.by_id(id).is_some_and(|session| session.deposit(Command::Move(ask)).is_ok())
    }

    /// Lets nobody in any more, closes every session with `going_away` and the reason, and waits until all have
    /// ended and their handlers have returned.
    ///
    /// A new `hello` is answered by `draining` (503, with `Retry-After`), and so are health checks. Sessions are
    /// closed in order: what was accepted is delivered first. What has not ended `within` the time is cut, its
    /// handler too. Returns how many sessions were cut.
    ///
    /// It may be called more than once, at the same time too: the reason of the first call is said, the time that is
    /// over first holds, and each call returns when all is over, with the same number.
    ///
    /// # Cancel safety
    /// When the future is dropped the sessions still end, but its time cuts no late ones.
    pub async fn shutdown(&self, reason: impl Into<Cow<'static, str>>, within: Duration) -> usize {
        let inner = &self.inner;
        let close = inner.draining.get_or_init(|| Close::new(CloseCode::GoingAway, reason));
        tracing::info!(sessions = inner.registry.len(), "shutting down");
        for session in inner.registry.all() {
            session.ask_close(close.clone());
        }
        if tokio::time::timeout(within, inner.tasks.idle()).await.is_ok() {
            return inner.cut.get().copied().unwrap_or_default();
        }
        let late = inner.registry.all();
        let cut = *inner.cut.get_or_init(|| late.len());
        tracing::warn!(sessions = late.len(), "not ended in time");
        for session in &late {
            // One that takes no more commands is cut below.
            let _ = session.deposit(Command::Abort(close.clone()));
        }
        if tokio::time::timeout(LAST_WORDS, inner.tasks.idle()).await.is_err() {
            inner.tasks.abort();
            inner.tasks.idle().await;
        }
        cut
    }
}
