//! The inbox in PostgreSQL, against a real one: it does what all inboxes must, several nodes use it at once, and what
//! happens while the database is away.
//!
//! `./test.sh` installs PostgreSQL and runs this.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect by panicking")]

#[path = "../inbox/contract.rs"]
mod contract;
mod encrypted;
#[path = "../inbox/journey.rs"]
mod journey;
#[expect(dead_code, unreachable_pub, reason = "its main is not called")]
#[path = "../../examples/notifications.rs"]
mod notifications;
#[path = "../inbox/scene.rs"]
mod scene;
mod server;
#[expect(dead_code, reason = "the tests of rooms use all of it")]
#[path = "../rooms/stage.rs"]
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use contract::Kind;
use server::{Server, client};
use stage::Stage;
use support::{Served, within};
use throughline::client::rooms::Event;
use throughline::frame::{Body, TransportKind};
use throughline::hub::{Delivery, Hub, Inbox, InboxBounds, InboxError, PostgresInbox};
use throughline::room::payload::Position;
use throughline::{CloseCode, Principal, Rooms};

const MINUTE: Duration = Duration::from_secs(60);

fn ada() -> Principal {
    Principal::new("ada")
}

/// Each in a database of its own.
struct Postgres {
    server: Server,
    latest: Mutex<String>,
}

impl Kind for Postgres {
    type Inbox = PostgresInbox;

    async fn inbox(&self, bounds: InboxBounds) -> PostgresInbox {
        let url = self.server.database().await;
        self.latest.lock().unwrap().clone_from(&url);
        inbox(&url, bounds).await
    }

    async fn pass(&self, time: Duration) {
        let url = self.latest.lock().unwrap().clone();
        let older = format!("UPDATE throughline_inbox SET put = put - interval '{} s'", time.as_secs());
        client(&url).await.batch_execute(&older).await.unwrap();
    }
}

async fn inbox(url: &str, bounds: InboxBounds) -> PostgresInbox {
    PostgresInbox::builder(url).bounds(bounds).patience(MINUTE).connect().await.unwrap()
}

#[tokio::test]
async fn the_inbox_in_postgresql_does_what_all_must() {
    contract::hold(Postgres { server: Server::start(), latest: Mutex::default() }).await;
}

#[tokio::test]
async fn what_it_keeps_is_received_once_and_in_order_in_the_next_sessions() {
    let server = Server::start();
    journey::once_and_in_order(inbox(&server.database().await, journey::BOUNDS).await).await;
    journey::from_session_to_session(inbox(&server.database().await, journey::BOUNDS).await).await;
    journey::few_by_hand(inbox(&server.database().await, journey::BOUNDS).await).await;
}

#[tokio::test]
async fn notifications_wait_in_postgresql_for_who_is_away_though_the_server_is_another_one() {
    let server = Server::start();
    let url = server.database().await;
    let before = notifications::hub(Some(&url)).await.unwrap();
    for text in ["one", "two"] {
        let body = Body::json(&notifications::Notification { from: "eve".into(), text: text.into() });
        assert_eq!(before.deliver(&Principal::new("bob"), body.unwrap()).await.unwrap(), Delivery::Kept);
    }
    drop(before);
    let hub = notifications::hub(Some(&url)).await.unwrap();
    let served = Served::new(&notifications::server(hub.clone()).unwrap()).await;
    let mut bob = Rooms::over(notifications::connect(&served.url(), "bob").await.unwrap());
    for text in ["one", "two"] {
        let told = within(40, text, notifications::next(&mut bob)).await.unwrap();
        assert_eq!((told.from.as_str(), told.text.as_str()), ("eve", text));
    }
    bob.close(CloseCode::Normal, "");
    journey::nobody_is_served(&hub).await;
    drop((served, hub));
    scene::notifications_wait_for_who_is_away(notifications::hub(Some(&url)).await.unwrap()).await;
}

#[tokio::test]
async fn several_nodes_keep_and_take_at_once_and_each_message_is_taken_once_and_in_order() {
    const NODES: u8 = 3;
    const EACH: u8 = 20;
    let server = Server::start();
    let url = server.database().await;
    // They create what they need at once, too.
    let all = (0..NODES).map(|_| inbox(&url, InboxBounds::default()));
    let inboxes = futures_util::future::join_all(all).await;
    let nodes = inboxes.into_iter().map(|inbox| Stage::new(Hub::builder().inbox(inbox).build()));
    let nodes = futures_util::future::join_all(nodes).await;
    let keeping = nodes.iter().zip(0..).map(|(node, writer)| async move {
        for number in 0..EACH {
            let kept = node.hub.deliver(&ada(), vec![writer, number]).await.unwrap();
            assert_eq!(kept, Delivery::Kept);
        }
    });
    futures_util::future::join_all(keeping).await;
    // A session of hers at each node: one of them is given all, or each a part.
    let sessions = nodes.iter().map(|node| node.connect("ada", TransportKind::ALL));
    let sessions = futures_util::future::join_all(sessions).await;
    let (send, mut come) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for mut rooms in sessions {
        let send = send.clone();
        tasks.spawn(async move {
            loop {
                let body = journey::kept(&mut rooms).await;
                if send.send(body.as_bytes().clone()).is_err() {
                    return;
                }
            }
        });
    }
    let mut next = [0; NODES as usize];
    for _ in 0..u16::from(NODES) * u16::from(EACH) {
        let body = within(60, "what was kept", come.recv()).await.unwrap();
        assert_eq!(next[usize::from(body[0])], body[1], "of node {}", body[0]);
        next[usize::from(body[0])] += 1;
    }
    tasks.shutdown().await;
    let left = inbox(&url, InboxBounds::default()).await.oldest(&ada(), 9).await.unwrap();
    assert_eq!(left.iter().filter(|(_, body)| body.as_bytes()[1] != EACH - 1).count(), 0, "{left:?}");
}

#[tokio::test]
async fn one_node_at_a_time_has_the_claim_until_it_gives_it_back_or_has_crashed() {
    let server = Server::start();
    let url = server.database().await;
    let (first, second) = (inbox(&url, journey::BOUNDS).await, inbox(&url, journey::BOUNDS).await);
    assert!(first.claim(&ada(), MINUTE).await.unwrap());
    assert!(!second.claim(&ada(), MINUTE).await.unwrap());
    assert!(second.claim(&Principal::new("bob"), MINUTE).await.unwrap());
    second.release(&ada()).await.unwrap();
    assert!(!second.claim(&ada(), MINUTE).await.unwrap(), "it was not its own to give");
    first.release(&ada()).await.unwrap();
    assert!(second.claim(&ada(), MINUTE).await.unwrap());
    drop(second);
    assert!(!first.claim(&ada(), MINUTE).await.unwrap());
    let past = "UPDATE throughline_inbox_claim SET until = until - interval '2 minutes'";
    client(&url).await.batch_execute(past).await.unwrap();
    assert!(first.claim(&ada(), MINUTE).await.unwrap());
}

/// That of a node which crashes between the receipt of a message and its deletion.
struct Crashing(PostgresInbox);

#[async_trait]
impl Inbox for Crashing {
    async fn put(&self, principal: &Principal, body: Body) -> Result<(), InboxError> {
        self.0.put(principal, body).await
    }

    async fn oldest(&self, principal: &Principal, count: usize) -> Result<Vec<(Position, Body)>, InboxError> {
        self.0.oldest(principal, count).await
    }

    async fn delete(&self, _: &Principal, _: Position) -> Result<(), InboxError> {
        std::future::pending().await
    }

    async fn claim(&self, principal: &Principal, lasts: Duration) -> Result<bool, InboxError> {
        self.0.claim(principal, lasts).await
    }
}

#[tokio::test]
async fn what_a_node_did_not_delete_before_it_crashed_comes_once_to_the_same_client_all_the_same() {
    let server = Server::start();
    let url = server.database().await;
    let crashing = Crashing(inbox(&url, journey::BOUNDS).await);
    let mut stage = Stage::new(Hub::builder().inbox(crashing).build()).await;
    for number in 0..3_u8 {
        stage.hub.deliver(&ada(), vec![number]).await.unwrap();
    }
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    assert_eq!(journey::kept(&mut rooms).await, Body::from(vec![0]));
    let another = inbox(&url, journey::BOUNDS).await;
    assert_eq!(another.oldest(&ada(), 9).await.unwrap().len(), 3, "nothing was deleted");
    // The node is gone, and its claim has passed.
    let past = "UPDATE throughline_inbox_claim SET until = until - interval '2 minutes'";
    client(&url).await.batch_execute(past).await.unwrap();
    stage.restart(Hub::builder().inbox(another).build()).await;
    stage::until(&mut rooms, |event| matches!(event, Event::Lost(_))).await;
    for number in 1..3_u8 {
        assert_eq!(journey::kept(&mut rooms).await, Body::from(vec![number]));
    }
}

#[tokio::test]
async fn a_number_comes_to_be_seen_after_all_lower_ones() {
    let server = Server::start();
    let url = server.database().await;
    let slow = inbox(&url, journey::BOUNDS).await;
    let quick = inbox(&url, journey::BOUNDS).await;
    // A put that has its number and is not committed.
    let held = client(&url).await;
    let put = "BEGIN; SELECT throughline_inbox_put('ada', 'token', false, 'first', 100, 100, 100)";
    held.batch_execute(put).await.unwrap();
    let ada = ada();
    let mut second = std::pin::pin!(quick.put(&ada, Body::from(b"second".to_vec())));
    // Another one waits for it: nothing that comes behind is seen before.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'";
    let watcher = client(&url).await;
    let watching = async {
        while watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        put = &mut second => panic!("it did not wait: {put:?}"),
        () = within(30, "it waits", watching) => {}
    }
    assert!(slow.oldest(&ada, 9).await.unwrap().is_empty());
    held.batch_execute("COMMIT").await.unwrap();
    within(30, "it is kept", second).await.unwrap();
    let kept = slow.oldest(&ada, 9).await.unwrap();
    let bodies: Vec<_> = kept.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(bodies, [Body::from(b"first".to_vec()), Body::from(b"second".to_vec())]);
}

#[tokio::test]
async fn what_is_said_again_under_one_token_is_kept_once() {
    let server = Server::start();
    let url = server.database().await;
    let inbox = inbox(&url, journey::BOUNDS).await;
    let again = client(&url).await;
    for _ in 0..2 {
        let put = "SELECT throughline_inbox_put('ada', 'token', false, 'once', 100, 100, 100)";
        again.batch_execute(put).await.unwrap();
    }
    assert_eq!(inbox.oldest(&ada(), 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_that_goes_and_comes_back_loses_and_repeats_nothing() {
    let server = Server::start();
    let url = server.database().await;
    let stage = Stage::new(Hub::builder().inbox(inbox(&url, journey::BOUNDS).await).build()).await;
    let keep = async |numbers: std::ops::Range<u8>| {
        for number in numbers {
            let kept = within(60, "it is kept", stage.hub.deliver(&ada(), vec![number])).await.unwrap();
            assert_eq!(kept, Delivery::Kept);
        }
    };
    keep(0..5).await;
    server.end();
    // What is asked meanwhile waits.
    let back = async {
        tokio::task::yield_now().await;
        server.begin();
    };
    tokio::join!(keep(5..10), back);
    server.crash();
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    server.begin();
    for number in 0..10 {
        assert_eq!(journey::kept(&mut rooms).await, Body::from(vec![number]));
        if number == 4 {
            server.crash();
            server.begin();
        }
    }
    assert_eq!(stage.hub.deliver(&ada(), "now").await.unwrap(), Delivery::Sent(1));
    rooms.close(CloseCode::Normal, "");
    journey::nobody_is_served(&stage.hub).await;
    keep(10..11).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    assert_eq!(journey::kept(&mut rooms).await, Body::from(vec![10]));
}

#[tokio::test]
async fn while_the_database_is_away_few_wait_and_none_for_ever() {
    let server = Server::start();
    let url = server.database().await;
    // It is short for a machine that does other things, and tried again where it has to do.
    let patience = Duration::from_millis(500);
    let inbox = loop {
        let inbox = PostgresInbox::builder(&url).patience(patience).waiting(2).connect();
        if let Ok(inbox) = within(60, "it connects", inbox).await {
            break inbox;
        }
    };
    server.end();
    let ada = ada();
    let put = || inbox.put(&ada, Body::from("x"));
    let all = futures_util::future::join_all((0..5).map(|_| put()));
    let failed = within(30, "they fail", all).await;
    let why = |put: &Result<(), InboxError>| match put {
        Err(InboxError::Unavailable(why)) => why.to_string(),
        other => panic!("{other:?}"),
    };
    let busy = failed.iter().map(why).filter(|why| why == "too many calls wait for the database").count();
    assert_eq!(busy, 3, "{failed:?}");
    let nobody = PostgresInbox::builder(&url).patience(patience).connect().await;
    assert!(matches!(nobody, Err(InboxError::Unavailable(_))));
    server.begin();
    let kept = async {
        while put().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(60, "it is kept", kept).await;
}

#[tokio::test]
async fn a_database_of_another_version_or_without_rights_is_refused_as_such() {
    let server = Server::start();
    let url = server.database().await;
    let admin = client(&url).await;
    admin.batch_execute("CREATE ROLE guest LOGIN").await.unwrap();
    let as_guest = url.replace("test@", "guest@");
    let refused = PostgresInbox::builder(&as_guest).connect().await.unwrap_err();
    assert!(format!("{refused:?}").contains("permission denied"), "{refused:?}");
    inbox(&url, journey::BOUNDS).await;
    // With rights to use what is there it needs none to create.
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO guest";
    admin.batch_execute(grant).await.unwrap();
    let guest = inbox(&as_guest, journey::BOUNDS).await;
    guest.put(&ada(), Body::from("x")).await.unwrap();
    let (at, _) = guest.oldest(&ada(), 1).await.unwrap().remove(0);
    assert!(guest.claim(&ada(), MINUTE).await.unwrap());
    guest.delete(&ada(), at).await.unwrap();
    guest.release(&ada()).await.unwrap();
    admin.batch_execute("UPDATE throughline_inbox_epoch SET version = 2").await.unwrap();
    let refused = PostgresInbox::builder(&url).connect().await.unwrap_err();
    assert!(format!("{refused:?}").contains("Version(2)"), "{refused:?}");
    let nonsense = PostgresInbox::builder("nonsense").connect().await.unwrap_err();
    assert!(matches!(nonsense, InboxError::Unavailable(_)));
}
