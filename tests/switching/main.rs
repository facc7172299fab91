//! Every transport to every transport, under load both ways, cut at every step: nothing is lost, repeated or
//! reordered, and the handler runs once.
//!
//! Each run mixes bodies, JSON and binary, from nothing to the largest. A run that fails prints its name;
//! `SWITCHING="<name> <name>" cargo test --test switching by_its_name -- --nocapture` makes only those runs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking"
)]

mod chaos;
mod run;

#[path = "../support/pair.rs"]
mod pair;
#[path = "../support/mod.rs"]
mod support;

use throughline::TransportKind::{self, LongPolling, Sse, WebSocket};
use throughline::frame::Encoding;
use tokio::task::JoinSet;

use chaos::chaos;
use run::{Cut, Direction, How, Run, Seen};

/// Into how many parts the bytes of an undisturbed run are cut, in each direction.
const STEPS: u64 = 10;

/// At how many ends of writes it is cut as well, in each direction: just before, at and just behind.
const ENDS: usize = 4;

/// How many runs go at once.
const AT_ONCE: usize = 12;

/// Where to cut a run that passed so many bytes when it was not disturbed.
fn cuts(seen: &Seen) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (direction, reads) in [(Direction::Up, &seen.reads[0]), (Direction::Down, &seen.reads[1])] {
        let total = reads.last().copied().unwrap_or_default();
        let steps = (0..STEPS).map(|step| total * step / STEPS);
        // Of the greetings, and some spread over the rest.
        let spread = reads.iter().skip(2).step_by((reads.len() / 2).max(1));
        let ends = reads.iter().take(2).chain(spread).take(ENDS);
        let around = ends.flat_map(|end| [end.saturating_sub(1), *end, end + 1]);
        cuts.extend(steps.chain(around).map(|after| Cut { direction, after }));
    }
    cuts
}

/// Makes runs, some at once, and names those that failed.
async fn make(runs: impl IntoIterator<Item = Run>) {
    let (mut runs, mut making, mut failed) = (runs.into_iter(), JoinSet::new(), Vec::new());
    loop {
        while making.len() < AT_ONCE {
            let Some(run) = runs.next() else { break };
            making.spawn(async move { (run.to_string(), tokio::spawn(run.make()).await) });
        }
        let Some(made) = making.join_next().await else { break };
        let (name, made) = made.unwrap();
        if made.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{} runs failed:\n{}", failed.len(), failed.join("\n"));
}

async fn switch(from: TransportKind, to: TransportKind) {
    // Who is there already does not move.
    let moves = if from == to { &[][..] } else { &[How::MovedByClient, How::MovedByServer] };
    let mut runs = Vec::new();
    let mut seed = 0;
    for encoding in [Encoding::Json, Encoding::Binary] {
        for &how in moves.iter().chain(&[How::CutOver]) {
            let undisturbed = Run { from, to, encoding, how, cut: None, seed };
            let seen = undisturbed.make().await;
            for cut in cuts(&seen) {
                seed += 1;
                runs.push(Run { from, to, encoding, how, cut: Some(cut), seed });
            }
        }
    }
    make(runs).await;
}

macro_rules! pairs {
    ($($name:ident: $from:ident $to:ident;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                switch($from, $to).await;
            }
        )+
    };
}

pairs! {
    websocket_to_websocket: WebSocket WebSocket;
    websocket_to_sse: WebSocket Sse;
    websocket_to_long_polling: WebSocket LongPolling;
    sse_to_websocket: Sse WebSocket;
    sse_to_sse: Sse Sse;
    sse_to_long_polling: Sse LongPolling;
    long_polling_to_websocket: LongPolling WebSocket;
    long_polling_to_sse: LongPolling Sse;
    long_polling_to_long_polling: LongPolling LongPolling;
}

/// Random trouble, on two threads. `CHAOS="<seed> <seed>"` makes only the runs from one seed up to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_moves_and_cuts_lose_nothing() {
    let named = std::env::var("CHAOS").unwrap_or_default();
    let mut named = named.split_whitespace().map(|seed| seed.parse().unwrap());
    let seeds = named.next().unwrap_or(0)..named.next().unwrap_or(24);
    let runs = seeds.map(|seed| (seed, tokio::spawn(chaos(seed)))).collect::<Vec<_>>();
    let mut failed = Vec::new();
    for (seed, run) in runs {
        if run.await.is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

/// The runs that `SWITCHING` names, one after the other, or one that is cut.
#[tokio::test]
async fn a_run_is_made_again_by_its_name() {
    let cut = Some(Cut { direction: Direction::Down, after: 5_000 });
    let run =
        Run { from: Sse, to: WebSocket, encoding: Encoding::Binary, how: How::MovedByServer, cut, seed: 7 };
    assert_eq!(run.to_string().parse(), Ok(run.clone()));
    let names = std::env::var("SWITCHING").unwrap_or_else(|_| run.to_string());
    for name in names.split_whitespace() {
        let run: Run = name.parse().unwrap_or_else(|()| panic!("not a run: {name}"));
        let began = std::time::Instant::now();
        let carrier = run.make().await.carrier;
        println!("{name}: carried by {carrier} in the end, {} ms", began.elapsed().as_millis());
    }
}
