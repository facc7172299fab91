//! What the end-to-end tests share: a served service, a wire that fails on command, and a watchdog.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

mod serving;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use throughline::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Gives up after so many seconds in which the process ran: one that was held up for ten has spent a tenth of one.
pub async fn timeout<T>(seconds: u64, future: impl Future<Output = T>) -> Option<T> {
    let over = async {
        for _ in 0..seconds * 10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        biased;
        value = future => Some(value),
        () = over => None,
    }
}

/// Fails a test that hangs: with what it was waiting for.
pub async fn within<T>(seconds: u64, what: &str, future: impl Future<Output = T>) -> T {
    timeout(seconds, future).await.unwrap_or_else(|| panic!("still waiting after {seconds} s: {what}"))
}

/// A server behind real hyper on a free port of the loopback; it ends when dropped.
pub struct Served {
    pub address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Served {
    pub async fn new(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, server)
    }

    pub fn on(listener: TcpListener, server: &Server) -> Self {
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(serving::accept(listener, server.service()));
        Self { address, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}/live", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// No cut is set.
const NEVER: i64 = i64::MAX / 2;

#[derive(Debug)]
struct Wiring {
    /// How many more bytes pass in each direction before the connection that carries them is cut.
    up: AtomicI64,
    down: AtomicI64,
    /// Bytes that passed, in each direction.
    passed_up: AtomicU64,
    passed_down: AtomicU64,
    /// Bytes that came from the server, passed on or not.
    come_down: AtomicU64,
    /// Bytes that came from the client, passed on or not.
    come_up: AtomicU64,
    /// Connections accepted.
    accepted: AtomicU64,
    /// Cuts that a count of bytes has made, and whether such a cut takes all connections.
    counted_cuts: AtomicU64,
    cut_all: AtomicBool,
    /// How many bytes had come after each read: from the client, from the server.
    reads: Mutex<[Vec<u64>; 2]>,
    /// What each connection brought from the client, if that is kept.
    recorded: Mutex<Option<Vec<Vec<u8>>>>,
    /// Raised by each general cut.
    cuts: watch::Sender<u64>,
    /// Whether each direction stands still, and whether new connections are refused.
    stalled: watch::Sender<(bool, bool)>,
    refusing: watch::Sender<bool>,
}

/// A TCP relay to a server, which can be cut at any byte, stalled in either direction, or refuse.
#[derive(Debug)]
pub struct Wire {
    pub address: SocketAddr,
    wiring: Arc<Wiring>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Wire {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wiring = Arc::new(Wiring {
            up: AtomicI64::new(NEVER),
            down: AtomicI64::new(NEVER),
            passed_up: AtomicU64::new(0),
            passed_down: AtomicU64::new(0),
            come_down: AtomicU64::new(0),
            come_up: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            counted_cuts: AtomicU64::new(0),
            cut_all: AtomicBool::new(false),
            reads: Mutex::default(),
            recorded: Mutex::new(None),
            cuts: watch::Sender::new(0),
            stalled: watch::Sender::new((false, false)),
            refusing: watch::Sender::new(false),
        });
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&wiring)));
        Self { address, wiring, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}/live", self.address)
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.wiring.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets so many more bytes pass to the server, then cuts the connection that carries them, once.
    pub fn cut_after_up(&self, bytes: u64) {
        self.wiring.up.store(bytes as i64, SeqCst);
    }

    /// Lets so many more bytes pass to the client, then cuts the connection that carries them, once.
    pub fn cut_after_down(&self, bytes: u64) {
        self.wiring.down.store(bytes as i64, SeqCst);
    }

    /// From now on a cut after so many bytes takes all connections with it.
    pub fn cut_all_together(&self) {
        self.wiring.cut_all.store(true, SeqCst);
    }

    /// How many cuts after so many bytes there have been.
    pub fn counted_cuts(&self) -> u64 {
        self.wiring.counted_cuts.load(SeqCst)
    }

    /// How many bytes had come after each read: from the client, from the server. Most writes are one read.
    pub fn reads(&self) -> [Vec<u64>; 2] {
        self.wiring.reads.lock().unwrap().clone()
    }

    /// Stops or starts each direction: towards the server, towards the client. Nothing is lost.
    pub fn stall(&self, up: bool, down: bool) {
        self.wiring.stalled.send_replace((up, down));
    }

    /// Refuses new connections, or takes them again.
    pub fn refuse(&self, refuse: bool) {
        self.wiring.refusing.send_replace(refuse);
    }

    /// Bytes that passed: towards the server, towards the client.
    pub fn passed(&self) -> (u64, u64) {
        (self.wiring.passed_up.load(SeqCst), self.wiring.passed_down.load(SeqCst))
    }

    /// Bytes that came, passed on or not: from the client, from the server.
    pub fn come(&self) -> (u64, u64) {
        (self.wiring.come_up.load(SeqCst), self.wiring.come_down.load(SeqCst))
    }

    /// Keeps from now on what new connections bring from the client.
    pub fn record(&self) {
        *self.wiring.recorded.lock().unwrap() = Some(Vec::new());
    }

    /// What was kept, by connection.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.wiring.recorded.lock().unwrap().clone().unwrap_or_default()
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> u64 {
        self.wiring.accepted.load(SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, wiring: Arc<Wiring>) {
    let mut relays = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        if *wiring.refusing.borrow() {
            continue;
        }
        wiring.accepted.fetch_add(1, SeqCst);
        let wiring = Arc::clone(&wiring);
        relays.spawn(async move {
            let Ok(upstream) = TcpStream::connect(server).await else { return };
            let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
            relay(client, upstream, &wiring).await;
        });
        while relays.try_join_next().is_some() {}
    }
}

async fn relay(client: TcpStream, server: TcpStream, wiring: &Wiring) {
    let mut cuts = wiring.cuts.subscribe();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = pump(&mut from_client, &mut to_server, wiring, true);
    let down = pump(&mut from_server, &mut to_client, wiring, false);
    // Whichever ends first takes the other with it: both sockets are dropped here.
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = cuts.changed() => {}
    }
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    wiring: &Wiring,
    is_up: bool,
) {
    let (left, passed, come) = match is_up {
        true => (&wiring.up, &wiring.passed_up, &wiring.come_up),
        false => (&wiring.down, &wiring.passed_down, &wiring.come_down),
    };
    let record = |slot: Option<usize>, bytes: &[u8]| {
        let mut recorded = wiring.recorded.lock().unwrap();
        let recorded = recorded.as_mut().filter(|_| is_up)?;
        let slot = slot.unwrap_or_else(|| {
            recorded.push(Vec::new());
            recorded.len() - 1
        });
        recorded[slot].extend_from_slice(bytes);
        Some(slot)
    };
    let mut slot = None;
    let mut stalled = wiring.stalled.subscribe();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        let total = come.fetch_add(count as u64, SeqCst) + count as u64;
        wiring.reads.lock().unwrap()[usize::from(!is_up)].push(total);
        slot = record(slot, &buffer[..count]);
        let still = |stalled: &(bool, bool)| if is_up { !stalled.0 } else { !stalled.1 };
        if stalled.wait_for(still).await.is_err() {
            return;
        }
        let before = left.fetch_sub(count as i64, SeqCst);
        let cut = before < count as i64;
        let pass = if cut { usize::try_from(before.max(0)).unwrap() } else { count };
        if cut {
            left.store(NEVER, SeqCst);
            wiring.counted_cuts.fetch_add(1, SeqCst);
        }
        passed.fetch_add(pass as u64, SeqCst);
        let written = to.write_all(&buffer[..pass]).await;
        if cut && wiring.cut_all.load(SeqCst) {
            wiring.cuts.send_modify(|cuts| *cuts += 1);
        }
        if written.is_err() || cut {
            return;
        }
    }
}
