//! In virtual time: what sessions of minutes and hours learn of their network.

use std::sync::Arc;
use std::time::Duration;

use throughline::TransportKind::{LongPolling, Sse, WebSocket};
use throughline::client::MemoryVerdicts;
use throughline::frame::Json;
use throughline::testing::Rule;
use throughline::{CloseCode, Socket, State, TransportKind};
use tokio::time::{Instant, sleep, timeout};

use super::lab::{Lab, SECOND};
use super::pair::{adrift, connected};
use super::{ALL, MS, REFUSED};

const ROUND_TRIP: Duration = Duration::from_millis(60);

/// Says something, and waits for the answer.
async fn echo(client: &mut Socket) -> Duration {
    let sent = Instant::now();
    client.send("still there?").await.unwrap();
    client.recv().await.unwrap();
    sent.elapsed()
}

/// There is never a moment at which nothing of its own waits for a receipt.
#[tokio::test(start_paused = true)]
async fn who_talks_all_the_time_and_moves_is_not_taken_for_one_for_whom_nothing_passes() {
    for (from, to) in ALL.iter().flat_map(|from| ALL.iter().map(move |to| (*from, *to))) {
        let lab = Lab::new(&[]).await;
        let mut client = lab.client(&[from, to], 300 * MS).start().unwrap();
        let sender = client.sender();
        let talk = tokio::spawn(async move {
            while sender.send("and another thing").await.is_ok() {
                sleep(10 * MS).await;
            }
        });
        let began = Instant::now();
        let mut moved = false;
        while began.elapsed() < 20 * SECOND {
            if let Err(error) = client.recv().await {
                panic!("from {from} to {to}, after {:?}: {error}", began.elapsed());
            }
            if !moved && began.elapsed() > 2 * SECOND {
                moved = true;
                client.move_to(to);
            }
        }
        talk.abort();
    }
}

/// Its `hello` went by the old network, and nothing will come of it.
#[tokio::test(start_paused = true)]
async fn on_another_network_a_hello_without_an_answer_is_not_waited_for() {
    for transports in [&[WebSocket][..], ALL] {
        let lab = Lab::new(&[Rule::CarryNothing, Rule::SwallowPost]).await;
        let client = lab.client(transports, ROUND_TRIP).start().unwrap();
        sleep(SECOND).await;
        let began = Instant::now();
        lab.network.replace([]);
        client.network_changed();
        assert_eq!(connected(&client).await, WebSocket);
        assert!(began.elapsed() <= 5 * ROUND_TRIP, "{transports:?}: {:?}", began.elapsed());
    }
}

/// Each dial of a race would wait for the same answer.
#[tokio::test(start_paused = true)]
async fn the_time_that_a_token_takes_is_no_transports_fault() {
    for after in [0, 1, 3] {
        let lab = Lab::new(&[]).await;
        let there = Instant::now() + after * SECOND;
        let token = move |_| async move {
            tokio::time::sleep_until(there).await;
            Ok(Json::of("alice")?)
        };
        let client = lab.client(ALL, ROUND_TRIP).token(token).connect().await.unwrap();
        assert_eq!(client.state(), State::Connected { transport: WebSocket });
        assert_eq!(there.elapsed(), 3 * ROUND_TRIP, "a token after {after} s");
    }
}

/// A box forgets a connection that was silent for a while, and tells nobody.
#[tokio::test(start_paused = true)]
async fn silent_drops_are_learned_and_kept_away_from() {
    for (kind, limit) in [WebSocket, Sse, LongPolling].into_iter().flat_map(|kind| [(kind, 6), (kind, 12)]) {
        let lab = Lab::new(&[Rule::DropIdle(limit * SECOND)]).await;
        let mut client = lab.client(&[kind], ROUND_TRIP).connect().await.unwrap();
        let began = Instant::now();
        for _ in 0..20 {
            sleep(31 * SECOND).await;
            let took = echo(&mut client).await;
            assert!(took <= 2 * SECOND, "{kind} with {limit} s: {took:?}");
        }
        let history = client.transport_history();
        let ends: Vec<_> = history.iter().filter_map(|passage| passage.ended.as_ref()).collect();
        assert!(ends.len() <= 2, "{kind} with {limit} s: {ends:?}");
        for end in ends {
            let after = end.at.duration_since(began.into_std());
            assert!(after <= 60 * SECOND, "{kind} with {limit} s: {} after {after:?}", end.text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_better_transport_is_tried_again_after_growing_pauses() {
    let lab = Lab::new(&[REFUSED]).await;
    let client = lab.client(ALL, ROUND_TRIP).connect().await.unwrap();
    assert_eq!(client.state(), State::Connected { transport: Sse });
    let mut pause = 30 * SECOND;
    for tried in 2..=9 {
        let since = Instant::now();
        lab.network.has_acted(tried).await;
        let (took, least, most) = (since.elapsed(), pause * 3 / 4, pause * 5 / 4);
        // What is tried takes some round trips until it has failed, or is refused.
        assert!((least..=most + 10 * ROUND_TRIP).contains(&took), "{took:?}, not {least:?} to {most:?}");
        pause = (2 * pause).min(600 * SECOND);
    }
    lab.network.replace([]);
    let since = Instant::now();
    while client.state() != (State::Connected { transport: WebSocket }) {
        client.watch().changed().await;
    }
    assert!(since.elapsed() <= 751 * SECOND, "it is moved to when it works: {:?}", since.elapsed());
}

/// What piles up while a push is under way goes in the next one: too much of it, until the client knows better.
#[tokio::test(start_paused = true)]
async fn where_large_bodies_are_refused_what_waits_goes_in_smaller_ones() {
    for (transports, carrier) in [(&[Sse][..], Sse), (&[LongPolling], LongPolling), (&[Sse, WebSocket], Sse)]
    {
        let lab = Lab::new(&[Rule::LimitBody { bytes: 3_000 }]).await;
        let mut client = lab.client(transports, ROUND_TRIP).connect().await.unwrap();
        let bodies: Vec<_> = (0..200).map(|number| format!("{number} {}", "x".repeat(500))).collect();
        let sender = client.sender();
        let sending = async {
            for body in &bodies {
                sender.send(body.as_str()).await.unwrap();
            }
        };
        let receiving = async {
            for body in &bodies {
                assert_eq!(client.recv().await.unwrap().body.to::<String>().unwrap(), *body);
            }
        };
        let talking = async { tokio::join!(sending, receiving) };
        timeout(10 * SECOND, talking).await.unwrap();
        assert_eq!(connected(&client).await, carrier, "no reason to leave it");
        // One that does not pass by itself goes where it does, or ends the session with the reason.
        client.send("x".repeat(4_000)).await.unwrap();
        let received = timeout(60 * SECOND, client.recv()).await.unwrap();
        match received {
            Ok(_) => assert_eq!(connected(&client).await, WebSocket),
            Err(error) => {
                assert_eq!((error.close().code.clone(), transports.len()), (CloseCode::TooLarge, 1))
            }
        }
    }
}

/// What carries a session after all its connections were cut, and how long that took.
async fn after_a_cut(lab: &Lab, client: &Socket) -> (TransportKind, Duration) {
    let since = Instant::now();
    lab.network.cut();
    adrift(client).await;
    (connected(client).await, since.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_demotion_holds_ten_minutes_and_no_longer() {
    for (age, wanted) in [(10, Sse), (590, Sse), (610, WebSocket)] {
        let lab = Lab::new(&[REFUSED]).await;
        let client = lab.client(ALL, ROUND_TRIP).connect().await.unwrap();
        assert_eq!(client.state(), State::Connected { transport: Sse });
        // The tries in between fail, and change nothing.
        sleep(age * SECOND).await;
        lab.network.replace([]);
        let (carrier, took) = after_a_cut(&lab, &client).await;
        assert_eq!(carrier, wanted, "after {age} s");
        assert!(took <= 2 * SECOND, "{took:?}");
    }
}

/// What opens and carries nothing, or does not open, is found out by one session: the next does not wait for it.
#[tokio::test(start_paused = true)]
async fn what_was_outrun_is_tried_last_by_the_next_session_there() {
    for rule in [Rule::CarryNothing, Rule::SwallowUpgrade] {
        let lab = Lab::new(&[rule]).await;
        let verdicts = Arc::new(MemoryVerdicts::new());
        let connect = async || {
            let began = Instant::now();
            let client = lab.client(ALL, ROUND_TRIP).verdicts(verdicts.clone());
            let client = client.connect().await.unwrap();
            assert_eq!(client.state(), State::Connected { transport: Sse });
            (client, began.elapsed())
        };
        let (first, slow) = connect().await;
        assert!(slow >= 300 * MS, "{rule:?}: {slow:?}");
        let (second, quick) = connect().await;
        assert_eq!(quick, 2 * ROUND_TRIP, "{rule:?}");
        // It is not forgotten for good.
        lab.network.replace([]);
        sleep(40 * SECOND).await;
        for client in [first, second] {
            assert_eq!(client.state(), State::Connected { transport: WebSocket }, "{rule:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_short_lives_in_a_row_demote_and_longer_ones_do_not() {
    for (life, wanted) in [(SECOND, [WebSocket, Sse]), (6 * SECOND, [WebSocket, WebSocket])] {
        let lab = Lab::new(&[]).await;
        let client = lab.client(ALL, ROUND_TRIP).connect().await.unwrap();
        for wanted in wanted {
            sleep(life).await;
            let (carrier, took) = after_a_cut(&lab, &client).await;
            assert_eq!(carrier, wanted, "after lives of {life:?}");
            assert!(took <= 4 * SECOND, "{took:?}");
        }
    }
}

/// Half a megabyte takes longer than a `welcome` is waited for, and, both ways, than heartbeats are.
const SLOW: Rule = Rule::Throttle { bytes_per_second: 20_000 };

#[tokio::test(start_paused = true)]
async fn on_a_slow_path_much_that_waits_comes_behind_the_welcome() {
    for transport in TransportKind::ALL {
        let mut lab = Lab::new(&[]).await;
        let mut client = lab.client(&[transport], ROUND_TRIP).connect().await.unwrap();
        let server = lab.senders.recv().await.unwrap();
        sleep(3 * SECOND).await;
        lab.network.replace([SLOW]);
        client.cut();
        adrift(&client).await;
        server.send("x".repeat(500_000)).await.unwrap();
        let began = Instant::now();
        let got = timeout(60 * SECOND, client.recv()).await;
        assert!(got.is_ok(), "{transport}: {:?}", client.transport_history());
        assert!(began.elapsed() < 27 * SECOND, "{transport}: {:?}", began.elapsed());
        let history = client.transport_history();
        assert_eq!(history.len(), 2, "{transport}: {history:?}");
        // Where a stream opens, the welcome is not behind it all.
        let opened = history.last().unwrap().opening.unwrap();
        assert!(transport == LongPolling || opened < SECOND, "{transport}: {opened:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_slow_path_much_is_no_silence_while_it_comes() {
    let sets = [vec![WebSocket], vec![Sse], vec![LongPolling], ALL.to_vec()];
    for (transports, (size, count)) in sets.iter().flat_map(|set| [(set, (4_000, 125)), (set, (500_000, 1))])
    {
        let lab = Lab::new(&[SLOW]).await;
        let mut client = lab.client(transports, ROUND_TRIP).connect().await.unwrap();
        sleep(3 * SECOND).await;
        let (began, sender) = (Instant::now(), client.sender());
        let send = async {
            for _ in 0..count {
                sender.send("x".repeat(size)).await.unwrap();
            }
            std::future::pending().await
        };
        let echoed = async {
            for _ in 0..count {
                client.recv().await.unwrap();
            }
        };
        let echoed = timeout(120 * SECOND, async {
            tokio::select! { () = echoed => {}, () = send => {} }
        });
        assert!(echoed.await.is_ok(), "{transports:?}: {:?}", client.transport_history());
        assert!(began.elapsed() < 110 * SECOND, "{transports:?}: {:?}", began.elapsed());
        let history = client.transport_history();
        assert!(history.iter().all(|passage| passage.ended.is_none()), "{transports:?}: {history:?}");
    }
}

/// As on a phone at the edge of a crowded cell.
#[tokio::test(start_paused = true)]
async fn where_a_round_trip_takes_seconds_sessions_live() {
    let sets = [vec![WebSocket], vec![Sse], vec![LongPolling], ALL.to_vec()];
    for (transports, trip) in sets.iter().flat_map(|set| [1500, 2500, 4000].map(|trip| (set, trip * MS))) {
        // Its `welcome` would come after 12 s, and until one has come nothing tells slow from dead.
        if **transports == [WebSocket] && trip == 4000 * MS {
            continue;
        }
        let lab = Lab::new(&[]).await;
        let mut client = lab.client(transports, trip).connect().await.unwrap();
        let sender = client.sender();
        let talk = tokio::spawn(async move {
            while sender.send("hello?").await.is_ok() {
                sleep(SECOND).await;
            }
        });
        let began = Instant::now();
        for _ in 0..60 {
            let echoed = timeout(5 * trip, client.recv()).await;
            assert!(
                matches!(echoed, Ok(Ok(_))),
                "{transports:?}, {trip:?}: {:?}",
                client.transport_history()
            );
        }
        assert!(began.elapsed() < 60 * SECOND + 4 * trip, "{transports:?}, {trip:?}: {:?}", began.elapsed());
        talk.abort();
        // Races are run, and WebSockets come later; nothing is taken for dead.
        let history = client.transport_history();
        let mut ended = history.iter().filter_map(|passage| passage.ended.as_ref()).map(|ended| &*ended.code);
        assert!(
            ended.all(|code| ["outrun", "superseded"].contains(&code)),
            "{transports:?}, {trip:?}: {history:?}"
        );
    }
}

/// As who leaves the house, and the cell is crowded: what was measured before says little.
#[tokio::test(start_paused = true)]
async fn where_round_trips_come_to_take_seconds_sessions_live() {
    let sets = [vec![WebSocket], vec![Sse], vec![LongPolling], ALL.to_vec()];
    let slower = |set| [1500, 2500, 4000, 6000].map(|by| (set, by * MS));
    for ((transports, by), cut) in sets.iter().flat_map(slower).flat_map(|case| [(case, false), (case, true)])
    {
        // More than one connection takes too long to be told from none.
        if by > 5 * SECOND && !transports.contains(&WebSocket) {
            continue;
        }
        let lab = Lab::new(&[]).await;
        let mut client = lab.client(transports, ROUND_TRIP).connect().await.unwrap();
        let sender = client.sender();
        let talk = tokio::spawn(async move {
            while sender.send("hello?").await.is_ok() {
                sleep(SECOND).await;
            }
        });
        let (mut slowest, mut slowest_later) = (Duration::ZERO, Duration::ZERO);
        for n in 0..150 {
            if n == 20 {
                lab.detour(by);
                if cut {
                    client.cut();
                }
            }
            let began = Instant::now();
            // Where a connection takes longer than any step has, they get more with the time that is lost.
            let bound = if by < 5 * SECOND { 30 * SECOND } else { 80 * SECOND };
            let echoed = timeout(bound, client.recv()).await;
            assert!(matches!(echoed, Ok(Ok(_))), "{transports:?}, {by:?}: {:?}", client.transport_history());
            slowest = slowest.max(began.elapsed());
            slowest_later = if n < 60 { Duration::ZERO } else { slowest_later.max(began.elapsed()) };
        }
        talk.abort();
        let history = client.transport_history();
        println!("{transports:?}, {by:?}, cut: {cut}: {slowest:?}, then {slowest_later:?}");
        // It is found out by two attachments at most; what is better comes later.
        let attached = history.iter().filter(|passage| passage.attachment.is_some()).count();
        assert!(attached <= 4, "{transports:?}, {by:?}: {history:?}");
        // Moving to a better one costs two round trips.
        assert!(slowest_later <= 2 * by + SECOND, "{transports:?}, {by:?}: {slowest_later:?}, {history:?}");
    }
}

/// As on a phone whose plan is used up, at 64 and at 32 kbit/s. What is given up for its time has twice as much the next time.
#[tokio::test(start_paused = true)]
async fn on_a_path_slower_than_is_thought_possible_all_arrives_in_the_end() {
    let sets = [vec![WebSocket], vec![Sse], vec![LongPolling], ALL.to_vec()];
    let loads = |set| [(set, (4_000, 25)), (set, (100_000, 1)), (set, (250_000, 1))];
    let cases = sets.iter().flat_map(loads).flat_map(|case| [(case, 8_000), (case, 4_000)]);
    for ((transports, (size, count)), bytes_per_second) in cases {
        let lab = Lab::new(&[Rule::Throttle { bytes_per_second }]).await;
        let mut client = lab.client(transports, ROUND_TRIP).connect().await.unwrap();
        sleep(3 * SECOND).await;
        let (began, sender) = (Instant::now(), client.sender());
        let talk = tokio::spawn(async move {
            for _ in 0..count {
                sender.send("x".repeat(size)).await.unwrap();
            }
        });
        let name = format!("{transports:?}, {count} of {size} bytes at {bytes_per_second} bytes/s");
        let at_best =
            SECOND * (2 * u32::try_from(size * count).unwrap() / u32::try_from(bytes_per_second).unwrap());
        for _ in 0..count {
            let echoed = timeout(2 * at_best + 30 * SECOND, client.recv()).await;
            assert!(matches!(echoed, Ok(Ok(_))), "{name}: {:?}", client.transport_history());
        }
        println!("{name}: {:?} for {at_best:?}", began.elapsed());
        assert!(began.elapsed() < 2 * at_best + 30 * SECOND, "{name}: {:?}", began.elapsed());
        talk.await.unwrap();
    }
}
