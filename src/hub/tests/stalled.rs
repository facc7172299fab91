//! One reader among a thousand that stops reading, in virtual time: nobody else notices, and what is held for it is bounded.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::*;
use crate::frame::{CloseCode, TransportKind, Window};
use crate::room::payload::{Join, Notice, Read};
use crate::session::{Config, Intent};
use crate::socket::ends::{Ends, ends_of};

const MEMBERS: u16 = 1_000;
const WORDS: u64 = 60;
const BETWEEN: Duration = Duration::from_secs(1);

/// What may wait for one member: in each of the send buffer at the server and the window at the client, and in the backlog.
const BUFFER: u32 = 8;
const BACKLOG: u32 = 12;

/// A member's client, which reads or does not.
fn member(number: u16) -> Ends {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    let bound = Window { messages: BUFFER, bytes: 1 << 20 };
    let config = Config { send_buffer: bound, window: bound, ..Config::default() };
    ends_of(id, None, Arc::new(config))
}

/// The next word, and how many are left out before it.
async fn word(client: &mut Socket) -> Option<(u64, u64)> {
    let mut missed = 0;
    loop {
        match Notice::read(client.recv().await.ok()?.body) {
            Read::Layer(Notice::Said(said)) => return Some((said.body.to().unwrap(), missed)),
            Read::Layer(Notice::Missed(left_out)) => missed += left_out.count,
            Read::Layer(Notice::Begin(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn joined(number: u16, hub: &Hub) -> Socket {
    let ends = member(number);
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    let mut live = hub.serve(ends.server);
    live.join(&Join { room: "r".into(), ..Join::default() }).unwrap();
    tokio::spawn(async move { while live.recv().await.is_ok() {} });
    ends.client
}

/// Says all words to a thousand members of whom one does not read. Returns that one, and the others.
async fn say_all(hub: &Hub) -> (Socket, Vec<Socket>) {
    let stalled = joined(0, hub).await;
    let begun = Instant::now();
    let mut readers = Vec::new();
    for number in 1..MEMBERS {
        let mut client = joined(number, hub).await;
        readers.push(tokio::spawn(async move {
            for expected in 1..=WORDS {
                assert_eq!(word(&mut client).await, Some((expected, 0)));
                // It comes when it is said: nothing waited for a timer, and nothing was drained later.
                assert_eq!(begun.elapsed(), BETWEEN * u32::try_from(expected).unwrap());
            }
            client
        }));
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    for number in 1..=WORDS {
        // The clock goes on only when nobody has anything left to do.
        sleep(BETWEEN).await;
        let told = hub.room("r").publish(Body::json(&number).unwrap()).await.unwrap();
        assert!(told >= usize::from(MEMBERS) - 1);
    }
    let mut others = Vec::new();
    for reader in readers {
        others.push(reader.await.unwrap());
    }
    (stalled, others)
}

fn hub(slow: Slow) -> Hub {
    let shape = move |_: &str| {
        let backlog = Window { messages: BACKLOG, bytes: 1 << 20 };
        RoomConfig { slow, backlog, presence: false, ..RoomConfig::default() }
    };
    Hub::builder().rooms(shape).build()
}

#[tokio::test(start_paused = true)]
async fn who_stops_reading_delays_nobody_and_is_told_how_much_it_missed() {
    let hub = hub(Slow::DropOldest);
    let (mut stalled, _others) = say_all(&hub).await;
    let left_out = hub.stats().left_out;
    let held = WORDS - left_out;
    // One more may be in the hand of whoever passes it on.
    assert!(held <= u64::from(2 * BUFFER + BACKLOG) + 1, "{held} are held for it");
    let (mut last, mut read) = (0, 0);
    while last < WORDS {
        let (number, missed) = word(&mut stalled).await.unwrap();
        assert_eq!(number, last + missed + 1);
        (last, read) = (number, read + 1);
    }
    assert_eq!((read, hub.stats().left_out), (held, left_out));
}

#[tokio::test(start_paused = true)]
async fn who_stops_reading_where_that_ends_a_session_is_ended_and_delays_nobody() {
    let hub = hub(Slow::End);
    let (mut stalled, _others) = say_all(&hub).await;
    assert_eq!((hub.stats().ended_slow, hub.stats().members), (1, u64::from(MEMBERS) - 1));
    while word(&mut stalled).await.is_some() {}
    assert!(
        matches!(stalled.state(), crate::socket::State::Closed { close } if close.code == CloseCode::SlowConsumer)
    );
}
