//! Clients that vanish, at each step: what they leave behind is gone when its time is over, and nothing before.

use std::time::Duration;

use throughline::CloseCode;
use throughline::frame::{Attach, Encoding, Frame};
use tokio::time::Instant;

use super::http::Wire;
use super::me::{Me, ack, encode, seq};
use super::peer::{Peer, Way};
use super::stage::{Set, play, within};
use super::ws::{Ws, upgrade};

/// Dropped after each byte, or nearly, of a request that makes a session.
#[test]
fn after_any_byte_of_a_request() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let me = Me::new();
            let bytes = match way {
                Way::WebSocket(_) => {
                    let hello = encode(way.encoding(), &[me.hello_frame(way.kind())]);
                    let opcode = if way.encoding() == Encoding::Json { 1 } else { 2 };
                    [upgrade().bytes(), super::ws::fragment(opcode, true, &hello)].concat()
                }
                _ => way.ask(encode(way.encoding(), &[me.hello_frame(way.kind())])).bytes(),
            };
            for end in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
                let mut wire = stage.wire().await;
                assert!(wire.write(&bytes[..end]).await);
                tokio::task::yield_now().await;
                drop(wire);
            }
            assert_eq!((stage.sessions(), stage.started()), (0, 0), "{way:?}");
            stage.check_bystander().await;
        });
    }
}

#[test]
fn right_behind_hello_the_session_lives_as_long_as_the_resume_window() {
    for way in Way::ALL {
        let set = Set::with(|builder| builder.resume_window(Duration::from_secs(60)));
        play(set, async move |stage| {
            let mut wire = stage.wire().await;
            let me = Me::new();
            if let Way::WebSocket(encoding) = way {
                let mut ws = Ws::open(wire, encoding).await;
                ws.say(&[me.hello_frame(way.kind())]).await;
                drop(ws);
            } else {
                wire.write(&way.ask(encode(way.encoding(), &[me.hello_frame(way.kind())])).bytes()).await;
                // Earlier hyper may see it go before the service has seen it come.
                assert!(within("the beginning of an answer", wire.fill()).await);
                drop(wire);
            }
            let began = Instant::now();
            stage.until("the session is there", |stage| stage.sessions() == 1).await;
            stage.until("and gone", |stage| stage.sessions() == 0).await;
            // A poll that does not come is waited for first.
            let grace = if way.kind() == throughline::TransportKind::LongPolling { 30 } else { 0 };
            assert_eq!(began.elapsed().as_secs(), 60 + grace, "{way:?}");
        });
    }
}

#[test]
fn whoever_comes_back_in_time_finds_its_session_and_whoever_is_late_does_not() {
    for way in Way::ALL {
        let set = Set::with(|builder| builder.resume_window(Duration::from_secs(60)));
        play(set, async move |stage| {
            let mut peer = Peer::enter(stage, Way::ALL[0]).await;
            let message = peer.me.message("kept");
            peer.say(stage, &[message]).await;
            let mut me = peer.me.clone();
            drop(peer);
            tokio::time::sleep(Duration::from_secs(59)).await;
            me.attachment = 2;
            let mut peer = Peer::enter_as(stage, way, me).await;
            assert_eq!(peer.hear(stage).await, "\"kept\"");
            peer.check(stage).await;
            let mut me = peer.me.clone();
            drop(peer);
            tokio::time::sleep(Duration::from_secs(91)).await;
            me.attachment = 3;
            let hello = me.hello_frame(way.kind());
            let end = Peer::knock(stage, way, me, &[hello]).await.err().expect("a close");
            assert_eq!((end.code(), end.status), ("timed_out", 408));
            assert_eq!(stage.started(), 1);
        });
    }
}

/// A step of a session at which its client vanishes.
const STEPS: [&str; 7] = ["welcomed", "said", "heard", "poll open", "candidate", "attached", "closing"];

#[test]
fn at_any_step_nothing_is_left_after_the_resume_window() {
    for way in Way::ALL {
        for step in STEPS {
            play(Set::default(), async move |stage| {
                let mut peer = Peer::enter(stage, way).await;
                let mut kept: Vec<Wire> = Vec::new();
                let mut others = Vec::new();
                match step {
                    "said" => drop(
                        peer.say_raw(stage, &encode(way.encoding(), &[super::me::message(1, "x")])).await,
                    ),
                    "heard" => peer.check(stage).await,
                    "poll open" if matches!(way, Way::Polling(_)) => {
                        let poll = Frame::Poll(Box::new(peer.me.poll(20_000)));
                        let mut wire = stage.wire().await;
                        wire.write(&way.ask(encode(way.encoding(), &[poll])).bytes()).await;
                        kept.push(wire);
                    }
                    "candidate" | "attached" => {
                        let me = Me { attachment: 2, ..peer.me.clone() };
                        let mut hello = me.hello(Way::ALL[0].kind());
                        hello.candidate = true;
                        let hello = Frame::Hello(Box::new(hello));
                        let mut other = Peer::knock(stage, Way::ALL[0], me, &[hello]).await.expect("let in");
                        if step == "attached" {
                            other
                                .say(stage, &[Frame::Attach(Attach { received: seq(0), taken: None })])
                                .await;
                            let acked = other.ws().hear(|frame| (frame == ack(0, 0)).then_some(()));
                            within("the answer to attach", acked).await;
                        }
                        others.push(other);
                    }
                    "closing" => {
                        let leave = peer.me.message("leave");
                        peer.say(stage, &[leave]).await;
                    }
                    _ => {}
                }
                tokio::task::yield_now().await;
                drop((peer, kept, others));
                // The rest of the play sees to it that all counters come to zero.
                let began = Instant::now();
                stage.until("the session is gone", |stage| stage.sessions() == 0).await;
                assert!(began.elapsed() <= Duration::from_secs(151), "{way:?} {step}: {:?}", began.elapsed());
            });
        }
    }
}

#[test]
fn in_the_middle_of_what_it_is_sent() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let flood = peer.me.message("flood 500 2000");
            peer.say(stage, &[flood]).await;
            if !matches!(way, Way::Polling(_)) {
                // Some of it has come, and much of it waits.
                within("a part", peer.wire().fill()).await;
            }
            let me = peer.me.clone();
            drop(peer);
            stage.check_bystander().await;
            // All of it is still there.
            let mut peer = Peer::enter_as(stage, Way::ALL[1], Me { attachment: 2, ..me }).await;
            for index in 1..=500 {
                assert_eq!(peer.hear(stage).await.len(), 2000);
                if index % 16 == 0 {
                    peer.say(stage, &[ack(index, index)]).await;
                }
            }
        });
    }
}

#[test]
fn thousands_come_and_vanish_and_nothing_is_left() {
    let set = Set::with(|builder| builder.resume_window(Duration::from_secs(5)).max_sessions(300));
    play(set, async |stage| {
        let mut refused = 0;
        for index in 0..3000 {
            let way = Way::ALL[index % Way::ALL.len()];
            let me = Me::new();
            let hello = me.hello_frame(way.kind());
            match Peer::knock(stage, way, me, &[hello]).await {
                Ok(peer) => drop(peer),
                Err(end) => {
                    assert_eq!(end.close.code, CloseCode::Overloaded);
                    refused += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            assert!(stage.server.sessions() <= 300);
        }
        assert!(refused > 0);
    });
}
