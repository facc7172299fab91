//! An axum router with a live URL, as it may face the internet. `axum::serve` is for behind a proxy: it bounds neither the time that
//! the head of a request takes nor the streams and connections of one address. Here hyper-util's server does.
//!
//! ```text
//! cargo run --example hardened --features http2               # listens on 127.0.0.1:3000, or on its first argument
//! curl -N -H 'Accept: text/event-stream' http://127.0.0.1:3000/live
//! ```
//!
//! Ctrl+C ends it in order. A deploy says SIGTERM: `tokio::signal::unix` hears that.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use throughline::server::{Attempt, Denied, Grant};
use throughline::{Hub, Server, Socket};
use tower_service::Service as _;

#[path = "support/listening.rs"]
mod listening;

/// How many connections one address may have. A browser has six to one host over HTTP/1.1, and offices share an address.
const CONNECTIONS: usize = 200;

/// How many sessions one address may begin within [`A_WHILE`].
const SESSIONS: u32 = 200;

const A_WHILE: Duration = Duration::from_secs(10);

/// How long what is under way may take when the server ends.
const GRACE: Duration = Duration::from_secs(10);

/// What an address does.
struct Known {
    connections: usize,
    /// Sessions that it began, since then.
    begun: u32,
    since: Instant,
}

/// The addresses that have a connection. Behind a proxy they are the proxy's: count what `X-Forwarded-For` says there.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, Known>>>);

/// A connection of an address.
struct Open(Addresses, IpAddr);

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection until it is dropped; `None`: there are too many.
    fn open(&self, from: IpAddr) -> Option<Open> {
        let mut all = self.lock();
        let known =
            all.entry(from).or_insert_with(|| Known { connections: 0, begun: 0, since: Instant::now() });
        known.connections += 1;
        let is_one_more = known.connections > CONNECTIONS;
        drop(all);
        Some(Open(self.clone(), from)).filter(|_| !is_one_more)
    }

    /// Whether it may begin a session now.
    fn may_begin(&self, from: IpAddr) -> bool {
        let mut all = self.lock();
        let Some(known) = all.get_mut(&from) else { return false };
        if known.since.elapsed() >= A_WHILE {
            (known.begun, known.since) = (0, Instant::now());
        }
        known.begun += 1;
        known.begun <= SESSIONS
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut all = self.0.lock();
        if let Some(known) = all.get_mut(&self.1) {
            known.connections -= 1;
            // An address that comes back within the while begins to count anew: connections are bounded anyway.
            if known.connections == 0 {
                all.remove(&self.1);
            }
        }
    }
}

async fn echo(mut socket: Socket, _: Hub) {
    while let Ok(message) = socket.recv().await {
        if socket.send(message.body).await.is_err() {
            break;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let addresses = Addresses::default();
    let counted = addresses.clone();
    let live = Server::builder()
        .authenticator(move |attempt: &Attempt<'_>| {
            // A fresh token comes without a request. Who the user is would be looked up here, too.
            let from = attempt.extensions().get::<IpAddr>().copied();
            let may = attempt.is_renewal() || from.is_some_and(|from| counted.may_begin(from));
            let denied = || Denied::Unavailable("too many sessions from this address".into());
            std::future::ready(may.then(Grant::anonymous).ok_or_else(denied))
        })
        .serve(echo)?;
    let app = Router::new().route("/health", get(|| async { "ok\n" })).route_service("/live", live.service());

    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .keep_alive_interval(Duration::from_secs(30))
        .enable_connect_protocol();
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    let (open, mut end) = (GracefulShutdown::new(), std::pin::pin!(tokio::signal::ctrl_c()));
    loop {
        let stream = tokio::select! {
            stream = listening::accept(&listener) => stream,
            _ = &mut end => break,
        };
        let Ok(from) = stream.peer_addr().map(|peer| peer.ip()) else { continue };
        let Some(counted) = addresses.open(from) else { continue };
        let app = app.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(from);
            app.clone().call(request.map(axum::body::Body::new) as Request)
        });
        let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let connection = open.watch(connection.into_owned());
        tokio::spawn(async move {
            // Connections break all the time: their sessions go on without them.
            let _ = connection.await;
            drop(counted);
        });
    }
    // Streams and polls end with their sessions, and what else is under way has its time.
    println!("closing {} sessions", live.sessions());
    let cut = live.shutdown("the server is restarted", GRACE).await;
    let _ = tokio::time::timeout(GRACE, open.shutdown()).await;
    println!("{cut} sessions were cut");
    Ok(())
}
