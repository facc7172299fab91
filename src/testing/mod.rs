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

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use link::Link;
use script::Script;

pub use rule::{Direction, Rule};

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
    script: Arc<Script>,
    accepting: JoinHandle<()>,
}

impl Rough {
    /// Puts a network without rules in front of a server.
    ///
    /// # Errors
    /// When no port of the loopback is free.
    ///
    /// # Cancel safety
    /// Nothing is left when the future is dropped.
    pub async fn to(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let script = Script::new();
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&script)));
        Ok(Self { address, script, accepting })
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

async fn accept(listener: TcpListener, upstream: SocketAddr, script: Arc<Script>) {
    // Dropped with the task, and all connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let link = Link::new(Arc::clone(&script));
        connections.spawn(async move {
            tokio::select! {
                // An end that is gone ends the connection, and so does what is no HTTP.
                _ = converse::converse(&link, client, upstream) => {}
                () = link.doomed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
