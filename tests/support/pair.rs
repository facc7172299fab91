//! A client and a server, both ends of one session in hand, with a wire between them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use throughline::client::Backoff;
use throughline::frame::{Body, Encoding, Json, TransportKind};
use throughline::session::Config;
use throughline::{Client, Hub, Sender, Server, Socket, State, client, server};
use tokio::sync::mpsc;

use super::support::{Served, Wire, within};

/// The largest message that is taken by default.
pub(crate) const MAX_MESSAGE: usize = 512 << 10;

/// A transport in an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub kind: TransportKind,
    pub encoding: Encoding,
}

/// How the two ends are set up.
pub(crate) struct Setup {
    pub server: server::Builder,
    pub client: Config,
    /// What the client may use, best first.
    pub transports: Vec<TransportKind>,
    pub encoding: Encoding,
}

impl Setup {
    pub fn new(lane: Lane) -> Self {
        let mut client = Config::default();
        // What is lost is repeated soon: nothing here takes longer than some milliseconds.
        client.push_retry = Duration::from_millis(20);
        Self { server: Server::builder(), client, transports: vec![lane.kind], encoding: lane.encoding }
    }

    /// With the shortest heartbeat that there is, and as little patience elsewhere.
    pub fn impatient(lane: Lane) -> Self {
        let mut setup = Self::new(lane);
        setup.server = setup.server.heartbeat(Duration::from_secs(1));
        setup.client.welcome_within = Duration::from_secs(1);
        setup
    }

    /// Changes the bounds and times of both ends.
    pub fn bounds(mut self, change: impl Fn(&mut Config)) -> Self {
        let mut server = Config::default();
        change(&mut server);
        change(&mut self.client);
        self.server = self.server.session(server);
        self
    }

    pub fn client(&self, url: String) -> client::Builder {
        let backoff = Backoff::default().base(Duration::from_millis(20)).cap(Duration::from_millis(200));
        Client::builder(url)
            .transports(self.transports.iter().copied())
            .encoding(self.encoding)
            .backoff(backoff)
            .session(self.client.clone())
            // However slow the machine.
            .give_up_after(None)
            // A port may have been another's before.
            .verdicts(std::sync::Arc::new(client::MemoryVerdicts::new()))
    }
}

/// A server whose handler hands its sockets out.
pub(crate) struct House {
    pub server: Server,
    pub served: Served,
    pub runs: Arc<AtomicUsize>,
    pub sockets: mpsc::UnboundedReceiver<Socket>,
}

impl House {
    pub async fn new(builder: server::Builder) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, builder)
    }

    pub fn on(listener: tokio::net::TcpListener, builder: server::Builder) -> Self {
        let (runs, (give, sockets)) = (Arc::new(AtomicUsize::new(0)), mpsc::unbounded_channel());
        let counted = Arc::clone(&runs);
        let handler = move |socket: Socket, _: Hub| {
            counted.fetch_add(1, SeqCst);
            let given = give.send(socket);
            async move { given.expect("nobody takes this socket") }
        };
        let server = builder.serve(handler).unwrap();
        let served = Served::on(listener, &server);
        Self { server, served, runs, sockets }
    }

    pub async fn socket(&mut self) -> Socket {
        within(10, "the handler runs", self.sockets.recv()).await.unwrap()
    }

    /// How often the handler ran.
    pub fn runs(&self) -> usize {
        self.runs.load(SeqCst)
    }
}

/// Both ends of one session.
pub(crate) struct Pair {
    pub client: Socket,
    pub server: Socket,
    pub wire: Wire,
    pub house: House,
}

impl Pair {
    pub async fn new(lane: Lane) -> Self {
        Self::with(Setup::new(lane)).await
    }

    pub async fn with(setup: Setup) -> Self {
        let mut house = House::new(setup.server.clone()).await;
        let wire = Wire::to(house.served.address).await;
        let client = within(10, "the client connects", setup.client(wire.url()).connect()).await.unwrap();
        let server = house.socket().await;
        Self { client, server, wire, house }
    }

    /// Sends `count` small messages each way at once, numbered from `first`, and receives them all.
    pub async fn talk(&mut self, first: u64, count: u64) {
        let numbers = first..first + count;
        let (up, down) = (self.client.sender(), self.server.sender());
        let talk = async {
            tokio::join!(
                send_all(&up, numbers.clone().map(small)),
                send_all(&down, numbers.clone().map(small)),
                recv_all("server", &mut self.server, numbers.clone().map(small)),
                recv_all("client", &mut self.client, numbers.clone().map(small)),
            )
        };
        within(30, "messages go both ways", talk).await;
    }

    /// The session ends as the client says, and the handler ran once.
    pub async fn end(mut self) {
        self.client.close(throughline::CloseCode::Normal, "enough");
        let end = within(10, "the server hears the close", self.server.recv()).await;
        let error = end.expect_err("one message too many");
        assert_eq!(error.close().code, throughline::CloseCode::Normal, "{error}");
        assert_eq!(error.close().reason, "enough");
        let extra = within(10, "the client ends", self.client.recv()).await;
        assert!(extra.is_err(), "one message too many: {extra:?}");
        assert_eq!(self.house.runs(), 1, "the handler ran once");
    }
}

/// Listens where somebody listened who is about to go.
pub(crate) async fn listen_again(address: std::net::SocketAddr) -> tokio::net::TcpListener {
    let listening = async {
        loop {
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    within(5, "the address is free", listening).await
}

/// A body of a size: JSON (a string) or binary, and different for each number.
pub(crate) fn body(number: u64, size: usize, binary: bool) -> Body {
    let pattern = format!("{number}.");
    let fill = |count: usize| {
        let mut bytes = pattern.repeat(count / pattern.len() + 1);
        bytes.truncate(count);
        bytes
    };
    match size {
        _ if binary => Body::from(fill(size).into_bytes()),
        0 | 1 => Body::from(Json::parse("7").unwrap()),
        _ => Body::from(Json::parse(format!("\"{}\"", fill(size - 2))).unwrap()),
    }
}

/// A small body, JSON and binary in turns.
pub(crate) fn small(number: u64) -> Body {
    body(number, 24, number % 2 == 1)
}

pub(crate) async fn send_all(sender: &Sender, bodies: impl Iterator<Item = Body>) {
    for (at, body) in bodies.enumerate() {
        if let Err(error) = sender.send(body).await {
            panic!("message {at} was not accepted: {error}");
        }
    }
}

/// Receives exactly these, in order.
pub(crate) async fn recv_all(who: &str, socket: &mut Socket, bodies: impl Iterator<Item = Body>) {
    for (at, expected) in bodies.enumerate() {
        let message = match socket.recv().await {
            Ok(message) => message,
            Err(error) => panic!("{who}: {error} instead of message {at} (state {:?})", socket.state()),
        };
        if message.body != expected {
            let show = |body: &Body| {
                let bytes = body.as_bytes();
                format!("{} bytes {:?}", bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(24)]))
            };
            let (came, expected) = (show(&message.body), show(&expected));
            panic!("{who}: message {at} (seq {:?}) is {came} instead of {expected}", message.seq);
        }
    }
}

/// Waits until something carries the session.
pub(crate) async fn connected(socket: &Socket) -> TransportKind {
    let mut watch = socket.watch();
    let mut state = watch.state();
    loop {
        match state {
            State::Connected { transport } => return transport,
            State::Closed { close } => panic!("closed: {close}"),
            _ => state = watch.changed().await,
        }
    }
}

/// Waits until nothing carries the session.
pub(crate) async fn adrift(socket: &Socket) {
    let mut watch = socket.watch();
    let mut state = watch.state();
    while let State::Connected { .. } = state {
        state = watch.changed().await;
    }
}

/// Waits until a condition holds that nothing announces.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let look = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(20, what, look).await;
}
