//! The inbox in memory does what all must; `tests/postgres` holds the same against the one in PostgreSQL.

#![expect(clippy::unwrap_used, reason = "tests say what they expect by panicking")]

mod contract;
mod journey;
#[expect(dead_code, unreachable_pub, reason = "its main is not called")]
#[path = "../../examples/notifications.rs"]
mod notifications;
mod scene;
#[expect(dead_code, reason = "the tests of rooms use all of it")]
#[path = "../rooms/stage.rs"]
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use contract::Kind;
use throughline::hub::{Inbox, InboxBounds, InboxError, MemoryInbox};
use throughline::room::payload::Position;
use throughline::{Body, Principal};

struct Memory;

impl Kind for Memory {
    type Inbox = MemoryInbox;

    async fn inbox(&self, bounds: InboxBounds) -> MemoryInbox {
        MemoryInbox::new(bounds).unwrap()
    }

    async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_inbox_in_memory_does_what_all_must() {
    contract::hold(Memory).await;
}

#[tokio::test]
async fn what_it_keeps_is_received_once_and_in_order() {
    journey::once_and_in_order(Memory.inbox(journey::BOUNDS).await).await;
}

#[tokio::test]
async fn what_a_session_did_not_receive_before_it_ended_goes_to_the_next() {
    journey::from_session_to_session(Memory.inbox(journey::BOUNDS).await).await;
}

#[tokio::test]
async fn notifications_wait_in_memory_for_who_is_away() {
    scene::notifications_wait_for_who_is_away(notifications::hub(None).await.unwrap()).await;
}

/// One that cannot be reached for a while, each time it is asked.
struct Shaky(MemoryInbox, AtomicU32);

impl Shaky {
    fn falter(&self) -> Result<(), InboxError> {
        // Every third time, so that what comes in pairs comes through.
        match self.1.fetch_add(1, Relaxed) % 3 {
            0 => Err(InboxError::Unavailable("it is away".into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Inbox for Shaky {
    async fn put(&self, principal: &Principal, body: Body) -> Result<(), InboxError> {
        self.0.put(principal, body).await
    }

    async fn oldest(&self, principal: &Principal, count: usize) -> Result<Vec<(Position, Body)>, InboxError> {
        self.falter()?;
        self.0.oldest(principal, count).await
    }

    async fn delete(&self, principal: &Principal, up_to: Position) -> Result<(), InboxError> {
        self.falter()?;
        self.0.delete(principal, up_to).await
    }
}

#[tokio::test]
async fn an_inbox_that_fails_again_and_again_repeats_nothing_and_leaves_nothing_out() {
    let shaky = Shaky(Memory.inbox(journey::BOUNDS).await, AtomicU32::new(0));
    journey::few_by_hand(shaky).await;
}
