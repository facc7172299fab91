//! Transports that end, servers that end: what is resumed, and what is told when nothing can be.

use throughline::CloseCode;
use throughline::socket::RecvError;

use crate::pair::{
    House, Lane, Pair, Setup, adrift, connected, listen_again, recv_all, send_all, small, until,
};
use crate::support::{Served, within};

/// Cuts with messages queued at both ends, and goes on.
async fn survive(lane: Lane, cut: impl Fn(&Pair)) {
    let mut pair = Pair::new(lane).await;
    for round in 0..4 {
        let first = round * 50;
        send_all(&pair.client.sender(), (first..first + 30).map(small)).await;
        send_all(&pair.server.sender(), (first..first + 30).map(small)).await;
        if round % 2 == 1 {
            // In the middle of it all, instead of before anything was written.
            recv_all("client", &mut pair.client, (first..first + 7).map(small)).await;
        }
        cut(&pair);
        send_all(&pair.client.sender(), (first + 30..first + 50).map(small)).await;
        send_all(&pair.server.sender(), (first + 30..first + 50).map(small)).await;
        let seen = if round % 2 == 1 { 7 } else { 0 };
        let all = async {
            recv_all("server", &mut pair.server, (first..first + 50).map(small)).await;
            recv_all("client", &mut pair.client, (first + seen..first + 50).map(small)).await;
        };
        within(15, "everything arrives", all).await;
    }
    assert_eq!(within(5, "it is carried", connected(&pair.client)).await, lane.kind);
    pair.end().await;
}

pub(crate) async fn a_cut_loses_nothing(lane: Lane) {
    survive(lane, |pair| pair.client.cut()).await;
}

pub(crate) async fn a_cut_by_the_server_loses_nothing(lane: Lane) {
    survive(lane, |pair| pair.server.cut()).await;
}

pub(crate) async fn a_cut_wire_loses_nothing(lane: Lane) {
    survive(lane, |pair| pair.wire.cut()).await;
}

pub(crate) async fn many_cuts_lose_nothing(lane: Lane) {
    let mut pair = Pair::new(lane).await;
    let (up, down) = (pair.client.sender(), pair.server.sender());
    let cuts = async {
        for number in 0.. {
            let (at_up, at_down) = pair.wire.passed();
            // A few KiB further on, wherever that is.
            match number % 3 {
                0 => pair.wire.cut_after_up(1500 + number % 12 * 7),
                1 => pair.wire.cut_after_down(1500 + number % 12 * 7),
                _ => pair.wire.cut(),
            }
            until("more bytes pass", || {
                let (up, down) = pair.wire.passed();
                up > at_up + 3000 || down > at_down + 3000
            })
            .await;
        }
    };
    let bodies = |number| crate::pair::body(number, 200, number % 2 == 0);
    let talk = async {
        tokio::join!(
            send_all(&up, (0..1500).map(bodies)),
            send_all(&down, (0..1500).map(bodies)),
            recv_all("server", &mut pair.server, (0..1500).map(bodies)),
            recv_all("client", &mut pair.client, (0..1500).map(bodies)),
        )
    };
    let talk = async {
        tokio::select! {
            _ = talk => {}
            () = cuts => {}
        }
    };
    // Half a minute by itself, if chance is against it: who is cut time after time comes back after longer pauses.
    within(60, "everything arrives", talk).await;
    pair.end().await;
}

pub(crate) async fn what_was_written_and_never_arrived_comes_again(lane: Lane) {
    let mut pair = Pair::new(lane).await;
    pair.talk(0, 5).await;
    for first in [5, 10] {
        // The server writes its answer; the client never sees it.
        pair.wire.stall(false, true);
        let (_, before) = pair.wire.come();
        send_all(&pair.server.sender(), (first..first + 5).map(small)).await;
        until("the server has written", || pair.wire.come().1 > before + 5 * 24).await;
        pair.wire.cut();
        pair.wire.stall(false, false);
        let all = recv_all("client", &mut pair.client, (first..first + 5).map(small));
        within(10, "it comes again", all).await;
        // And the same upwards: the server never sees the push.
        pair.wire.stall(true, false);
        let (before, _) = pair.wire.come();
        send_all(&pair.client.sender(), (first..first + 5).map(small)).await;
        until("the client has written", || pair.wire.come().0 > before).await;
        pair.wire.cut();
        pair.wire.stall(false, false);
        let all = recv_all("server", &mut pair.server, (first..first + 5).map(small));
        within(10, "it comes again", all).await;
    }
    pair.talk(15, 5).await;
    pair.end().await;
}

pub(crate) async fn a_listener_that_restarts_changes_nothing(lane: Lane) {
    let mut pair = Pair::new(lane).await;
    pair.talk(0, 10).await;
    let address = pair.house.served.address;
    pair.wire.refuse(true);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(std::mem::replace(&mut pair.house.served, Served::on(listener, &pair.house.server)));
    // An upgraded connection is no longer its host's.
    pair.wire.cut();
    within(10, "the client notices", adrift(&pair.client)).await;
    send_all(&pair.client.sender(), (10..20).map(small)).await;
    send_all(&pair.server.sender(), (10..20).map(small)).await;
    let listener = listen_again(address).await;
    pair.house.served = Served::on(listener, &pair.house.server);
    pair.wire.refuse(false);
    let all = async {
        recv_all("server", &mut pair.server, (10..20).map(small)).await;
        recv_all("client", &mut pair.client, (10..20).map(small)).await;
    };
    within(10, "everything arrives", all).await;
    pair.end().await;
}

pub(crate) async fn a_server_that_restarts_has_forgotten(lane: Lane) {
    let setup = Setup::new(lane);
    let builder = setup.server.clone();
    let Pair { mut client, server, wire, house, .. } = Pair::with(setup).await;
    client.send_acked("before").await.unwrap();
    let old = client.id();
    // On their way, and nobody knows how far they got.
    wire.stall(true, false);
    let (before, _) = wire.come();
    send_all(&client.sender(), (0..3).map(small)).await;
    until("the client has written", || wire.come().0 > before).await;
    let address = house.served.address;
    wire.refuse(true);
    wire.cut();
    drop((house.served, server));
    let listener = listen_again(address).await;
    let mut house = House::on(listener, builder);
    wire.stall(false, false);
    wire.refuse(false);
    let lost = within(10, "the loss is told", client.recv()).await.unwrap_err();
    let RecvError::Lost(ended) = lost else { panic!("{lost}") };
    assert_eq!(ended.close.code, CloseCode::UnknownSession, "{}", ended.close);
    assert!(ended.undelivered.iter().all(throughline::session::Undelivered::is_unknown));
    assert_ne!(client.id(), old);
    // What was never put on a transport goes to the new session, behind what is reported.
    let unknown = ended.undelivered.len() as u64;
    let reported = ended.undelivered.into_iter().map(|message| message.body).collect::<Vec<_>>();
    assert!(unknown > 0);
    assert_eq!(reported, (0..unknown).map(small).collect::<Vec<_>>());
    let mut server = house.socket().await;
    let rest = recv_all("server", &mut server, (unknown..3).map(small));
    within(10, "the rest arrives", rest).await;
    assert_eq!(within(5, "it is carried", connected(&client)).await, lane.kind);
    let mut pair = Pair { client, server, wire, house };
    pair.talk(0, 5).await;
    pair.end().await;
}
