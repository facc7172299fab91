//! Two ends of a session over a seeded faulty network, in virtual time.
//!
//! Nothing may be lost, repeated or reordered, whatever the network does; what an end forgets is reported; and when
//! the faults stop, all that is outstanding is delivered or reported within bounded time.
//!
//! `SEEDS=n` runs so many seeds (default 20,000; 500 without optimisation), `FIRST=n` begins at another one,
//! `SEED=n` runs one and prints what happens.

#![expect(clippy::expect_used, clippy::panic, reason = "a test")]

mod app;
mod carrier;
mod checks;
mod client;
mod network;
mod rng;
mod server;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use checks::Totals;
use world::World;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn nothing_is_lost_repeated_or_reordered_whatever_the_network_does() {
    if let Some(seed) = number("SEED") {
        let totals = World::new(seed, true).run();
        eprintln!("seed {seed}: {totals:?}");
        return;
    }
    let first = number("FIRST").unwrap_or(0);
    let seeds = number("SEEDS").unwrap_or(if cfg!(debug_assertions) { 500 } else { 20_000 });
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let (totals, failures) = (Mutex::new(Totals::default()), Mutex::new(Vec::new()));
    let began = Instant::now();
    let work = || {
        let mut mine = Totals::default();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                break;
            }
            match catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run())) {
                Ok(run) => mine.add(&run),
                Err(_) => {
                    failed.store(true, Ordering::Relaxed);
                    failures.lock().unwrap().push(seed);
                }
            }
        }
        totals.lock().unwrap().add(&mine);
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(4) {
            scope.spawn(work);
        }
    });
    let totals = totals.into_inner().unwrap();
    eprintln!("{seeds} seeds from {first} in {:.1} s: {totals:?}", began.elapsed().as_secs_f64());
    let mut failures = failures.into_inner().unwrap();
    failures.sort_unstable();
    assert!(failures.is_empty(), "failing seeds: {failures:?}; SEED=n shows one");
    if seeds >= 500 {
        totals.assert_covered();
    }
}
