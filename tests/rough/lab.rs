//! Both ends of sessions in one process, with streams in memory between them, for tests in virtual time: nothing takes time but
//! what the client waits for, and no machine is too slow for a bound.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use throughline::TransportKind;
use throughline::client::{Builder, MemoryVerdicts};
use throughline::testing::{Rough, Rule};
use throughline::{Client, Hub, Sender, Server, Socket};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A server that answers each message with itself, and a network before it.
pub(crate) struct Lab {
    pub(crate) network: Rough,
    pub(crate) runs: Arc<AtomicUsize>,
    /// The server's ends.
    pub(crate) senders: mpsc::UnboundedReceiver<Sender>,
    detour: Detour,
}

/// By how much every round trip is longer than it was, from now on, in milliseconds.
type Detour = Arc<AtomicU64>;

impl Lab {
    pub(crate) async fn new(rules: &[Rule]) -> Self {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let (give, senders) = mpsc::unbounded_channel();
        let handler = move |mut socket: Socket, _: Hub| {
            counted.fetch_add(1, SeqCst);
            // The lab may be gone.
            let _ = give.send(socket.sender());
            async move {
                while let Ok(message) = socket.recv().await {
                    if socket.send(message.body).await.is_err() {
                        return;
                    }
                }
            }
        };
        let server = Server::builder().serve(handler).unwrap();
        let network = Rough::in_memory(move |stream| {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), server.service());
            tokio::spawn(connection.with_upgrades());
        });
        let network = network.await.unwrap();
        network.replace(rules.iter().copied());
        Self { network, runs, senders, detour: Detour::default() }
    }

    /// From now on every round trip is so much longer, on connections that are open as well.
    pub(crate) fn detour(&self, by: Duration) {
        self.detour.store(u64::try_from(by.as_millis()).unwrap(), SeqCst);
    }

    /// A client as it is by default, so many round trips away.
    pub(crate) fn client(&self, transports: &[TransportKind], round_trip: Duration) -> Builder {
        let connect = self.network.connector();
        let detour = Arc::clone(&self.detour);
        Client::builder(self.network.url("/live"))
            .transports(transports.iter().copied())
            .connector(move || far_away(connect(), round_trip, Arc::clone(&detour)))
            .verdicts(Arc::new(MemoryVerdicts::new()))
    }
}

/// A connection on which everything takes half a round trip, and which takes one to be made.
async fn far_away(
    connecting: impl Future<Output = io::Result<DuplexStream>>,
    round_trip: Duration,
    detour: Detour,
) -> io::Result<DuplexStream> {
    let round_trip = move || round_trip + Duration::from_millis(detour.load(SeqCst));
    sleep(round_trip()).await;
    let (theirs, (near, ours)) = (connecting.await?, duplex(64 << 10));
    let ((from_far, to_far), (from_near, to_near)) = (split(theirs), split(ours));
    tokio::spawn(async move {
        // The end of either direction is the end of both.
        tokio::select! {
            _ = delay(from_near, to_far, || round_trip() / 2) => {}
            _ = delay(from_far, to_near, || round_trip() / 2) => {}
        }
    });
    Ok(near)
}

/// Passes bytes on, each so much later.
async fn delay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    by: impl Fn() -> Duration,
) -> io::Result<()> {
    let (put, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let reading = async move {
        loop {
            let mut piece = Vec::with_capacity(16 << 10);
            let ended = from.read_buf(&mut piece).await? == 0;
            if put.send((Instant::now() + by(), piece)).await.is_err() || ended {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, piece)) = take.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|((), ())| ())
}
