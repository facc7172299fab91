//! The order in which things must be said: hello first, once, with a number that is not lower.

use throughline::frame::{Encoding, Frame};
use throughline::{CloseCode, TransportKind};

use super::http::Ask;
use super::me::{Me, ack, encode, message, number};
use super::peer::{Peer, Way};
use super::stage::{Set, play, within};
use super::ws::Ws;

async fn refused(stage: &super::stage::Stage, way: Way, me: Me, frames: &[Frame]) -> super::peer::End {
    Peer::knock(stage, way, me, frames).await.err().unwrap_or_else(|| panic!("{way:?} was let in"))
}

#[test]
fn whatever_comes_before_hello_is_refused_and_makes_no_session() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let me = Me::new();
            let first = [
                message(1, "early"),
                ack(0, 0),
                Frame::Ping(None),
                Frame::Auth(throughline::frame::Json::of("token").unwrap()),
                Frame::Close(throughline::Close::new(CloseCode::Normal, "")),
            ];
            for frame in first {
                let end = refused(stage, way, me.clone(), &[frame, me.hello_frame(way.kind())]).await;
                assert_eq!(end.code(), "protocol_error", "{way:?}");
            }
            assert_eq!((stage.sessions(), stage.started()), (0, 0));
        });
    }
}

#[test]
fn polls_and_pushes_do_not_come_by_websocket() {
    play(Set::default(), async |stage| {
        for way in [Way::ALL[0], Way::ALL[1]] {
            let me = Me::new();
            for frame in [Frame::Poll(Box::new(me.poll(0))), Frame::Push(Box::new(me.push()))] {
                let end = refused(stage, way, me.clone(), std::slice::from_ref(&frame)).await;
                assert_eq!(end.code(), "protocol_error");
                let mut peer = Peer::enter(stage, way).await;
                let end = peer.offend(stage, &encode(way.encoding(), &[frame])).await;
                assert_eq!(end.code(), "protocol_error");
            }
        }
    });
}

#[test]
fn two_hellos_in_one_batch_end_the_session() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut me = Me::new();
            let first = me.hello_frame(way.kind());
            me.attachment = 2;
            let second = me.hello_frame(way.kind());
            me.attachment = 1;
            let end = match Peer::knock(stage, way, me, &[first, second]).await {
                Err(end) => end,
                // The welcome had left already.
                Ok(mut peer) => peer.end(stage).await,
            };
            assert_eq!(end.code(), "protocol_error", "{way:?}");
        });
    }
}

#[test]
fn a_hello_inside_a_session_ends_it() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            for other in [Me::new(), peer.me.clone()] {
                let hello = encode(way.encoding(), &[other.hello_frame(way.kind())]);
                let end = peer.offend(stage, &hello).await;
                assert_eq!(end.code(), "protocol_error", "{way:?}");
                peer = Peer::enter(stage, way).await;
            }
        });
    }
}

#[test]
fn a_hello_by_another_transport_than_it_names_makes_no_session() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let wrong = TransportKind::ALL.into_iter().filter(|kind| {
                (*kind == TransportKind::WebSocket) != (way.kind() == TransportKind::WebSocket)
            });
            for kind in wrong {
                let me = Me::new();
                let hello = encode(way.encoding(), &[me.hello_frame(kind)]);
                let close = match way {
                    Way::WebSocket(_) => {
                        Peer::knock_raw(stage, way, me, hello).await.err().expect("a close").close
                    }
                    _ => stage.ask(&way.ask(hello)).await.close().expect("a close"),
                };
                assert_eq!(close.code, CloseCode::ProtocolError, "{way:?} {kind}");
            }
            assert_eq!(stage.sessions(), 0);
        });
    }
}

#[test]
fn another_version_and_an_unknown_transport_are_refused_by_name() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            for version in [0, 2, u32::MAX] {
                let me = Me::new();
                let mut hello = me.hello(way.kind());
                hello.version = version;
                let end = refused(stage, way, me, &[Frame::Hello(Box::new(hello))]).await;
                assert_eq!(end.code(), "unsupported_version", "{way:?}");
            }
            assert_eq!(stage.started(), 0);
            if way.encoding() == Encoding::Json {
                let me = Me::new();
                let hello = encode(way.encoding(), &[me.hello_frame(way.kind())]);
                let hello = String::from_utf8(hello.to_vec()).unwrap();
                let hello = hello.replace(&format!("\"{}\"", way.kind()), "\"carrier-pigeon\"");
                let end = Peer::knock_raw(stage, way, me, hello.into()).await.err().expect("a close");
                assert_eq!(end.code(), "protocol_error", "{way:?}");
            }
        });
    }
}

#[test]
fn a_transport_that_is_not_offered_is_refused() {
    for kept in TransportKind::ALL {
        let set = Set { bystander: false, ..Set::with(|builder| builder.transports([kept])) };
        play(set, async move |stage| {
            for way in Way::ALL.into_iter().filter(|way| way.kind() != kept) {
                if way.kind() == TransportKind::WebSocket {
                    let ws = Ws::try_open(stage.wire().await, &super::ws::upgrade(), Encoding::Json).await;
                    assert_eq!(ws.err().expect("no WebSocket").status, 501);
                    continue;
                }
                let me = Me::new();
                let hello = me.hello_frame(way.kind());
                assert_eq!(refused(stage, way, me, &[hello]).await.code(), "not_acceptable");
            }
            // The end of a transport that is let in is tested elsewhere; places are counted in WebSockets.
            stage.count_no_places();
        });
    }
}

#[test]
fn a_lower_hello_is_superseded_and_changes_nothing() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            peer.me.attachment = 9;
            let mut peer = peer.resume(stage, way).await;
            for late in Way::ALL {
                let mut me = peer.me.clone();
                me.attachment = 9;
                // What comes behind it is dropped with it.
                let frames = [me.hello_frame(late.kind()), message(1, "late")];
                let end = refused(stage, late, me, &frames).await;
                assert_eq!((end.code(), end.close.detail.attachment), ("superseded", Some(number(10))));
                assert_eq!(end.status, 409);
            }
            peer.check(stage).await;
            assert_eq!((stage.sessions(), stage.started()), (1, 1));
        });
    }
}

#[test]
fn the_same_hello_again_gets_the_same_welcome_on_the_newer_carrier() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let first = Peer::enter(stage, way).await;
            let mut me = first.me.clone();
            me.epoch = None;
            let mut second = Peer::enter_as(stage, way, me).await;
            assert_eq!(first.welcome, second.welcome);
            second.check(stage).await;
            assert_eq!((stage.sessions(), stage.started()), (1, 1));
            drop(first);
        });
    }
}

#[test]
fn a_higher_hello_ends_the_older_transport_by_name() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut first = Peer::enter(stage, way).await;
            let mut me = first.me.clone();
            me.attachment = 2;
            let mut second = Peer::enter_as(stage, Way::ALL[0], me).await;
            let end = first.end(stage).await;
            assert_eq!((end.code(), end.close.detail.attachment), ("superseded", Some(number(2))));
            second.check(stage).await;
        });
    }
}

#[test]
fn a_websocket_that_opens_and_says_nothing_is_ended_when_its_time_is_over() {
    play(Set::default(), async |stage| {
        let began = tokio::time::Instant::now();
        let mut ws = Ws::open(stage.wire().await, Encoding::Json).await;
        let ended = within("the end", ws.ended()).await;
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!((ended.close, ended.code), (None, Some(1000)));
    });
}

#[test]
fn a_body_that_is_no_hello_is_refused() {
    play(Set::default(), async |stage| {
        for body in [
            "",
            "\n",
            "[",
            "[]",
            "null",
            "[\"hello\"]",
            "[\"hello\",{}]",
            "[\"hello\",[]]",
            "[\"hello\",null]",
        ] {
            let answer = stage.ask(&Ask::post(Encoding::Json, body.into())).await;
            assert_eq!(answer.status(), 400, "{body:?}: {}", answer.text());
            assert_eq!(answer.close().unwrap().code, CloseCode::ProtocolError);
        }
        assert_eq!(stage.sessions(), 0);
    });
}

#[test]
fn lower_hellos_that_come_all_at_once_are_each_told() {
    for way in Way::ALL.into_iter().filter(|way| !matches!(way, Way::WebSocket(_))) {
        play(Set { places: 20, ..Set::default() }, async move |stage| {
            let mut peer = Peer::enter(stage, Way::ALL[0]).await;
            peer.me.attachment = 9;
            let mut peer = peer.resume(stage, Way::ALL[0]).await;
            let lower = Me { attachment: 3, ..peer.me.clone() };
            let hello = way.ask(encode(way.encoding(), &[lower.hello_frame(way.kind())])).bytes();
            let mut wires = Vec::new();
            for _ in 0..12 {
                wires.push(stage.wire().await);
            }
            for wire in &mut wires {
                wire.write(&hello).await;
            }
            for wire in &mut wires {
                let answer = within("an answer", wire.answer()).await.expect("an answer");
                assert_eq!(answer.status(), 409, "{way:?}: {}", answer.text());
            }
            peer.check(stage).await;
        });
    }
}
