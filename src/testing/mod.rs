//! A rough network in a box: a proxy for tests that does on purpose what networks do by accident.
//!
//! This room owns [`Rough`], which stands between a client and a server and breaks HTTP/1.1 and WebSockets by rules.
//! It knows bytes and heads of HTTP, nothing of sessions and frames: it is what the protocol is up against, and must
//! not be polite to it. What its rules are modelled on is what real proxies and balancers do.

mod converse;
mod head;
mod link;
mod rule;
mod script;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use link::{Link, Side};
use script::Script;

pub use rule::{Direction, Rule};

/// How much a stream in memory holds each way.
const ROOM: usize = 64 << 10;

/// How many connections in memory wait to be taken.
const WAITING: usize = 16;

/// A network between a client and a server that does what [`Rule`]s say.
///
/// It listens on a free port of the loopback and passes everything on until a rule is added. Rules can be changed while
/// it runs: what asks for a decision from then on meets the new ones, and connections that are open are held to their
/// times. Nothing is random, so that what a test meets depends on what the test does.
///
/// All times are tokio's. Dropping it ends all its connections.
///
/// # Examples
///
/// A test of an application where WebSockets are refused:
///
/// ```
/// # #[cfg(all(feature = "client", feature = "server"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use throughline::testing::{Rough, Rule};
/// use throughline::{Client, Hub, Server, Socket, State, TransportKind};
///
/// let server = Server::builder().serve(|mut socket: Socket, _: Hub| async move {
///     while let Ok(message) = socket.recv().await {
///         if socket.send(message.body).await.is_err() {
///             return;
///         }
///     }
/// })?;
/// # let app = axum::Router::new().route_service("/live", server.service());
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?;
/// # tokio::spawn(async move { axum::serve(listener, app).await });
/// // … serve it at `address`, and put the network in front:
/// let network = Rough::to(address).await?;
/// network.add(Rule::RefuseUpgrade { status: 403 });
///
/// let mut socket = Client::connect(network.url("/live")).await?;
/// socket.send("through").await?;
/// assert_eq!(socket.recv().await?.body.to::<String>()?, "through");
/// assert_eq!(socket.state(), State::Connected { transport: TransportKind::Sse });
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "client", feature = "server")))]
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct Rough {
    address: SocketAddr,
    door: mpsc::Sender<DuplexStream>,
    script: Arc<Script>,
    accepting: JoinHandle<()>,
}

/// Where the server is.
enum Upstream {
    Tcp(SocketAddr),
    /// It is given its end of each connection.
    InMemory(Box<dyn Fn(DuplexStream) + Send + Sync>),
}

impl Upstream {
    async fn connect(&self) -> io::Result<Side> {
        match self {
            Self::Tcp(address) => TcpStream::connect(address).await.map(Side::tcp),
            Self::InMemory(serve) => {
                let (near, far) = duplex(ROOM);
                serve(far);
                Ok(Side::in_memory(near))
            }
        }
    }
}

/// What comes of asking a [`Rough`] for a connection.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

impl Rough {
    /// Puts a network without rules in front of a server.
    ///
    /// # Errors
    /// When no port of the loopback is free.
    ///
    /// # Cancel safety
    /// Nothing is left when the future is dropped.
    pub async fn to(upstream: SocketAddr) -> io::Result<Self> {
        Self::between(Upstream::Tcp(upstream)).await
    }

    /// Puts a network without rules in front of a server that is handed its end of each connection.
    ///
    /// With clients that come by [`Rough::connector`] nothing leaves the process. Then a test of seconds and minutes takes
    /// none, and no longer on a busy machine, where tokio's time is paused (`#[tokio::test(start_paused = true)]`):
    /// nobody ever waits for anything but a time of the test's own.
    ///
    /// # Errors
    /// When no port of the loopback is free.
    ///
    /// # Cancel safety
    /// Nothing is left when the future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(all(feature = "client", feature = "server"))]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use hyper::server::conn::http1;
    /// use hyper_util::rt::TokioIo;
    /// use throughline::testing::Rough;
    /// use throughline::{Client, Hub, Server, Socket};
    ///
    /// let server = Server::builder().serve(|socket: Socket, _: Hub| async move {
    ///     let _ = socket.send("welcome").await;
    ///     socket.closed().await;
    /// })?;
    /// let network = Rough::in_memory(move |stream| {
    ///     let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), server.service());
    ///     tokio::spawn(connection.with_upgrades());
    /// })
    /// .await?;
    /// let client = Client::builder(network.url("/live")).connector(network.connector());
    /// let mut socket = client.connect().await?;
    /// assert_eq!(socket.recv().await?.body.to::<String>()?, "welcome");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(all(feature = "client", feature = "server")))]
    /// # fn main() {}
    /// ```
    pub async fn in_memory(serve: impl Fn(DuplexStream) + Send + Sync + 'static) -> io::Result<Self> {
        Self::between(Upstream::InMemory(Box::new(serve))).await
    }

    async fn between(upstream: Upstream) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let script = Script::new();
        let (door, coming) = mpsc::channel(WAITING);
        let accepting = tokio::spawn(accept(listener, coming, upstream, Arc::clone(&script)));
        Ok(Self { address, door, script, accepting })
    }

    /// Connects to the network in memory, for `client::Builder::connector`. It refuses when the network is gone.
    pub fn connector(&self) -> impl Fn() -> Connecting + Clone + Send + Sync + 'static + use<> {
        let door = self.door.clone();
        move || {
            let (door, (near, far)) = (door.clone(), duplex(ROOM));
            Box::pin(async move {
                door.send(far).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                Ok(near)
            })
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `http://` URL of a path, which begins with `/`, through this network.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Adds a rule, which acts on all of its occasions.
    pub fn add(&self, rule: Rule) {
        self.script.add(rule, 1, None);
    }

    /// Adds a rule that acts on the first so many of its occasions.
    pub fn times(&self, times: u32, rule: Rule) {
        self.script.add(rule, 1, Some(times));
    }

    /// Adds a rule that acts on every `nth` of its occasions, and not on those between; 0 is taken as 1.
    pub fn every(&self, nth: u32, rule: Rule) {
        self.script.add(rule, nth, None);
    }

    /// Puts these rules in the place of all there are. None of them is a network that passes everything.
    pub fn replace(&self, rules: impl IntoIterator<Item = Rule>) {
        self.script.replace(rules);
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        self.script.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How often a rule has acted so far.
    pub fn acted(&self) -> u64 {
        *self.script.acted.borrow()
    }

    /// Waits until rules have acted so often in all.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn has_acted(&self, times: u64) {
        // The sender lives as long as this.
        let _ = self.script.acted.subscribe().wait_for(|acted| *acted >= times).await;
    }
}

impl Drop for Rough {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    mut coming: mpsc::Receiver<DuplexStream>,
    upstream: Upstream,
    script: Arc<Script>,
) {
    let upstream = Arc::new(upstream);
    // Dropped with the task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            Ok((stream, _)) = listener.accept() => Side::tcp(stream),
            Some(stream) = coming.recv() => Side::in_memory(stream),
            else => return,
        };
        let (link, upstream) = (Link::new(Arc::clone(&script)), Arc::clone(&upstream));
        connections.spawn(async move {
            tokio::select! {
                // An end that is gone ends the connection, and so does what is no HTTP.
                _ = converse::converse(&link, client, &upstream) => {}
                () = link.doomed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
