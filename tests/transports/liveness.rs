//! Idle sessions and paths that die without a word.

use std::time::Duration;

use crate::pair::{Lane, Pair, Setup, adrift, recv_all, send_all, small, until};
use crate::support::within;

pub(crate) async fn heartbeats_keep_an_idle_session(lane: Lane) {
    let mut pair = Pair::with(Setup::impatient(lane)).await;
    pair.talk(0, 5).await;
    let connections = pair.wire.accepted();
    let mut watches = [pair.client.watch(), pair.server.watch()];
    for watch in &mut watches {
        watch.state();
    }
    let [of_client, of_server] = &mut watches;
    // Idle for longer than anybody is patient, three times over.
    let changed = async {
        tokio::select! {
            state = of_client.changed() => format!("client: {state:?}"),
            state = of_server.changed() => format!("server: {state:?}"),
        }
    };
    if let Ok(changed) = tokio::time::timeout(Duration::from_millis(4500), changed).await {
        panic!("an idle session did not stay: {changed}");
    }
    let more = pair.wire.accepted() - connections;
    assert!(more <= 1, "{more} new connections while idle");
    pair.talk(5, 5).await;
    pair.end().await;
}

pub(crate) async fn half_open_both_ways_is_noticed(lane: Lane) {
    half_open(lane, true, true).await;
}

pub(crate) async fn half_open_upwards_is_noticed(lane: Lane) {
    half_open(lane, true, false).await;
}

pub(crate) async fn half_open_downwards_is_noticed(lane: Lane) {
    half_open(lane, false, true).await;
}

async fn half_open(lane: Lane, up: bool, down: bool) {
    let mut pair = Pair::with(Setup::impatient(lane)).await;
    pair.talk(0, 10).await;
    pair.wire.stall(up, down);
    send_all(&pair.client.sender(), (10..40).map(small)).await;
    send_all(&pair.server.sender(), (10..40).map(small)).await;
    // What stands still may come in the end, long after it was given up and repeated on another path.
    let noticed = async {
        tokio::select! {
            () = adrift(&pair.client) => {}
            () = adrift(&pair.server) => {}
        }
    };
    within(8, "somebody notices", noticed).await;
    let before = pair.wire.accepted();
    until("the client dials again", || pair.wire.accepted() > before).await;
    pair.wire.stall(false, false);
    let arrived = async {
        recv_all("server", &mut pair.server, (10..40).map(small)).await;
        recv_all("client", &mut pair.client, (10..40).map(small)).await;
    };
    within(15, "everything arrives", arrived).await;
    pair.talk(40, 10).await;
    pair.end().await;
}
