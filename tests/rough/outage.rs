//! In virtual time: a network on which nothing passes for a while and nobody is told, as in a tunnel. Connections that were made
//! before stay dead; what is dialled meanwhile opens when one of its first packets, sent again and again, comes through.

use std::future::Future;
use std::io;
use std::time::Duration;

use throughline::TransportKind::{self, LongPolling, Sse, WebSocket};
use tokio::io::{DuplexStream, copy, duplex, split};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::ALL;
use super::lab::{Lab, SECOND};

/// When a kernel sends the first packet of a connection again, in seconds after the first time.
const AGAIN: [u32; 6] = [0, 1, 3, 7, 15, 31];

/// When the tunnel begins and ends.
#[derive(Clone, Copy)]
struct Tunnel(Instant, Instant);

impl Tunnel {
    /// Makes a connection when its first packet comes through. It is dead from the tunnel's begin on.
    async fn connect(
        self,
        connecting: impl Future<Output = io::Result<DuplexStream>>,
    ) -> io::Result<DuplexStream> {
        let Self(begin, end) = self;
        let dialled = Instant::now();
        for after in AGAIN {
            sleep_until(dialled + after * SECOND).await;
            if Instant::now() < begin || Instant::now() >= end {
                break;
            }
        }
        let ((mut from_far, mut to_far), (near, ours)) = (split(connecting.await?), duplex(64 << 10));
        let (mut from_near, mut to_near) = split(ours);
        tokio::spawn(async move {
            let both =
                async { tokio::join!(copy(&mut from_near, &mut to_far), copy(&mut from_far, &mut to_near)) };
            if Instant::now() >= begin {
                let _ = both.await;
            } else if tokio::time::timeout_at(begin, both).await.is_err() {
                // Neither end hears of it.
                sleep_until(begin + 3600 * SECOND).await;
            }
        });
        Ok(near)
    }
}

/// How many go through a tunnel at once.
const CLIENTS: usize = 20;

/// How long after a tunnel of so many seconds the first message passes, for clients who say one each second.
async fn silences(transports: &'static [TransportKind], seconds: u32) -> Vec<Duration> {
    let lab = Lab::new(&[]).await;
    let begin = Instant::now() + 10 * SECOND;
    let end = begin + seconds * SECOND;
    let mut all = JoinSet::new();
    for _ in 0..CLIENTS {
        let (dials, tunnel) = (lab.network.connector(), Tunnel(begin, end));
        let builder = lab.client(transports, Duration::ZERO).connector(move || tunnel.connect(dials()));
        all.spawn(async move {
            let mut client = builder.connect().await.unwrap();
            let sender = client.sender();
            let talk = tokio::spawn(async move {
                let mut pace = interval(SECOND);
                for number in 0.. {
                    pace.tick().await;
                    if sender.send(number.to_string().as_str()).await.is_err() {
                        return;
                    }
                }
            });
            for number in 0.. {
                let message = timeout(600 * SECOND, client.recv()).await.unwrap().unwrap();
                assert_eq!(message.body.to::<String>().unwrap(), number.to_string(), "in order, once");
                if Instant::now() >= end {
                    break;
                }
            }
            talk.abort();
            end.elapsed()
        });
    }
    all.join_all().await
}

#[tokio::test(start_paused = true)]
async fn after_a_tunnel_nobody_waits_for_much_more_than_a_quarter_of_it() {
    for transports in [ALL, &[WebSocket], &[Sse], &[LongPolling]] {
        for seconds in [5, 15, 40, 90] {
            let mut silences = silences(transports, seconds).await;
            silences.sort();
            let (median, longest) = (silences[CLIENTS / 2], silences[CLIENTS - 1]);
            println!("{transports:?}, {seconds} s: {median:?} in the median, {longest:?} at most");
            // A dial that is under way at the end has failed 2 s later: the kernel would have sent its first packet again behind that.
            // Then comes the longest pause.
            let bound = seconds * SECOND / 4 + 3 * SECOND;
            assert!(longest <= bound, "{transports:?}, {seconds} s: {longest:?}");
        }
    }
}
