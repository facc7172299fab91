//! Limits reached, and room again when somebody has left.

use std::time::Duration;

use throughline::frame::{Encoding, Frame};
use throughline::{Close, CloseCode};

use super::me::{Me, encode};
use super::peer::{Peer, Way};
use super::stage::{Set, play, within};
use super::ws::{Ws, upgrade};

#[test]
fn when_sessions_are_full_one_more_is_refused_until_one_has_ended() {
    for way in Way::ALL {
        // The bystander is one of them.
        play(Set::with(|builder| builder.max_sessions(3)), async move |stage| {
            let mut first = Peer::enter(stage, way).await;
            let mut second = Peer::enter(stage, way).await;
            for late in Way::ALL {
                let me = Me::new();
                let hello = me.hello_frame(late.kind());
                let end = Peer::knock(stage, late, me, &[hello]).await.err().expect("a close");
                assert_eq!((end.code(), end.status), ("overloaded", 429));
                if let Way::WebSocket(_) = late {
                    continue;
                }
                let hello = late.ask(encode(late.encoding(), &[Me::new().hello_frame(late.kind())]));
                assert_eq!(stage.ask(&hello).await.head.get("retry-after"), Some("1"));
            }
            // Those who are in can come back.
            first = first.resume(stage, way).await;
            first.check(stage).await;
            second.check(stage).await;
            let bye = encode(way.encoding(), &[Frame::Close(Close::new(CloseCode::Normal, ""))]);
            assert_eq!(second.offend(stage, &bye).await.code(), "normal");
            stage.until("one has left", |stage| stage.sessions() == 1).await;
            Peer::enter(stage, way).await.check(stage).await;
        });
    }
}

#[test]
fn when_places_are_full_nobody_comes_in_until_one_is_free() {
    let set = Set::with(|builder| builder.hello_deadline(Duration::from_secs(3)));
    play(Set { places: 5, ..set }, async |stage| {
        let mut inside = Peer::enter(stage, Way::ALL[5]).await;
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(Ws::open(stage.wire().await, Encoding::Json).await);
        }
        let refused =
            Ws::try_open(stage.wire().await, &upgrade(), Encoding::Json).await.err().expect("no place");
        assert_eq!((refused.status, refused.get("retry-after")), (429, Some("1")));
        let hello = [Me::new().hello_frame(Way::Events.kind())];
        let answer = stage.ask(&Way::ALL[5].ask(encode(Encoding::Json, &hello))).await;
        assert_eq!((answer.status(), answer.close().unwrap().code.clone()), (429, CloseCode::Overloaded));
        // Who is inside needs none.
        inside.check(stage).await;
        stage.check_bystander().await;
        // One hangs up, and its place is free.
        drop(silent.pop());
        let mut wire = stage.wire().await;
        let opening = async {
            loop {
                match Ws::try_open(wire, &upgrade(), Encoding::Json).await {
                    Ok(ws) => return ws,
                    Err(_) => tokio::task::yield_now().await,
                }
                wire = stage.wire().await;
            }
        };
        silent.push(within("a free place", opening).await);
        for ws in &mut silent {
            assert_eq!(within("the end", ws.ended()).await.code, Some(1000));
        }
        inside.check(stage).await;
    });
}

#[test]
fn ended_sessions_are_remembered_within_their_bound() {
    play(Set::with(|builder| builder.max_ended(64)), async |stage| {
        let way = Way::ALL[5];
        let mut gone = Vec::new();
        for _ in 0..500 {
            let mut peer = Peer::enter(stage, way).await;
            peer.say(stage, &[Frame::Close(Close::new(CloseCode::Normal, ""))]).await;
            gone.push(peer.me.clone());
        }
        stage.until("all have ended", |stage| stage.sessions() == 0).await;
        let mut known = 0;
        for me in gone {
            let answer =
                stage.ask(&way.ask(encode(Encoding::Json, &[Frame::Poll(Box::new(me.poll(0)))]))).await;
            match answer.close().unwrap().code.clone() {
                CloseCode::Normal => known += 1,
                code => assert_eq!(code, CloseCode::UnknownSession),
            }
        }
        assert!((1..=64).contains(&known), "{known}");
    });
}

#[test]
fn a_draining_server_lets_nobody_in_and_says_when_to_come_back() {
    play(Set { bystander: false, ..Set::default() }, async |stage| {
        let mut peers = Vec::new();
        for way in Way::ALL {
            peers.push(Peer::enter(stage, way).await);
        }
        let server = stage.server.clone();
        let draining =
            tokio::spawn(async move { server.shutdown("maintenance", Duration::from_secs(20)).await });
        tokio::task::yield_now().await;
        for way in Way::ALL {
            if let Way::WebSocket(encoding) = way {
                let head =
                    Ws::try_open(stage.wire().await, &upgrade(), encoding).await.err().expect("refused");
                assert_eq!((head.status, head.get("retry-after")), (503, Some("1")));
                continue;
            }
            let me = Me::new();
            let hello = me.hello_frame(way.kind());
            let end = Peer::knock(stage, way, me, &[hello]).await.err().expect("a close");
            assert_eq!((end.code(), end.status), ("draining", 503));
        }
        for mut peer in peers {
            assert_eq!(peer.end(stage).await.code(), "going_away", "{:?}", peer.way);
            peer.say(stage, &[Frame::Close(Close::new(CloseCode::GoingAway, ""))]).await;
        }
        assert_eq!(within("the drain", draining).await.unwrap(), 0);
        stage.count_no_places();
    });
}
