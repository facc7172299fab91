//! A host for a server: hyper on a port of its own, with a box in front that refuses what it is told to.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper::{Request, Response};
use throughline::client::{Backoff, Builder};
use throughline::server::Service;
use throughline::{Client, Hub, Server, Socket, State};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::serving;

/// Fails a test that hangs.
pub(crate) async fn watchdog<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it hangs")
}

/// A kind of request, as a box on the way tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Upgrade,
    Stream,
    Batch,
}

impl Seen {
    fn of<B>(request: &Request<B>) -> Self {
        let accept = request.headers().get("accept").map(|value| value.to_str().unwrap());
        match (request.headers().contains_key("upgrade"), accept) {
            (true, _) => Self::Upgrade,
            (false, Some("text/event-stream")) => Self::Stream,
            _ => Self::Batch,
        }
    }
}

/// A server that can be reached; dropping it ends its connections.
pub(crate) struct Host {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _accepting: Option<JoinSet<()>>,
    runtime: Option<Runtime>,
}

impl Host {
    /// On any port.
    pub(crate) async fn serve(server: Server) -> Self {
        Self::refusing(server, |_| false).await
    }

    /// On a port that was asked for.
    pub(crate) async fn at(addr: SocketAddr, server: Server) -> Self {
        Self::on(TcpListener::bind(addr).await.unwrap(), server, |_| false)
    }

    /// Behind a box that answers some requests by 501.
    pub(crate) async fn refusing(
        server: Server,
        refuses: impl Fn(Seen) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), server, refuses)
    }

    fn on(
        listener: TcpListener,
        server: Server,
        refuses: impl Fn(Seen) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (addr, seen) = (listener.local_addr().unwrap(), Arc::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server.service(), Arc::new(refuses), Arc::clone(&seen)));
        Self { addr, seen, _accepting: Some(accepting), runtime: None }
    }

    /// An echo in a runtime of its own, which can be killed as a process can.
    pub(crate) fn apart(addr: Option<SocketAddr>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let addr = addr.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
            let listener = TcpListener::bind(addr).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            accept(listener, echo().service(), Arc::new(|_| false), Arc::default()).await;
        });
        let addr = told.recv_timeout(Duration::from_secs(10)).unwrap();
        Self { addr, seen: Arc::default(), _accepting: None, runtime: Some(runtime) }
    }

    /// Ends all its tasks at once, wherever they are.
    pub(crate) fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        // A runtime may not be waited for within another one's.
        std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5))).join().unwrap();
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many requests of a kind came.
    pub(crate) fn seen(&self, kind: Seen) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| **seen == kind).count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(
    listener: TcpListener,
    service: Service,
    refuses: Arc<dyn Fn(Seen) -> bool + Send + Sync>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let in_front = service_fn(move |request: Request<Incoming>| {
        let kind = Seen::of(&request);
        seen.lock().unwrap().push(kind);
        let answering = (!refuses(kind)).then(|| service.call(request));
        async move {
            let Some(answering) = answering else {
                let nothing: UnsyncBoxBody<Bytes, Infallible> = Empty::new().boxed_unsync();
                return Ok(Response::builder().status(501).body(nothing).unwrap());
            };
            let answer: Result<_, Infallible> = answering.await;
            answer.map(|answer| answer.map(BodyExt::boxed_unsync))
        }
    });
    serving::accept(listener, in_front).await;
}

/// An address where nobody listens yet.
pub(crate) async fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub(crate) fn echo() -> Server {
    Server::builder().serve(echo_handler).unwrap()
}

pub(crate) async fn echo_handler(mut socket: Socket, _hub: Hub) {
    while let Ok(message) = socket.recv().await {
        if socket.send(message.body).await.is_err() {
            return;
        }
    }
}

/// A client that does not wait long between attempts.
pub(crate) fn client(addr: SocketAddr) -> Builder {
    let backoff = Backoff::default().base(Duration::from_millis(5)).cap(Duration::from_millis(50));
    let verdicts = std::sync::Arc::new(throughline::client::MemoryVerdicts::new());
    Client::builder(format!("http://{addr}/live")).backoff(backoff).verdicts(verdicts)
}

/// The next message, as text.
pub(crate) async fn text(socket: &mut Socket) -> String {
    watchdog(socket.recv()).await.unwrap().body.to().unwrap()
}

/// Waits for a state.
pub(crate) async fn until(socket: &Socket, wanted: &State) {
    watchdog(async {
        let mut watch = socket.watch();
        while watch.state() != *wanted {
            watch.changed().await;
        }
    })
    .await;
}

/// Waits until nothing and then again something carries the session.
pub(crate) async fn until_carried(socket: &Socket) {
    watchdog(async {
        let mut watch = socket.watch();
        while matches!(watch.changed().await, State::Reconnecting { .. }) {}
    })
    .await;
}
