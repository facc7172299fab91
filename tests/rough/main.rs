//! Every rule of the rough network x {each transport by itself, all of them} under load both ways: nothing is lost,
//! repeated or reordered and the handler runs once, or one typed error where nothing can pass. Never a hang.
//!
//! How long it takes is judged in `timing.rs`, in virtual time. `cargo test --features testing --test rough -- --nocapture`
//! shows for each run what carried the session and how long the first message took, in this machine's time, which no
//! test judges. `ROUGH=<part of its name>` before it makes only such runs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking"
)]

mod lab;
mod living;
mod outage;
#[path = "../support/pair.rs"]
mod pair;
mod places;
#[path = "../support/mod.rs"]
mod support;
mod timing;

use std::fmt;
use std::time::{Duration, Instant};

use throughline::TransportKind::{self, LongPolling, Sse, WebSocket};
use throughline::frame::Encoding;
use throughline::testing::{Direction, Rough, Rule};
use throughline::{CloseCode, ConnectError};
use tokio::task::JoinSet;

use pair::{House, Lane, Setup, body, connected, recv_all, send_all, small};
use support::within;

/// How many messages go each way in a round.
const ROUND: u64 = 40;

/// In how many rounds a rule that acts by time or bytes gets its chance, and how often it is to act in them.
const ROUNDS: u64 = 20;
const ACTS: u64 = 3;

/// How long a run may take.
const PATIENCE: u64 = 60;

/// How many runs go at once.
const AT_ONCE: usize = 6;

const MS: Duration = Duration::from_millis(1);
const REFUSED: Rule = Rule::RefuseUpgrade { status: 403 };

/// Who can work under the rules of a case.
const ALL: &[TransportKind] = &[WebSocket, Sse, LongPolling];
const HTTP: &[TransportKind] = &[Sse, LongPolling];
const NONE: &[TransportKind] = &[];

/// A network: rules that act on each nth of their occasions, and who gets through.
#[derive(Clone)]
struct Case {
    rules: Vec<(u32, Rule)>,
    passes: &'static [TransportKind],
}

fn case(rules: &[(u32, Rule)], passes: &'static [TransportKind]) -> Case {
    Case { rules: rules.to_vec(), passes }
}

struct Run {
    case: Case,
    transports: Vec<TransportKind>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transports: Vec<_> = self.transports.iter().map(ToString::to_string).collect();
        let by = if transports.len() > 1 { "auto".to_owned() } else { transports.concat() };
        write!(f, "{:?} by {by}", self.case.rules)
    }
}

impl Run {
    fn setup(&self) -> Setup {
        let mut setup = Setup::impatient(Lane { kind: WebSocket, encoding: Encoding::Json });
        setup.transports = self.transports.clone();
        setup.client.prove_within = 1000 * MS;
        setup
    }

    async fn network(&self, house: &House) -> Rough {
        let network = Rough::to(house.served.address).await.unwrap();
        self.case.rules.iter().for_each(|(nth, rule)| network.every(*nth, *rule));
        network
    }

    async fn make(&self) -> String {
        match self.transports.iter().any(|kind| self.case.passes.contains(kind)) {
            true => self.passes().await,
            false => self.fails().await,
        }
    }

    /// Rounds of messages both ways, until the rules have acted, and an end in order.
    async fn passes(&self) -> String {
        let setup = self.setup();
        let mut house = House::new(setup.server.clone()).await;
        let network = self.network(&house).await;
        let began = Instant::now();
        let mut client = setup.client(network.url("/live")).start().unwrap();
        client.send(small(0)).await.unwrap();
        let mut server = house.socket().await;
        server.send(small(0)).await.unwrap();
        recv_all("client", &mut client, [small(0)].into_iter()).await;
        let first = began.elapsed();
        let carrier = connected(&client).await;
        recv_all("server", &mut server, [small(0)].into_iter()).await;
        for round in 0..ROUNDS {
            let numbers = round * ROUND..(round + 1) * ROUND;
            let (up, down) = (client.sender(), server.sender());
            tokio::join!(
                send_all(&up, numbers.clone().map(small)),
                send_all(&down, numbers.clone().map(small)),
                recv_all("server", &mut server, numbers.clone().map(small)),
                recv_all("client", &mut client, numbers.map(small)),
            );
            // Some rules act on silence: it lasts until they have, or a moment.
            let _ = tokio::time::timeout(50 * MS, network.has_acted(network.acted() + 1)).await;
            if network.acted() >= ACTS || self.case.rules.is_empty() {
                break;
            }
        }
        if let [kind] = self.transports[..] {
            let met = self.case.rules.iter().any(|(_, rule)| meets(rule, kind));
            assert!(!met || network.acted() > 0, "{self}: the rule did nothing");
        }
        client.close(CloseCode::Normal, "enough");
        let end = server.recv().await.expect_err("the server got one message too many");
        assert_eq!(end.close().reason, "enough", "{self}: {end}");
        let end = client.recv().await.expect_err("the client got one message too many");
        assert_eq!(end.close().code, CloseCode::Normal, "{self}: {end}");
        assert_eq!(house.runs(), 1, "{self}: the handler ran once");
        format!("{carrier}, first message after {} ms, {} acts", first.as_millis(), network.acted())
    }

    /// A typed error, and no session.
    async fn fails(&self) -> String {
        let setup = self.setup();
        let house = House::new(setup.server.clone()).await;
        let network = self.network(&house).await;
        let began = Instant::now();
        let client = setup.client(network.url("/live")).max_attempts(2);
        match client.connect().await {
            Err(ConnectError::Unreachable { attempts: 1..=2, reason }) => {
                format!("nothing, after {} ms: {reason}", began.elapsed().as_millis())
            }
            other => panic!("{self}: {other:?}"),
        }
    }
}

/// Whether what a transport does is what a rule acts upon.
fn meets(rule: &Rule, kind: TransportKind) -> bool {
    match rule {
        Rule::RefuseUpgrade { .. }
        | Rule::StripUpgrade
        | Rule::SwallowUpgrade
        | Rule::CarryNothing
        | Rule::OneWay(_) => kind == WebSocket,
        Rule::HoldBody { .. } | Rule::DropResponse | Rule::ReplayRequest | Rule::SwallowPost => {
            kind != WebSocket
        }
        _ => true,
    }
}

/// Makes the runs of cases, some at once, and names those that failed.
async fn make(cases: &[Case]) {
    let sets = ALL.iter().map(|kind| vec![*kind]).chain([ALL.to_vec()]).collect::<Vec<_>>();
    let runs = cases
        .iter()
        .flat_map(|case| sets.iter().map(|set| Run { case: case.clone(), transports: set.clone() }));
    // The tests share the filter, so each may be left with nothing to do: what was made is printed.
    let wanted = std::env::var("ROUGH").unwrap_or_default();
    let mut runs = runs.filter(|run| run.to_string().contains(&wanted));
    let (mut making, mut failed) = (JoinSet::new(), Vec::new());
    loop {
        while making.len() < AT_ONCE {
            let Some(run) = runs.next() else { break };
            making.spawn(async move {
                let name = run.to_string();
                let watched = async move { within(PATIENCE, &run.to_string(), run.make()).await };
                (name, tokio::spawn(watched).await)
            });
        }
        let Some(made) = making.join_next().await else { break };
        match made.unwrap() {
            (name, Ok(seen)) => println!("{name}: {seen}"),
            (name, Err(_)) => failed.push(name),
        }
    }
    assert!(failed.is_empty(), "{} runs failed:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn a_network_without_rules_is_none() {
    make(&[case(&[], ALL)]).await;
}

#[tokio::test]
async fn where_upgrades_fail_the_rest_passes() {
    make(&[
        case(&[(1, REFUSED)], HTTP),
        case(&[(1, Rule::RefuseUpgrade { status: 502 })], HTTP),
        case(&[(1, Rule::StripUpgrade)], HTTP),
        case(&[(1, Rule::SwallowUpgrade)], HTTP),
    ])
    .await;
}

#[tokio::test]
async fn websockets_that_open_and_do_not_carry_both_ways_are_found_out() {
    make(&[
        case(&[(1, Rule::CarryNothing)], HTTP),
        case(&[(1, Rule::OneWay(Direction::Up))], HTTP),
        case(&[(1, Rule::OneWay(Direction::Down))], HTTP),
    ])
    .await;
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing() {
    make(&[
        case(&[(1, Rule::CutAfter(120 * MS))], ALL),
        case(&[(1, Rule::CutAfterBytes { direction: Direction::Up, bytes: 8_001 })], ALL),
        case(&[(1, Rule::CutAfterBytes { direction: Direction::Down, bytes: 8_001 })], ALL),
        case(&[(1, Rule::CloseIdle(30 * MS))], ALL),
        case(&[(1, Rule::CloseOld(60 * MS))], ALL),
    ])
    .await;
}

#[tokio::test]
async fn streams_that_are_held_back_leave_long_polling() {
    const ONLY_POLLS: &[TransportKind] = &[LongPolling];
    make(&[
        case(&[(1, Rule::HoldBody { bytes: None, head: false })], &[WebSocket, LongPolling]),
        case(&[(1, REFUSED), (1, Rule::HoldBody { bytes: None, head: false })], ONLY_POLLS),
        case(&[(1, REFUSED), (1, Rule::HoldBody { bytes: None, head: true })], ONLY_POLLS),
        case(&[(1, REFUSED), (1, Rule::HoldBody { bytes: Some(64 << 10), head: false })], ONLY_POLLS),
    ])
    .await;
}

#[tokio::test]
async fn responses_dropped_and_requests_replayed_change_nothing() {
    make(&[
        case(&[(3, Rule::DropResponse)], ALL),
        case(&[(2, Rule::ReplayRequest)], ALL),
        case(&[(1, REFUSED), (4, Rule::DropResponse), (3, Rule::ReplayRequest)], HTTP),
    ])
    .await;
}

#[tokio::test]
async fn posts_that_vanish_are_sent_again() {
    make(&[
        case(&[(1, Rule::SwallowPost)], &[WebSocket]),
        case(&[(1, REFUSED), (5, Rule::SwallowPost)], HTTP),
    ])
    .await;
}

#[tokio::test]
async fn slow_networks_are_slow() {
    make(&[
        case(&[(1, Rule::Delay(3 * MS))], ALL),
        case(&[(1, Rule::Throttle { bytes_per_second: 30_000 })], ALL),
    ])
    .await;
}

#[tokio::test]
async fn where_nothing_passes_there_is_one_typed_error() {
    make(&[
        case(&[(1, Rule::CaptivePortal)], NONE),
        case(&[(1, Rule::Refuse { status: 407 })], NONE),
        case(&[(1, Rule::Refuse { status: 503 })], NONE),
        case(&[(1, Rule::DropResponse)], NONE),
        case(&[(1, REFUSED), (1, Rule::SwallowPost)], NONE),
    ])
    .await;
}

#[tokio::test]
async fn rules_that_come_later_meet_sessions_that_are_carried() {
    for rule in [Rule::SwallowPost, Rule::Refuse { status: 503 }, Rule::CaptivePortal] {
        let run = Run { case: case(&[], ALL), transports: vec![Sse, WebSocket] };
        let setup = run.setup();
        let mut house = House::new(setup.server.clone()).await;
        let network = run.network(&house).await;
        let client = within(10, "the client connects", setup.client(network.url("/live")).connect()).await;
        let mut client = client.unwrap();
        let mut server = house.socket().await;
        network.add(rule);
        let (up, down) = (client.sender(), server.sender());
        let through = async {
            tokio::join!(
                send_all(&up, (0..ROUND).map(small)),
                send_all(&down, (0..ROUND).map(small)),
                recv_all("client", &mut client, (0..ROUND).map(small)),
                async {
                    network.has_acted(1).await;
                    if rule != Rule::SwallowPost {
                        // Then whoever runs the box repairs it.
                        network.replace([]);
                    }
                },
                recv_all("server", &mut server, (0..ROUND).map(small)),
            )
        };
        within(PATIENCE, &format!("{rule:?} does not stop the session"), through).await;
        assert_eq!(house.runs(), 1);
    }
}

/// With patience without an end only a second transport beside the first can help.
#[tokio::test]
async fn what_opens_and_is_silent_gets_company_and_the_first_welcome_wins() {
    for (rules, wanted) in [
        (vec![Rule::CarryNothing], Sse),
        (vec![Rule::OneWay(Direction::Up)], Sse),
        (vec![Rule::OneWay(Direction::Down)], Sse),
        (vec![Rule::CarryNothing, Rule::HoldBody { bytes: None, head: false }], LongPolling),
        (vec![REFUSED, Rule::HoldBody { bytes: None, head: true }], LongPolling),
    ] {
        let mut setup = Setup::new(Lane { kind: WebSocket, encoding: Encoding::Json });
        setup.transports = ALL.to_vec();
        setup.client.welcome_within = Duration::from_secs(86_400);
        let mut house = House::new(setup.server.clone()).await;
        let network = Rough::to(house.served.address).await.unwrap();
        network.replace(rules.clone());
        let mut client = setup.client(network.url("/live")).start().unwrap();
        let through = async {
            // Behind the hello that is lost.
            client.send(small(0)).await.unwrap();
            let mut server = house.socket().await;
            let (up, down) = (client.sender(), server.sender());
            tokio::join!(
                send_all(&up, (1..ROUND).map(small)),
                send_all(&down, (0..ROUND).map(small)),
                recv_all("server", &mut server, (0..ROUND).map(small)),
            );
            recv_all("client", &mut client, (0..ROUND).map(small)).await;
            assert_eq!(connected(&client).await, wanted, "{rules:?}");
        };
        within(PATIENCE, &format!("{rules:?}"), through).await;
        assert_eq!(house.runs(), 1, "{rules:?}: the handler ran once");
    }
}

/// Each connection dies before what waits is through, and the next one too: by small steps it gets there.
#[tokio::test]
async fn where_every_connection_is_cut_after_4_kb_what_waits_gets_through() {
    let by_bytes = |direction| Rule::CutAfterBytes { direction, bytes: 4_001 };
    for (transports, rule) in [
        (vec![WebSocket], by_bytes(Direction::Up)),
        (vec![WebSocket], by_bytes(Direction::Down)),
        (vec![Sse], by_bytes(Direction::Down)),
        (ALL.to_vec(), by_bytes(Direction::Up)),
        (ALL.to_vec(), by_bytes(Direction::Down)),
    ] {
        let name = format!("{rule:?} by {transports:?}");
        let run = Run { case: case(&[(1, rule)], ALL), transports };
        let setup = run.setup();
        let mut house = House::new(setup.server.clone()).await;
        let network = run.network(&house).await;
        let mut client = setup.client(network.url("/live")).start().unwrap();
        let sized = |number| body(number, 200, number % 2 == 1);
        let through = async {
            // All of it waits for the first connection.
            send_all(&client.sender(), (0..100).map(sized)).await;
            let mut server = house.socket().await;
            send_all(&server.sender(), (0..100).map(sized)).await;
            tokio::join!(
                recv_all("server", &mut server, (0..100).map(sized)),
                recv_all("client", &mut client, (0..100).map(sized)),
            );
        };
        within(PATIENCE, &name, through).await;
        assert_eq!(house.runs(), 1, "{name}: the handler ran once");
    }
}

/// What opens, is welcomed, and then carries nothing down is no session: one typed error, in its time.
#[tokio::test]
async fn where_only_the_welcome_passes_a_session_ends_with_one_typed_error() {
    let held = Rule::HoldBody { bytes: Some(300), head: false };
    let run = Run { case: case(&[(1, held)], NONE), transports: vec![Sse] };
    let mut setup = run.setup();
    setup.client.prove_within = 300 * MS;
    let house = House::new(setup.server.clone()).await;
    let network = run.network(&house).await;
    let client = setup.client(network.url("/live")).give_up_after(2000 * MS);
    let mut client = within(10, "the welcome passes", client.connect()).await.unwrap();
    client.send(small(0)).await.unwrap();
    let end = within(PATIENCE, "the session ends", client.recv()).await.expect_err("nothing can come");
    assert_eq!(end.close().code, CloseCode::TimedOut, "{end}");
    assert!(end.close().reason.contains("nothing passes"), "{end}");
    let history = client.transport_history();
    assert!(history.iter().all(|passage| passage.transport == Sse && passage.ended.is_some()), "{history:?}");
    let unproved = |passage: &throughline::socket::Passage| {
        passage.ended.as_ref().is_some_and(|ending| &*ending.code == "unproved")
    };
    assert!(history.iter().any(unproved), "{history:?}");
}

/// The second half of the way dies under a session that was carried: each way is missed by itself.
#[tokio::test]
async fn pushes_that_vanish_beside_a_living_stream_are_missed_soon() {
    let run = Run { case: case(&[], ALL), transports: vec![Sse, WebSocket] };
    let setup = run.setup();
    let mut house = House::new(setup.server.clone().heartbeat(Duration::from_secs(600))).await;
    let network = run.network(&house).await;
    let mut client =
        within(10, "the client connects", setup.client(network.url("/live")).connect()).await.unwrap();
    let mut server = house.socket().await;
    // The stream is proved before, with the first push.
    client.send(small(1)).await.unwrap();
    recv_all("server", &mut server, [small(1)].into_iter()).await;
    while client.transport_history().last().is_none_or(|last| last.proved_after.is_none()) {
        tokio::time::sleep(MS).await;
    }
    network.add(Rule::SwallowPost);
    client.send(small(0)).await.unwrap();
    // No heartbeat would tell for a quarter of an hour.
    within(30, "the message arrives", recv_all("server", &mut server, [small(0)].into_iter())).await;
    assert_eq!(connected(&client).await, WebSocket);
    let lost = client.transport_history().remove(0).ended.unwrap();
    assert_eq!(&*lost.code, "uplink_lost");
    client.close(CloseCode::Normal, "");
    let _ = client.recv().await;
}

/// A WebSocket that stops carrying up is missed by what it owes, and not by a heartbeat.
#[tokio::test]
async fn a_websocket_that_goes_dead_is_missed_by_the_receipts_that_it_owes() {
    let run = Run { case: case(&[], ALL), transports: ALL.to_vec() };
    let setup = run.setup();
    let mut house = House::new(setup.server.clone().heartbeat(Duration::from_secs(600))).await;
    let network = run.network(&house).await;
    let mut client =
        within(10, "the client connects", setup.client(network.url("/live")).connect()).await.unwrap();
    let mut server = house.socket().await;
    // What opens from now on works; what is open goes on and carries next to nothing.
    network.times(1, Rule::Throttle { bytes_per_second: 1 });
    client.send(small(0)).await.unwrap();
    within(30, "the message arrives", recv_all("server", &mut server, [small(0)].into_iter())).await;
    let missed = client.transport_history().remove(0).ended.unwrap();
    assert_eq!(&*missed.code, "silent");
    client.close(CloseCode::Normal, "");
    let _ = client.recv().await;
}
