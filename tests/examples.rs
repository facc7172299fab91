//! The examples do what they say.

#![expect(clippy::unwrap_used, reason = "tests say what they expect by panicking")]

#[expect(dead_code, unreachable_pub, reason = "its main is not called")]
#[path = "../examples/presence.rs"]
mod presence;
#[path = "support/mod.rs"]
mod support;
#[expect(dead_code, unreachable_pub, reason = "its main is not called")]
#[path = "../examples/ticker.rs"]
mod ticker;

use std::collections::HashMap;

use support::{Served, within};
use throughline::client::rooms::Event;
use throughline::{CloseCode, Rooms};

/// Receives until the list of who is online reads so.
async fn shows(rooms: &mut Rooms, online: &mut presence::Online, expected: &str) {
    let wait = async {
        while online.line() != expected {
            if let Event::Room(notice) = rooms.recv().await.unwrap() {
                online.take(notice);
            }
        }
    };
    within(20, expected, wait).await;
}

#[tokio::test]
async fn presence_shows_each_person_once_from_first_to_last_session() {
    let served = Served::new(&presence::server().unwrap()).await;
    let url = served.url();
    let mut ada = presence::appear(&url, "ada").await.unwrap();
    let mut online = presence::Online::default();
    shows(&mut ada, &mut online, "ada (here)").await;
    let bob = presence::appear(&url, "bob").await.unwrap();
    let again = presence::appear(&url, "bob").await.unwrap();
    shows(&mut ada, &mut online, "ada (here), bob (here)").await;
    presence::tell(&again, "typing").await.unwrap();
    shows(&mut ada, &mut online, "ada (here), bob (typing)").await;
    bob.close(CloseCode::Normal, "");
    again.socket().cut();
    presence::tell(&again, "thinking").await.unwrap();
    shows(&mut ada, &mut online, "ada (here), bob (thinking)").await;
    again.close(CloseCode::Normal, "");
    shows(&mut ada, &mut online, "ada (here)").await;
}

#[tokio::test]
async fn the_ticker_gives_a_slow_reader_the_latest_price_of_each_share() {
    const ROUNDS: u64 = 200;
    let hub = ticker::hub();
    let served = Served::new(&ticker::server(hub.clone()).unwrap()).await;
    let mut slow = ticker::reader(&served.url()).await.unwrap();
    // It reads nothing while all is said, and the one that speaks does not wait for it.
    for tick in 0..ROUNDS * ticker::SHARES {
        within(1, "it is said", ticker::say(&hub, tick)).await.unwrap();
        if tick % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (mut latest, mut read, mut missed) = (HashMap::new(), 0, 0);
    while read + missed < ROUNDS * ticker::SHARES {
        let (price, left_out) = within(20, "a price", ticker::price(&mut slow)).await.unwrap();
        let (share, round) = price.split_once(' ').unwrap();
        let round: u64 = round.parse().unwrap();
        let earlier = latest.insert(share.to_owned(), round);
        assert!(earlier.is_none_or(|earlier| earlier < round), "prices never go back");
        (read, missed) = (read + 1, missed + left_out);
    }
    assert_eq!(latest.len() as u64, ticker::SHARES);
    assert!(latest.values().all(|round| *round == ROUNDS - 1), "{latest:?}");
    assert!(missed > 0 && read < ROUNDS * ticker::SHARES / 2, "read {read}, missed {missed}");
}
