//! In virtual time: how long the first message takes, under each rule and by each transport, on a network of a known
//! round trip.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use throughline::TransportKind::{self, LongPolling, Sse, WebSocket};
use throughline::frame::Json;
use throughline::socket::RecvError;
use throughline::testing::{Direction, Rule};
use throughline::{CloseCode, ConnectError, State};
use tokio::time::{Instant, sleep, timeout};

use super::lab::{Lab, SECOND};
use super::{ALL, HTTP, MS, REFUSED};

/// What carries the answer to a client's first message, none if there is a typed error instead; and when that is.
async fn first_answer(
    rules: &[Rule],
    transports: &[TransportKind],
    round_trip: Duration,
) -> (Option<TransportKind>, Duration) {
    let lab = Lab::new(rules).await;
    let began = Instant::now();
    let mut client = lab.client(transports, round_trip).start().unwrap();
    client.send("first").await.unwrap();
    let patience = timeout(60 * SECOND, client.recv()).await;
    let answer =
        patience.unwrap_or_else(|_| panic!("{rules:?} by {transports:?}: neither an answer nor an error"));
    let (took, state) = (began.elapsed(), client.state());
    assert!(lab.runs.load(SeqCst) <= 1, "{rules:?} by {transports:?}: the handler runs once");
    match (answer, state) {
        (Ok(message), State::Connected { transport }) => {
            assert_eq!(message.body.to::<String>().unwrap(), "first");
            (Some(transport), took)
        }
        (Err(RecvError::Lost(ended) | RecvError::Ended(ended)), _) => {
            assert_eq!(ended.close.code, CloseCode::TimedOut, "{rules:?} by {transports:?}: {ended:?}");
            assert_eq!(
                ended.undelivered.len(),
                1,
                "{rules:?} by {transports:?}: it is told what was not delivered"
            );
            (None, took)
        }
        other => panic!("{rules:?} by {transports:?}: {other:?}"),
    }
}

/// How long the first message may take where WebSocket works, is refused, hangs or lies, and where streams are held
/// back besides; and how long a client may take to know that nothing passes.
const WORKS: Duration = SECOND;
const REFUSES: Duration = Duration::from_millis(1500);
const LIES: Duration = Duration::from_secs(4);
const HOLDS_TOO: Duration = Duration::from_secs(5);
const NOTHING: Duration = Duration::from_secs(10);

const BAD_GATEWAY: Rule = Rule::RefuseUpgrade { status: 502 };
const STRIPPED: Rule = Rule::StripUpgrade;
const SWALLOWED: Rule = Rule::SwallowUpgrade;
const SILENT: Rule = Rule::CarryNothing;
const UP_ONLY: Rule = Rule::OneWay(Direction::Up);
const DOWN_ONLY: Rule = Rule::OneWay(Direction::Down);
const HELD: Rule = Rule::HoldBody { bytes: None, head: false };
const HELD_WITH_HEAD: Rule = Rule::HoldBody { bytes: None, head: true };
const IN_BLOCKS: Rule = Rule::HoldBody { bytes: Some(16 << 10), head: false };
const NO_POSTS: Rule = Rule::SwallowPost;

const POLLS: &[TransportKind] = &[LongPolling];
const SOCKETS: &[TransportKind] = &[WebSocket];

/// How far away the server may be for the bounds to hold.
const ROUND_TRIPS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(60), Duration::from_millis(200)];

/// Rules, who gets through under them, best first, and how long all transports together may take.
type Case = (&'static [Rule], &'static [TransportKind], Duration);

const CASES: &[Case] = &[
    (&[], ALL, WORKS),
    (&[Rule::ReplayRequest], ALL, WORKS),
    (&[Rule::Delay(Duration::from_millis(3))], ALL, WORKS),
    (&[Rule::Throttle { bytes_per_second: 30_000 }], ALL, WORKS),
    (&[Rule::CloseIdle(Duration::from_millis(300))], ALL, WORKS),
    (&[Rule::CutAfterBytes { direction: Direction::Up, bytes: 8_001 }], ALL, WORKS),
    (&[Rule::CutAfterBytes { direction: Direction::Down, bytes: 8_001 }], ALL, WORKS),
    (&[Rule::CutAfter(SECOND)], ALL, WORKS),
    (&[Rule::CloseOld(SECOND)], ALL, WORKS),
    (&[NO_POSTS], SOCKETS, WORKS),
    (&[HELD], &[WebSocket, LongPolling], WORKS),
    (&[HELD_WITH_HEAD], &[WebSocket, LongPolling], WORKS),
    (&[IN_BLOCKS], &[WebSocket, LongPolling], WORKS),
    (&[REFUSED], HTTP, REFUSES),
    (&[BAD_GATEWAY], HTTP, REFUSES),
    (&[STRIPPED], HTTP, REFUSES),
    (&[REFUSED, Rule::ReplayRequest], HTTP, REFUSES),
    (&[SWALLOWED], HTTP, LIES),
    (&[SILENT], HTTP, LIES),
    (&[UP_ONLY], HTTP, LIES),
    (&[DOWN_ONLY], HTTP, LIES),
    (&[REFUSED, HELD], POLLS, HOLDS_TOO),
    (&[REFUSED, HELD_WITH_HEAD], POLLS, HOLDS_TOO),
    (&[STRIPPED, IN_BLOCKS], POLLS, HOLDS_TOO),
    (&[SWALLOWED, HELD], POLLS, HOLDS_TOO),
    (&[SWALLOWED, HELD_WITH_HEAD], POLLS, HOLDS_TOO),
    (&[SWALLOWED, IN_BLOCKS], POLLS, HOLDS_TOO),
    (&[SILENT, HELD], POLLS, HOLDS_TOO),
    (&[SILENT, IN_BLOCKS], POLLS, HOLDS_TOO),
    (&[UP_ONLY, HELD], POLLS, HOLDS_TOO),
    (&[DOWN_ONLY, HELD_WITH_HEAD], POLLS, HOLDS_TOO),
    (&[Rule::DropResponse], &[], NOTHING),
    (&[REFUSED, Rule::DropResponse], &[], NOTHING),
    (&[REFUSED, NO_POSTS], &[], NOTHING),
    (&[SWALLOWED, NO_POSTS], &[], NOTHING),
    (&[SILENT, NO_POSTS], &[], NOTHING),
    (&[Rule::CaptivePortal], &[], NOTHING),
    (&[Rule::Refuse { status: 407 }], &[], NOTHING),
    (&[Rule::Refuse { status: 503 }], &[], NOTHING),
];

#[tokio::test(start_paused = true)]
async fn the_first_message_is_answered_in_its_time_by_the_best_that_works() {
    for (rules, passes, bound) in CASES {
        for round_trip in ROUND_TRIPS {
            let (carrier, took) = first_answer(rules, ALL, round_trip).await;
            let name = format!("{rules:?} over {round_trip:?}");
            println!("{name}: {carrier:?} after {took:?}");
            assert_eq!(carrier, passes.first().copied(), "{name}");
            assert!(took <= *bound, "{name}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_by_itself_answers_within_a_second_or_there_is_a_typed_error_within_ten() {
    for (rules, passes, _) in CASES {
        for (kind, round_trip) in ALL.iter().flat_map(|kind| ROUND_TRIPS.map(|trip| (kind, trip))) {
            let (carrier, took) = first_answer(rules, &[*kind], round_trip).await;
            let name = format!("{rules:?} by {kind} over {round_trip:?}");
            assert_eq!(carrier, passes.contains(kind).then_some(*kind), "{name}");
            let bound = if carrier.is_some() { WORKS } else { NOTHING };
            assert!(took <= bound, "{name}: {took:?}");
        }
    }
}

/// What a client waits for, each for so long: the connection, its token, and each piece of bytes.
async fn refused_after(connection: Duration, token: Duration, piece: Duration) -> Duration {
    let lab = Lab::new(&[Rule::Delay(piece)]).await;
    let connect = lab.network.connector();
    let slow = move || {
        let connecting = connect();
        async move {
            sleep(connection).await;
            connecting.await
        }
    };
    let client = lab.client(ALL, Duration::ZERO).connector(slow).token(move |_| async move {
        sleep(token).await;
        Ok(Json::of("a token")?)
    });
    let began = Instant::now();
    let end = client.connect().await.expect_err("nothing comes in time");
    assert!(matches!(end, ConnectError::Unreachable { .. }), "{end:?}");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn connecting_ends_when_its_time_is_over_however_slow_everything_is() {
    let (quick, ages) = (Duration::ZERO, 86_400 * SECOND);
    for connection in [quick, 4900 * MS, ages] {
        for token in [quick, 4900 * MS, ages] {
            for piece in [4900 * MS, ages] {
                let took = refused_after(connection, token, piece).await;
                let name =
                    format!("{connection:?} to connect, {token:?} for a token, {piece:?} for each piece");
                assert!((9 * SECOND..9 * SECOND + 2 * MS).contains(&took), "{name}: {took:?}");
            }
        }
    }
}

/// After the connection, and the upgrade of a WebSocket: a poll comes after its `hello`, which bears the message.
#[tokio::test(start_paused = true)]
async fn on_an_open_network_the_first_message_costs_one_round_trip_after_the_connection() {
    for round_trip in [Duration::ZERO, 20 * MS, 60 * MS, 200 * MS, 600 * MS] {
        for (transports, before) in [(ALL, 2), (&[WebSocket], 2), (&[Sse], 1), (&[LongPolling], 2)] {
            let (carrier, took) = first_answer(&[], transports, round_trip).await;
            assert_eq!(carrier, transports.first().copied());
            assert_eq!(took, round_trip * (before + 1), "{transports:?} over {round_trip:?}");
        }
    }
}

/// Why is this user not on a WebSocket? Both ends can tell.
#[tokio::test(start_paused = true)]
async fn the_history_of_a_session_says_what_was_slower_and_how_long_each_took() {
    let mut lab = Lab::new(&[SILENT]).await;
    let mut client = lab.client(ALL, 60 * MS).start().unwrap();
    client.send("first").await.unwrap();
    client.recv().await.unwrap();
    // The receipt for the answer.
    sleep(3 * SECOND).await;
    let lines = client.transport_history().iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [
        "websocket tried for 670 ms: it had no welcome when another carried the session (outrun)",
        "sse carried the session after 300 ms, proved 0 ms later",
    ];
    assert_eq!(lines, expected);
    let server = lab.senders.recv().await.unwrap();
    let [sse] = &server.transport_history()[..] else { panic!("one transport") };
    assert_eq!((sse.transport, sse.opening), (Sse, None));
    assert!(sse.proved_after.is_some_and(|after| after <= 3 * SECOND), "{sse}");
}
