//! Where scenes are played: a served service, a bystander, and the count when all have left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use throughline::frame::{Encoding, Frame, TransportKind};
use throughline::server::Builder;
use throughline::{Hub, Server, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::http::{Answer, Ask, Io, Wire};
use super::me::{Me, ack};
use super::ws::Ws;
use super::{DELIBERATE, PROCESS, panics, watch_panics};

/// A scene that takes longer than this hangs, in whatever time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Places for transports without a session, unless a scene says otherwise.
pub(crate) const PLACES: usize = 8;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// Pipes in memory, in paused time.
    Pipes,
    /// TCP on a free port, in real time.
    Tcp,
}

enum Dial {
    Pipes(mpsc::UnboundedSender<Box<dyn Io>>),
    Tcp(SocketAddr),
}

/// A count that goes down again when what it counts is dropped.
struct Count(Arc<AtomicUsize>);

impl Count {
    fn up(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

pub(crate) struct Stage {
    pub(crate) server: Server,
    dial: Dial,
    /// Handlers that run, and how often one was started.
    handlers: Arc<AtomicUsize>,
    started: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    places: usize,
    host: JoinHandle<()>,
    bystander: Option<Bystander>,
}

/// What a scene sets besides what the builder does.
pub(crate) struct Set {
    pub(crate) net: Net,
    pub(crate) builder: Builder,
    pub(crate) places: usize,
    /// Whether a bystander comes before everybody else.
    pub(crate) bystander: bool,
}

impl Default for Set {
    fn default() -> Self {
        Self { net: Net::Pipes, builder: Server::builder(), places: PLACES, bystander: true }
    }
}

impl Set {
    pub(crate) fn with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let set = Self::default();
        Self { builder: change(set.builder), ..set }
    }

    pub(crate) fn tcp(self) -> Self {
        // Real time: what was left behind must be gone soon.
        let builder =
            self.builder.resume_window(Duration::from_millis(500)).heartbeat(Duration::from_secs(5));
        Self { net: Net::Tcp, builder, ..self }
    }
}

/// Plays a scene among others.
pub(crate) fn play(set: Set, scene: impl AsyncFnOnce(&mut Stage) + Send + 'static) {
    let _among_others = PROCESS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    run(set, scene);
}

/// Plays a scene that has the process to itself.
pub(crate) fn play_alone(set: Set, scene: impl AsyncFnOnce(&mut Stage) + Send + 'static) {
    let _alone = PROCESS.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    run(set, scene);
}

/// In a thread of its own, so that even a scene that never yields is found out.
fn run(set: Set, scene: impl AsyncFnOnce(&mut Stage) + Send + 'static) {
    watch_panics();
    let (done, ends) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("scene".to_owned()).spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(set.net == Net::Pipes).build().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::new(set).await;
            scene(&mut stage).await;
            stage.finish().await;
        });
        drop(runtime);
        let _ = done.send(());
    });
    let ended = ends.recv_timeout(PATIENCE);
    assert_ne!(ended, Err(RecvTimeoutError::Timeout), "the scene hangs");
    if let Err(failure) = thread.unwrap().join() {
        std::panic::resume_unwind(failure);
    }
    assert_eq!(panics(), 0, "something panicked");
}

/// Sends back what it is told; some words are orders.
async fn handle(mut socket: Socket) {
    while let Ok(message) = socket.recv().await {
        let order = message.body.to::<String>().unwrap_or_default();
        let mut words = order.split(' ');
        match words.next() {
            // `flood 100 1000`: so many messages of so many bytes.
            Some("flood") => {
                let mut number = || words.next().unwrap().parse::<usize>().unwrap();
                let (count, size) = (number(), number());
                for _ in 0..count {
                    if socket.send(vec![7; size]).await.is_err() {
                        break;
                    }
                }
            }
            Some("sleep") => {
                socket.closed().await;
            }
            Some("panic") => std::panic::panic_any(DELIBERATE),
            Some("leave") => return,
            _ => {
                if socket.send(message.body).await.is_err() {
                    break;
                }
            }
        }
    }
}

async fn serve(mut arriving: mpsc::UnboundedReceiver<Box<dyn Io>>, server: Server, count: Arc<AtomicUsize>) {
    let service = server.service();
    let mut connections = JoinSet::new();
    while let Some(io) = arriving.recv().await {
        let (service, count) = (service.clone(), Count::up(&count));
        connections.spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5));
            let _ = http.serve_connection(TokioIo::new(io), service).with_upgrades().await;
            drop(count);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Somebody who keeps to the protocol, answers pings, and now and then sends a message.
struct Bystander {
    checks: mpsc::UnboundedSender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Bystander {
    fn new(ws: Ws) -> Self {
        let (checks, asked) = mpsc::unbounded_channel();
        Self { checks, task: tokio::spawn(Self::live(ws, asked)) }
    }

    async fn live(mut ws: Ws, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        let mut me = Me { token: Some("bystander"), ..Me::new() };
        ws.say(&[me.hello_frame(TransportKind::WebSocket)]).await;
        let mut waiting: Option<oneshot::Sender<()>> = None;
        loop {
            let frame = tokio::select! {
                frame = ws.try_frame() => frame,
                check = asked.recv(), if waiting.is_none() => {
                    let Some(check) = check else { return };
                    let message = me.message("are you there?");
                    ws.say(&[message]).await;
                    waiting = Some(check);
                    continue;
                }
            };
            match frame {
                Ok(Frame::Ping(number)) => drop(ws.say(&[Frame::Pong(number)]).await),
                Ok(Frame::Message(_)) => {
                    me.received += 1;
                    ws.say(&[ack(me.received, me.received)]).await;
                    if let Some(check) = waiting.take() {
                        let _ = check.send(());
                    }
                }
                Ok(Frame::Close(close)) => panic!("the bystander was told {close}"),
                Ok(_) => {}
                Err(code) => panic!("the bystander was closed with {code:?}"),
            }
        }
    }
}

impl Stage {
    async fn new(set: Set) -> Self {
        let (handlers, started) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (running, starts) = (Arc::clone(&handlers), Arc::clone(&started));
        let handler = move |socket: Socket, _: Hub| {
            let count = Count::up(&running);
            starts.fetch_add(1, SeqCst);
            async move {
                handle(socket).await;
                drop(count);
            }
        };
        let server = set.builder.max_unattached(set.places).serve(handler).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (arrive, arriving) = mpsc::unbounded_channel::<Box<dyn Io>>();
        let serving = serve(arriving, server.clone(), Arc::clone(&connections));
        let (dial, host) = match set.net {
            Net::Pipes => (Dial::Pipes(arrive), tokio::spawn(serving)),
            Net::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let accepting = async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        stream.set_nodelay(true).unwrap();
                        let _ = arrive.send(Box::new(stream));
                    }
                };
                let host = async {
                    tokio::join!(accepting, serving);
                };
                (Dial::Tcp(address), tokio::spawn(host))
            }
        };
        let mut stage =
            Self { server, dial, handlers, started, connections, places: set.places, host, bystander: None };
        if set.bystander {
            let ws = Ws::open(stage.wire().await, Encoding::Json).await;
            stage.bystander = Some(Bystander::new(ws));
            stage.check_bystander().await;
        }
        stage
    }

    /// The bystander's session works.
    pub(crate) async fn check_bystander(&mut self) {
        let Some(bystander) = &mut self.bystander else { return };
        let (done, checked) = oneshot::channel();
        assert!(bystander.checks.send(done).is_ok(), "the bystander was turned out");
        within("the bystander's echo", checked).await.expect("the bystander's echo");
    }

    /// A new connection to the server.
    pub(crate) async fn wire(&self) -> Wire {
        match &self.dial {
            Dial::Pipes(arrive) => {
                let (near, far) = tokio::io::duplex(64 << 10);
                assert!(arrive.send(Box::new(far)).is_ok());
                Wire::new(Box::new(near))
            }
            Dial::Tcp(_) => Wire::new(Box::new(self.stream().await)),
        }
    }

    /// A new TCP connection to the server.
    pub(crate) async fn stream(&self) -> TcpStream {
        let Dial::Tcp(address) = &self.dial else { panic!("this scene is not played over TCP") };
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Asks on a connection of its own.
    pub(crate) async fn ask(&self, ask: &Ask) -> Answer {
        let mut wire = self.wire().await;
        within("an answer", wire.ask(ask)).await.expect("an answer")
    }

    /// How many sessions there are besides the bystander's.
    pub(crate) fn sessions(&self) -> usize {
        self.server.sessions() - usize::from(self.bystander.is_some())
    }

    /// How often a handler was started, the bystander's aside.
    pub(crate) fn started(&self) -> usize {
        self.started.load(SeqCst) - usize::from(self.bystander.is_some())
    }

    /// Waits until something holds that no event tells of.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(300);
        while !holds(self) {
            assert!(Instant::now() < deadline, "never came: {what}; {:?}", self.counters());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn counters(&self) -> [(&'static str, usize); 3] {
        let count = |count: &AtomicUsize| count.load(SeqCst);
        [
            ("sessions", self.server.sessions()),
            ("handlers", count(&self.handlers)),
            ("connections", count(&self.connections)),
        ]
    }

    /// Where no WebSocket opens, places cannot be counted by them.
    pub(crate) fn count_no_places(&mut self) {
        self.places = 0;
    }

    /// The bystander has seen nothing of it, and when all have left nothing is left.
    async fn finish(mut self) {
        self.check_bystander().await;
        if let Some(bystander) = self.bystander.take() {
            drop(bystander.checks);
            within("the bystander to leave", bystander.task).await.unwrap();
        }
        self.until("all counters at zero", |stage| stage.counters().iter().all(|(_, count)| *count == 0))
            .await;
        // All places are free: as many WebSockets open as there are.
        let mut opened = Vec::new();
        for _ in 0..self.places {
            opened.push(Ws::open(self.wire().await, Encoding::Json).await);
        }
        drop(opened);
        self.until("no connection", |stage| stage.counters().iter().all(|(_, count)| *count == 0)).await;
        self.host.abort();
        assert_eq!(self.server.shutdown("the scene is over", Duration::from_secs(30)).await, 0);
    }
}

/// Fails a scene that waits for what does not come, in its own time.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(100), future).await {
        Ok(value) => value,
        Err(_) => panic!("still waiting: {what}"),
    }
}
