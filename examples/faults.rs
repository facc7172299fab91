//! Sessions through networks that do at random what networks do by accident: counts what is lost, repeated or reordered.
//!
//! ```text
//! cargo run --release --features testing --example faults -- --minutes 60 --sessions 50 --seed 1
//! ```
//!
//! Each session is carried by what it may use (everything, or one transport only) through one of several rough networks,
//! whose rules change every few hundred milliseconds, with a clear spell in between. Both ends send numbered messages of
//! many sizes and check what comes. At the end the networks are repaired, each end says how far it got, and all of that
//! must have come. The process ends with 1 if anything was lost, repeated or reordered, or any session ended.

#[path = "support/breaking.rs"]
mod breaking;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use throughline::client::MemoryVerdicts;
use throughline::frame::Encoding;
use throughline::testing::{Direction, Rough, Rule};
use throughline::{Body, Client, CloseCode, Hub, Sender, Server, Socket, TransportKind};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "faults [--minutes M | --seconds S] [--sessions N] [--networks N] [--seed N]";

const MS: Duration = Duration::from_millis(1);

/// How long everything may take to come once the networks are repaired.
const SETTLING: Duration = Duration::from_secs(120);

/// Numbers that look random (xorshift64*), the same for the same seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }
}

/// What was seen by all receivers.
#[derive(Default)]
struct Count {
    up: AtomicU64,
    down: AtomicU64,
    lost: AtomicU64,
    repeated: AtomicU64,
    reordered: AtomicU64,
    ended: AtomicU64,
    runs: AtomicU64,
    passages: AtomicU64,
    /// The first of what went wrong.
    notes: Mutex<Vec<String>>,
}

impl Count {
    fn note(&self, text: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < 20 {
            notes.push(text);
        }
    }

    fn breaches(&self) -> u64 {
        [&self.lost, &self.repeated, &self.reordered, &self.ended]
            .map(|count| count.load(Relaxed))
            .iter()
            .sum()
    }
}

/// A message: its number, the flag of the last one, and padding.
fn body(number: u64, last: bool, padding: u64) -> Body {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.push(u8::from(last));
    bytes.resize(9 + usize::try_from(padding).unwrap_or(0), b'.');
    Body::from(bytes)
}

/// Sends numbered messages until it is time to stop, and says which one is the last.
async fn send(sender: Sender, mut dice: Dice, mut stop: watch::Receiver<bool>) {
    let mut number = 0;
    loop {
        let last = *stop.borrow();
        let padding = match dice.below(1000) {
            0 => 200_000,
            1..10 => 20_000,
            _ => dice.below(200),
        };
        if sender.send(body(number, last, if last { 0 } else { padding })).await.is_err() || last {
            return;
        }
        number += 1;
        let pause = sleep(MS * u32::try_from(dice.below(60)).unwrap_or(0));
        tokio::select! {
            () = pause => {}
            _ = stop.changed() => {}
        }
    }
}

/// Receives numbered messages until the last one, and judges each.
async fn receive(who: &str, socket: &mut Socket, count: &Count, tally: &AtomicU64) {
    let (mut next, mut missing) = (0_u64, BTreeSet::new());
    loop {
        let message = match socket.recv().await {
            Ok(message) => message,
            Err(error) => {
                count.ended.fetch_add(1, Relaxed);
                return count.note(format!("{who} ended behind {next} messages: {error}"));
            }
        };
        let bytes = message.body.as_bytes();
        let Some((head, rest)) = bytes.split_first_chunk::<8>() else { continue };
        let number = u64::from_be_bytes(*head);
        tally.fetch_add(1, Relaxed);
        if number > next {
            count.note(format!("{who} got {number} instead of {next}"));
            missing.extend(next..number);
        } else if number < next {
            count.note(format!("{who} got {number} when {next} was due"));
            let counter = if missing.remove(&number) { &count.reordered } else { &count.repeated };
            counter.fetch_add(1, Relaxed);
        }
        next = next.max(number + 1);
        if rest.first() == Some(&1) {
            count.lost.fetch_add(missing.len() as u64, Relaxed);
            return;
        }
    }
}

/// What a network does in a spell, at random.
fn rules(dice: &mut Dice) -> Vec<(u32, Rule)> {
    let mut some = || match dice.below(20) {
        0 => Rule::RefuseUpgrade { status: 403 },
        1 => Rule::StripUpgrade,
        2 => Rule::SwallowUpgrade,
        3 => Rule::CarryNothing,
        4 => Rule::OneWay(Direction::Up),
        5 => Rule::OneWay(Direction::Down),
        6 => Rule::CutAfter(MS * (20 + u32::try_from(dice.below(500)).unwrap_or(0))),
        7 => Rule::CutAfterBytes { direction: Direction::Up, bytes: 1_000 + dice.below(20_000) },
        8 => Rule::CutAfterBytes { direction: Direction::Down, bytes: 1_000 + dice.below(20_000) },
        9 => Rule::HoldBody { bytes: None, head: dice.below(2) == 0 },
        10 => Rule::HoldBody { bytes: Some(100 + dice.below(8_000)), head: false },
        11 => Rule::DropResponse,
        12 => Rule::ReplayRequest,
        13 => Rule::SwallowPost,
        14 => Rule::CloseIdle(MS * (20 + u32::try_from(dice.below(300)).unwrap_or(0))),
        15 => Rule::CloseOld(MS * (20 + u32::try_from(dice.below(500)).unwrap_or(0))),
        16 => Rule::Delay(MS * (1 + u32::try_from(dice.below(20)).unwrap_or(0))),
        17 => Rule::Throttle { bytes_per_second: 20_000 + dice.below(200_000) },
        18 => Rule::CaptivePortal,
        _ => Rule::Refuse { status: 503 },
    };
    let (one, other) = (some(), some());
    let often = 1 + u32::try_from(dice.below(4)).unwrap_or(0);
    if dice.below(2) == 0 { vec![(often, one)] } else { vec![(often, one), (1, other)] }
}

/// Changes the rules of a network until it is time to stop; then it is repaired.
async fn torment(network: Arc<Rough>, mut dice: Dice, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        network.replace([]);
        let clear = sleep(MS * (200 + u32::try_from(dice.below(2_000)).unwrap_or(0)));
        tokio::select! {
            () = clear => {}
            _ = stop.changed() => break,
        }
        for (often, rule) in rules(&mut dice) {
            network.every(often, rule);
        }
        if dice.below(3) == 0 {
            network.cut();
        }
        let spell = sleep(MS * (200 + u32::try_from(dice.below(3_000)).unwrap_or(0)));
        tokio::select! {
            () = spell => {}
            _ = stop.changed() => break,
        }
    }
    network.replace([]);
    // What a rule holds on to is let go.
    network.cut();
}

/// One session from its begin to its end, at the client's end.
async fn session(
    at: u64,
    url: String,
    count: Arc<Count>,
    seed: u64,
    stop: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let kinds = TransportKind::ALL;
    let allowed: Vec<_> = match usize::try_from(at % 4)? {
        0 => kinds.to_vec(),
        one => vec![kinds[one - 1]],
    };
    let encoding = if at % 3 == 0 { Encoding::Binary } else { Encoding::Json };
    let mut socket = Client::builder(url)
        .transports(allowed.iter().copied())
        .encoding(encoding)
        .verdicts(Arc::new(MemoryVerdicts::new()))
        .give_up_after(None)
        .send_patience(None)
        .start()?;
    let who = format!("client {at} ({allowed:?})");
    let sending = tokio::spawn(send(socket.sender(), Dice::new(seed), stop));
    receive(&who, &mut socket, &count, &count.down).await;
    sending.await?;
    count.passages.fetch_add(socket.transport_history().len() as u64, Relaxed);
    // The other end closes, once it has all.
    let _ = timeout(SETTLING, socket.recv()).await;
    Ok(())
}

struct Options {
    length: Duration,
    sessions: u64,
    networks: u64,
    seed: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, BoxError> {
        let mut options = Self { length: Duration::from_secs(60), sessions: 50, networks: 10, seed: 1 };
        while let Some(name) = args.next() {
            let value = args.next().ok_or(USAGE)?;
            match name.as_str() {
                "--minutes" => options.length = Duration::try_from_secs_f64(value.parse::<f64>()? * 60.0)?,
                "--seconds" => options.length = Duration::try_from_secs_f64(value.parse()?)?,
                "--sessions" => options.sessions = value.parse()?,
                "--networks" => options.networks = value.parse::<u64>()?.max(1),
                "--seed" => options.seed = value.parse()?,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

async fn serve(
    count: Arc<Count>,
    seed: u64,
    stop: watch::Receiver<bool>,
) -> Result<std::net::SocketAddr, BoxError> {
    let server = Server::builder().send_patience(None).serve(move |mut socket: Socket, _: Hub| {
        let (count, stop) = (Arc::clone(&count), stop.clone());
        let run = count.runs.fetch_add(1, Relaxed);
        async move {
            let sending = tokio::spawn(send(socket.sender(), Dice::new(seed ^ (run << 32)), stop));
            receive(&format!("server {run}"), &mut socket, &count, &count.up).await;
            let _ = sending.await;
            socket.close(CloseCode::Normal, "all came");
        }
    })?;
    Ok(breaking::serve(server).await?)
}

async fn run(options: Options) -> Result<bool, BoxError> {
    let Options { length, sessions, networks, seed } = options;
    let count = Arc::<Count>::default();
    let (tell, stop) = watch::channel(false);
    let (mend, mended) = watch::channel(false);
    let address = serve(Arc::clone(&count), seed, stop.clone()).await?;
    let mut boxes = Vec::new();
    let mut tormenting = JoinSet::new();
    for at in 0..networks {
        let network = Arc::new(Rough::to(address).await?);
        let dice = Dice::new(seed.wrapping_add(1 + at));
        tormenting.spawn(torment(Arc::clone(&network), dice, mended.clone()));
        boxes.push(network);
    }
    let mut running = JoinSet::new();
    for (at, network) in (0..sessions).zip(boxes.iter().cycle()) {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(at);
        running.spawn(session(at, network.url("/live"), Arc::clone(&count), seed, stop.clone()));
    }
    let end = Instant::now() + length;
    while Instant::now() < end {
        sleep_until(end.min(Instant::now() + Duration::from_secs(60))).await;
        let (up, down) = (count.up.load(Relaxed), count.down.load(Relaxed));
        eprintln!("{up} up, {down} down, {} breaches", count.breaches());
    }
    mend.send_replace(true);
    while tormenting.join_next().await.is_some() {}
    tell.send_replace(true);
    let settled = timeout(SETTLING, async {
        while let Some(ended) = running.join_next().await {
            if let Ok(Err(error)) | Err(error) = ended.map_err(BoxError::from) {
                count.note(error.to_string());
                count.ended.fetch_add(1, Relaxed);
            }
        }
    });
    let late = if settled.await.is_err() { running.len() } else { 0 };
    for note in count.notes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        eprintln!("{note}");
    }
    let acted: u64 = boxes.iter().map(|network| network.acted()).sum();
    let get = |number: &AtomicU64| number.load(Relaxed);
    println!(
        "{sessions} sessions, {} s, seed {seed}: {} messages up, {} down, {acted} faults, {} transports in their histories",
        length.as_secs(),
        get(&count.up),
        get(&count.down),
        get(&count.passages),
    );
    let (lost, repeated, reordered) = (get(&count.lost), get(&count.repeated), get(&count.reordered));
    println!(
        "lost/repeated/reordered: {lost}/{repeated}/{reordered}; ended early: {}; late: {late}",
        get(&count.ended)
    );
    let once = get(&count.runs) == sessions;
    if !once {
        println!("the handler ran {} times for {sessions} sessions", get(&count.runs));
    }
    Ok(count.breaches() == 0 && late == 0 && once)
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
