//! The examples do what they say.

#![expect(clippy::unwrap_used, reason = "tests say what they expect by panicking")]
#![expect(clippy::duplicate_mod, reason = "examples have a module in common, each for itself")]

#[expect(dead_code, unreachable_pub, reason = "its main is not called")]
#[path = "../examples/presence/main.rs"]
mod presence;
#[expect(dead_code, unreachable_pub, reason = "its main is not called")]
#[path = "../examples/reservations.rs"]
mod reservations;
#[path = "support/mod.rs"]
mod support;
#[expect(dead_code, unreachable_pub, reason = "its main is not called")]
#[path = "../examples/ticker.rs"]
mod ticker;

use std::collections::HashMap;

use serde_json::json;
use support::{Served, within};
use throughline::client::rooms::Event;
use throughline::socket::{MISFIT, RequestError, Typed};
use throughline::{Body, CloseCode, Rooms};

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
    let served = Served::new(&presence::server(std::time::Duration::from_secs(120)).unwrap()).await;
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

/// The code that a request fails with.
async fn fails(
    socket: &Typed<reservations::Tell, reservations::Ask>,
    ask: impl serde::Serialize,
) -> (String, String) {
    let asked = socket.socket().request(Body::json(&ask).unwrap());
    match within(10, "is refused", asked).await {
        Err(RequestError::Failed { code, message, .. }) => (code, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn seats_are_reserved_once_and_what_is_no_seat_never_reaches_the_hall() {
    use reservations::{Ask, Change, NotDone, Party, Seat, Tell};
    let party = |seats: &[u8]| {
        let seats = seats.iter().map(|seat| Seat::try_from(*seat).unwrap()).collect::<Vec<_>>();
        Party::try_from(seats).unwrap()
    };
    let served = Served::new(&reservations::server().unwrap()).await;
    let url = served.url();
    let mut watcher = reservations::watch(reservations::connect(&url, "eve").await.unwrap()).await.unwrap();
    let ada = reservations::connect(&url, "ada").await.unwrap().typed::<Tell, Ask>();
    let bob = reservations::connect(&url, "bob").await.unwrap().typed::<Tell, Ask>();
    let reserve = |seats| Ask::Reserve { seats: party(seats) };
    let reserved = within(10, "answers", ada.request::<Tell>(&reserve(&[7, 8]))).await.unwrap();
    assert_eq!(reserved, Tell::Reserved { seats: party(&[8, 7]) });
    let change = within(10, "a change", reservations::change(&mut watcher)).await.unwrap();
    assert_eq!(change, Change::Taken { seats: party(&[7, 8]) });
    // All or none.
    assert_eq!(fails(&bob, reserve(&[8, 9])).await.0, NotDone::Taken.code());
    let release = Ask::Release { seats: party(&[7]) };
    assert_eq!(fails(&bob, release.clone()).await.0, NotDone::NotYours.code());
    within(10, "answers", ada.request::<Tell>(&release)).await.unwrap();
    within(10, "answers", bob.request::<Tell>(&reserve(&[7]))).await.unwrap();
    let Tell::Free { seats } = within(10, "answers", ada.request::<Tell>(&Ask::Free)).await.unwrap() else {
        panic!("what is free")
    };
    assert_eq!(seats.len(), usize::from(reservations::SEATS) - 2);
    // What does not fit says why.
    for (seats, why) in [
        (json!([0]), "there is no seat 0"),
        (json!([51]), "there is no seat 51"),
        (json!([3, 3]), "a seat is named twice"),
        (json!([]), "one may ask for 1 to 4 seats"),
        (json!([1, 2, 3, 4, 5]), "one may ask for 1 to 4 seats"),
        (json!("all"), "invalid type"),
    ] {
        let (code, message) = fails(&bob, json!({ "type": "reserve", "seats": seats })).await;
        assert_eq!(code, MISFIT);
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(fails(&bob, json!({ "type": "reserve", "seats": [1], "price": 0 })).await.0, MISFIT);
    assert_eq!(fails(&bob, json!({ "type": "burn" })).await.0, MISFIT);
    let changes = [Change::Freed { seats: party(&[7]) }, Change::Taken { seats: party(&[7]) }];
    for expected in changes {
        let change = within(10, "a change", reservations::change(&mut watcher)).await.unwrap();
        assert_eq!(change, expected);
    }
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
