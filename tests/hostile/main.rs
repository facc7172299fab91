//! Raw peers that do all that a peer must not, against the real service behind real hyper.
//!
//! Every scene has a bystander whose session goes on working, and ends with all of the server's counters at zero:
//! sessions, handlers, connections, places for transports without a session. Most scenes run over in-memory pipes in
//! paused time, so that a deadline of minutes is exact and costs nothing; those where the kernel's part matters run
//! over TCP on a free port. No panic may come of anything, in any thread, except those that scenes ask for.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking"
)]

mod auth;
mod capacity;
mod floods;
mod frames;
mod greeting;
mod http;
mod keys;
mod limits;
mod me;
mod memory;
mod numbers;
mod origin;
mod peer;
mod polls;
mod requests;
mod slow;
mod stage;
mod tcp;
mod vanish;
mod ws;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Once, RwLock};

use peak_alloc::PeakAlloc;

/// What this process has allocated, and the most that it had.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Scenes that measure memory have the process to themselves.
static PROCESS: RwLock<()> = RwLock::new(());

/// What a panic says that a scene asked for.
const DELIBERATE: &str = "deliberate";

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts the panics of this process from here on, in any thread; a failed assertion of a scene is none.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() == Some(&DELIBERATE) {
                return;
            }
            if !info.location().is_some_and(|place| place.file().starts_with("tests/")) {
                PANICS.fetch_add(1, SeqCst);
            }
            before(info);
        }));
    });
}

fn panics() -> usize {
    PANICS.load(SeqCst)
}
