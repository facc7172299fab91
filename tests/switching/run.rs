//! One run: a session that changes its transport in the middle of messages, and may be cut anywhere.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use throughline::frame::Encoding;
use throughline::socket::{Passage, RecvError};
use throughline::{Body, CloseCode, Sender, Server, Socket, TransportKind};

use crate::pair::{House, Lane, MAX_MESSAGE, Setup, body, connected, recv_all};
use crate::support::{Wire, timeout};

/// How many messages go each way before the move is asked for, while it happens, and behind it.
const BEFORE: u64 = 8;
const DURING: u64 = 24;
const BEHIND: u64 = 4;

/// How long a run may take.
const PATIENCE: u64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Where the wire is cut: once so many bytes have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) direction: Direction,
    pub(crate) after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The client moves in the middle of messages.
    MovedByClient,
    /// The server asks it to.
    MovedByServer,
    /// Nobody moves: what is cut comes back on the other transport.
    CutOver,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) from: TransportKind,
    pub(crate) to: TransportKind,
    pub(crate) encoding: Encoding,
    pub(crate) how: How,
    pub(crate) cut: Option<Cut>,
    /// Chooses the bodies.
    pub(crate) seed: u64,
}

/// What was seen of a run.
#[derive(Debug)]
pub(crate) struct Seen {
    /// How many bytes had passed after each read, up and down.
    pub(crate) reads: [Vec<u64>; 2],
    /// What carried the session in the end.
    pub(crate) carrier: TransportKind,
}

/// How far a run is, for whoever finds it stuck.
#[derive(Debug, Default)]
struct Progress {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
}

impl Run {
    /// Body number `number` of one direction.
    fn body(&self, direction: Direction, number: u64) -> Body {
        let mixed = mix(self.seed ^ (number << 8) ^ (((direction == Direction::Up) as u64) << 40));
        // Now and then the largest message there is, one way or the other.
        let large = 5 + 6 * (direction as u64);
        let size = match mixed % 10 {
            _ if self.seed % 12 == large && number == BEFORE + 2 => MAX_MESSAGE,
            0 => 0,
            1 => 1,
            2 => 9_000 + (mixed >> 8) as usize % 9_000,
            3 => 1_000 + (mixed >> 8) as usize % 1_000,
            _ => 2 + (mixed >> 8) as usize % 200,
        };
        body(number, size, (mixed >> 32) & 1 == 0)
    }

    fn bodies(&self, direction: Direction, from: u64, to: u64) -> impl Iterator<Item = Body> + '_ {
        (from..to).map(move |number| self.body(direction, number))
    }

    fn setup(&self) -> Setup {
        let mut setup = Setup::new(Lane { kind: self.from, encoding: self.encoding });
        if self.from != self.to {
            // The client begins with what the server likes less.
            setup.transports = vec![self.from, self.to];
            setup.server = Server::builder().transports([self.to, self.from]);
        }
        setup
    }

    /// Makes the run.
    pub(crate) async fn make(self) -> Seen {
        let setup = self.setup();
        let mut house = House::new(setup.server.clone()).await;
        let wire = Wire::to(house.served.address).await;
        match self.cut {
            Some(Cut { direction: Direction::Up, after }) => wire.cut_after_up(after),
            Some(Cut { direction: Direction::Down, after }) => wire.cut_after_down(after),
            None => {}
        }
        if self.how == How::CutOver {
            wire.cut_all_together();
        }
        // One transport after the other, however slow the machine: which of them carries in the end is looked at.
        let mut client = setup.client(wire.url()).head_start(Duration::MAX).start().unwrap();
        let progress = Progress::default();
        let watched = self.watched(&mut client, &mut house, &wire, &progress);
        match timeout(PATIENCE, watched).await {
            Some(carrier) => {
                assert_eq!(house.runs(), 1, "{self}: the handler ran once");
                Seen { reads: wire.reads(), carrier }
            }
            None => panic!("{self}: stuck: {progress:?}, client {:?}", client.state()),
        }
    }

    async fn watched(
        &self,
        client: &mut Socket,
        house: &mut House,
        wire: &Wire,
        progress: &Progress,
    ) -> TransportKind {
        let total = BEFORE + DURING;
        let up = self.send(client.sender(), Direction::Up, 0, total, progress);
        let down = async {
            let mut server = house.socket().await;
            let sending = server.sender();
            let received = async {
                self.receive(&mut server, Direction::Up, 0, BEFORE, progress).await;
                if self.how == How::MovedByServer {
                    server.move_to(self.to);
                }
                self.receive(&mut server, Direction::Up, BEFORE, total, progress).await;
            };
            tokio::join!(received, self.send(sending, Direction::Down, 0, total, progress));
            server
        };
        let received = async {
            self.receive(client, Direction::Down, 0, BEFORE, progress).await;
            if self.how == How::MovedByClient {
                client.move_to(self.to);
            }
            self.receive(client, Direction::Down, BEFORE, total, progress).await;
        };
        let ((), mut server, ()) = tokio::join!(up, down, received);
        let carrier = self.settle(client, wire).await;
        // Over what carries it now.
        let last = total + BEHIND;
        tokio::join!(
            self.send(client.sender(), Direction::Up, total, last, progress),
            self.send(server.sender(), Direction::Down, total, last, progress),
            self.receive(&mut server, Direction::Up, total, last, progress),
            self.receive(client, Direction::Down, total, last, progress),
        );
        client.close(CloseCode::Normal, "enough");
        let end = server.recv().await.expect_err("the server got one message too many");
        assert!(
            matches!(&end, RecvError::Ended(end) if end.close.reason == "enough"),
            "{self}: server: {end}"
        );
        let end = client.recv().await.expect_err("the client got one message too many");
        assert!(matches!(&end, RecvError::Ended(end) if end.undelivered.is_empty()), "{self}: client: {end}");
        carrier
    }

    /// What must carry the session in the end; none where that depends on what the cut, or the clock, has hit.
    fn wanted(&self, client: &Socket, cut: bool) -> Option<TransportKind> {
        match (self.how, cut) {
            (How::MovedByClient | How::MovedByServer, false) => Some(self.to),
            (How::CutOver, false) if !outwaited(client) => Some(self.from),
            // A stream cannot outlive its connection. A series of polls can.
            (How::CutOver, true) if self.from != TransportKind::LongPolling && !outwaited(client) => {
                Some(self.to)
            }
            _ => None,
        }
    }

    /// Waits for what is wanted. The cut may still come meanwhile.
    async fn settle(&self, client: &Socket, wire: &Wire) -> TransportKind {
        let mut tries = 0;
        let settled = async {
            loop {
                let carrier = connected(client).await;
                let wanted = self.wanted(client, wire.counted_cuts() > 0);
                if wanted.is_none_or(|wanted| wanted == carrier) {
                    return carrier;
                }
                // A machine that stood lets a move run out of time: then it is asked for once more, as a person would.
                let history = client.transport_history();
                let failed = history.iter().filter(|passage| ran_out_of_time(passage)).count();
                if self.how != How::CutOver && failed > tries {
                    tries = failed;
                    client.move_to(self.to);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match timeout(20, settled).await {
            Some(carrier) => carrier,
            None => panic!(
                "{self}: not carried by what is wanted after {} cuts:\n{}",
                wire.counted_cuts(),
                client.transport_history().iter().map(|passage| format!("  {passage}\n")).collect::<String>()
            ),
        }
    }

    async fn send(&self, sender: Sender, direction: Direction, from: u64, to: u64, progress: &Progress) {
        for body in self.bodies(direction, from, to) {
            sender.send(body).await.unwrap_or_else(|error| panic!("{self}: {direction:?}: {error}"));
            progress.sent[direction as usize].fetch_add(1, SeqCst);
            // Spread over the whole run, and not all in one write.
            tokio::task::yield_now().await;
        }
    }

    async fn receive(
        &self,
        socket: &mut Socket,
        direction: Direction,
        from: u64,
        to: u64,
        progress: &Progress,
    ) {
        for body in self.bodies(direction, from, to) {
            let at = progress.received[direction as usize].fetch_add(1, SeqCst);
            recv_all(&format!("{self}: {direction:?} {at}"), socket, std::iter::once(body)).await;
        }
    }
}

/// Whether it was given up because something took too long, and not because it was cut.
fn ran_out_of_time(passage: &Passage) -> bool {
    let codes = ["unproved", "silent", "no_welcome"];
    passage.ended.as_ref().is_some_and(|ended| codes.contains(&&*ended.code))
}

fn outwaited(client: &Socket) -> bool {
    client.transport_history().iter().any(ran_out_of_time)
}

/// Spreads the bits of a number (the finalizer of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const ENCODINGS: [(Encoding, &str); 2] = [(Encoding::Json, "json"), (Encoding::Binary, "binary")];
const HOWS: [(How, &str); 3] =
    [(How::MovedByClient, "client"), (How::MovedByServer, "server"), (How::CutOver, "cut")];

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoding = ENCODINGS.iter().find(|row| row.0 == self.encoding).map_or("", |row| row.1);
        let how = HOWS.iter().find(|row| row.0 == self.how).map_or("", |row| row.1);
        write!(f, "{}/{}/{encoding}/{how}/{}", self.from, self.to, self.seed)?;
        match self.cut {
            Some(Cut { direction: Direction::Up, after }) => write!(f, "/up/{after}"),
            Some(Cut { direction: Direction::Down, after }) => write!(f, "/down/{after}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Run {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut parts = name.split('/');
        let mut next = || parts.next().ok_or(());
        let from = next()?.parse().map_err(drop)?;
        let to = next()?.parse().map_err(drop)?;
        let encoding = next()?;
        let encoding = ENCODINGS.iter().find(|row| row.1 == encoding).ok_or(())?.0;
        let how = next()?;
        let how = HOWS.iter().find(|row| row.1 == how).ok_or(())?.0;
        let seed = next()?.parse().map_err(drop)?;
        let cut = match next() {
            Err(()) => None,
            Ok(direction) => {
                let direction = if direction == "up" { Direction::Up } else { Direction::Down };
                Some(Cut { direction, after: next()?.parse().map_err(drop)? })
            }
        };
        Ok(Self { from, to, encoding, how, cut, seed })
    }
}
