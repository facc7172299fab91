//! In virtual time: a box that makes one request at a time, so that a stream or a held poll keeps all others waiting.

use std::time::Duration;

use throughline::testing::Rule;
use throughline::{Socket, TransportKind};
use tokio::time::{Instant, sleep, timeout};

use super::lab::{Lab, SECOND};
use super::{ALL, HTTP, REFUSED};

use TransportKind::LongPolling;

const ROUND_TRIPS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(60), Duration::from_millis(200)];

/// Who is allowed, whether the box notices that a client has gone, and how far away the server is.
fn cases() -> impl Iterator<Item = (&'static [TransportKind], bool, Duration)> {
    let ways = [ALL, HTTP, &[LongPolling]].into_iter();
    let ways = ways.flat_map(|transports| [true, false].map(|notices| (transports, notices)));
    ways.flat_map(|(transports, notices)| ROUND_TRIPS.map(|trip| (transports, notices, trip)))
}

/// Says something, and waits for the answer.
async fn echo(client: &mut Socket) -> Duration {
    let sent = Instant::now();
    client.send("still there?").await.unwrap();
    timeout(120 * SECOND, client.recv()).await.unwrap().unwrap();
    sent.elapsed()
}

#[tokio::test(start_paused = true)]
async fn where_one_request_is_made_at_a_time_a_conversation_finds_its_way() {
    for (transports, notices, round_trip) in cases() {
        let name = format!("{transports:?}, noticed: {notices}, over {round_trip:?}");
        let lab = Lab::new(&[REFUSED, Rule::OneAtATime { notices }]).await;
        let began = Instant::now();
        let mut client = lab.client(transports, round_trip).connect().await.unwrap();
        echo(&mut client).await;
        assert!(began.elapsed() <= 5 * SECOND, "{name}: {:?}", began.elapsed());
        let (mut quick, mut slowest) = (0, Duration::ZERO);
        for _ in 0..60 {
            sleep(2 * SECOND).await;
            let took = echo(&mut client).await;
            slowest = slowest.max(took);
            quick += u32::from(took <= SECOND);
        }
        println!("{name}: {quick} of 60 within a second, {slowest:?} at most");
        // While it finds out, and when it tries again what is better.
        assert!(slowest <= 10 * SECOND, "{name}: {slowest:?}");
        assert!(quick >= 45, "{name}: {quick} of 60 within a second");
    }
}

#[tokio::test(start_paused = true)]
async fn where_one_request_a_second_is_let_in_a_conversation_goes_on() {
    for (transports, status) in
        [ALL, HTTP, &[LongPolling]].into_iter().flat_map(|all| [(all, 429), (all, 503)])
    {
        for round_trip in ROUND_TRIPS {
            let name = format!("{transports:?}, {status}, over {round_trip:?}");
            let lab = Lab::new(&[REFUSED, Rule::OneEach { every: SECOND, status }]).await;
            let began = Instant::now();
            let mut client = lab.client(transports, round_trip).connect().await.unwrap();
            echo(&mut client).await;
            assert!(began.elapsed() <= 8 * SECOND, "{name}: {:?}", began.elapsed());
            let mut all = Duration::ZERO;
            for _ in 0..30 {
                sleep(SECOND).await;
                let took = echo(&mut client).await;
                assert!(took <= 6 * SECOND, "{name}: {took:?}");
                all += took;
            }
            println!("{name}: {:?} on the average", all / 30);
            assert!(all <= 90 * SECOND, "{name}: {:?} on the average", all / 30);
            let history = client.transport_history();
            let carried = history.iter().filter(|passage| passage.attachment.is_some()).count();
            assert!(carried <= 2, "{name}: {history:?}");
        }
    }
}

/// The box counts upgrades too, whatever becomes of them: each takes the turn of what is tried next. How the turns of a client
/// fall differs from run to run, by the jitter of its pauses and by when the last request before its own was let in.
#[tokio::test(start_paused = true)]
async fn where_upgrades_take_turns_too_the_rest_gets_its_own() {
    for (rest, status) in
        [&[Rule::StripUpgrade][..], &[REFUSED], &[]].into_iter().flat_map(|rest| [(rest, 429), (rest, 503)])
    {
        for (round_trip, before) in ROUND_TRIPS.into_iter().flat_map(|trip| (0..10).map(move |n| (trip, n))) {
            let name = format!("{rest:?}, {status}, over {round_trip:?}, {before}");
            let rules: Vec<_> =
                [Rule::OneEach { every: SECOND, status }].iter().chain(rest).copied().collect();
            let lab = Lab::new(&rules).await;
            // Somebody else, so many tenths of a second before.
            let _ = timeout(SECOND, lab.client(&[LongPolling], Duration::ZERO).connect()).await;
            sleep(SECOND / 10 * before).await;
            let began = Instant::now();
            let mut client = lab.client(ALL, round_trip).connect().await.expect(&name);
            echo(&mut client).await;
            println!("{name}: {:?}", began.elapsed());
            assert!(began.elapsed() <= 8 * SECOND, "{name}: {:?}", began.elapsed());
            let history = client.transport_history();
            // Where upgrades pass, the turn may come just when SSE asks.
            let carrier = history.last().map(|passage| passage.transport);
            assert_ne!(carrier, Some(LongPolling), "{name}: {history:?}");
        }
    }
}

/// Polls have come to be held for long when the first push finds out that it cannot be made beside one.
#[tokio::test(start_paused = true)]
async fn where_one_request_is_made_at_a_time_a_long_silence_costs_one_hold() {
    for (transports, notices, round_trip) in cases() {
        let name = format!("{transports:?}, noticed: {notices}, over {round_trip:?}");
        let lab = Lab::new(&[REFUSED, Rule::OneAtATime { notices }]).await;
        let mut client = lab.client(transports, round_trip).connect().await.unwrap();
        sleep(100 * SECOND).await;
        let took = echo(&mut client).await;
        println!("{name}: {took:?}");
        let bound = if notices { 10 * SECOND } else { 30 * SECOND };
        assert!(took <= bound, "{name}: {took:?}");
    }
}
