//! The same over TCP, where the kernel has buffers of its own and connections can be reset.

use std::time::Duration;

use throughline::frame::{Encoding, Window};

use super::http::{Ask, Wire};
use super::me::{Me, encode, message};
use super::peer::{Peer, Way};
use super::stage::{Set, play, within};
use super::ws::{CONTINUATION, Ws, fragment};

#[test]
fn offences_are_answered_typed_over_tcp_too() {
    play(Set::default().tcp(), async |stage| {
        for way in Way::ALL {
            let mut peer = Peer::enter(stage, way).await;
            peer.check(stage).await;
            let (nothing, huge) = match way.encoding() {
                Encoding::Json => (&b"[]"[..], message(1, "x".repeat(600_000))),
                Encoding::Binary => (&[5, 8][..], message(1, vec![7; 600_000])),
            };
            assert_eq!(peer.offend(stage, nothing).await.code(), "protocol_error", "{way:?}");
            let mut peer = Peer::enter(stage, way).await;
            let end = peer.offend(stage, &encode(way.encoding(), &[huge])).await;
            assert_eq!(end.code(), "too_large", "{way:?}");
            stage.check_bystander().await;
        }
    });
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent_whole() {
    play(Set::default().tcp(), async |stage| {
        let ask = Ask::post(Encoding::Json, vec![b' '; 4 << 20].into());
        let mut wire = stage.wire().await;
        wire.write(ask.head().as_bytes()).await;
        let answer = within("an answer", wire.answer()).await.expect("an answer");
        assert_eq!((answer.status(), answer.close().unwrap().code.as_str()), (413, "too_large"));
    });
}

#[test]
fn endless_fragments_end_the_websocket_over_tcp_too() {
    play(Set::default().tcp(), async |stage| {
        let mut ws = Ws::open(stage.wire().await, Encoding::Binary).await;
        ws.say(&[Me::new().hello_frame(Way::ALL[1].kind())]).await;
        ws.wire.write(&fragment(2, false, b"")).await;
        let many = fragment(CONTINUATION, false, b"").repeat(1000);
        let flooding = async { while ws.wire.write(&many).await {} };
        within("the end of fragments", flooding).await;
    });
}

#[test]
fn who_never_reads_over_tcp_is_ended_for_slowness() {
    for way in [Way::ALL[0], Way::ALL[2], Way::ALL[3]] {
        let set = Set::with(|builder| {
            let bound = Window { messages: 1024, bytes: 1 << 20 };
            builder.send_buffer(bound).send_patience(Duration::from_millis(300))
        });
        play(set.tcp(), async move |stage| {
            let me = Me::new();
            // A small window in the kernel, so that it is soon full.
            let mut wire = Wire::new(Box::new(stage.stream().await));
            let frames = [me.hello_frame(way.kind()), message(1, "flood 1000 60000")];
            if let Way::WebSocket(encoding) = way {
                let mut ws = Ws::open(wire, encoding).await;
                ws.say(&frames).await;
                wire = ws.wire;
            } else {
                wire.write(&way.ask(encode(way.encoding(), &frames)).bytes()).await;
            }
            stage.until("the session is there", |stage| stage.started() == 1).await;
            stage.until("and gone", |stage| stage.sessions() == 0).await;
            drop(wire);
        });
    }
}

#[test]
fn vanishing_with_a_reset_leaves_nothing_either() {
    for way in [Way::ALL[0], Way::ALL[2], Way::ALL[5]] {
        play(Set::default().tcp(), async move |stage| {
            for reset in [true, false] {
                let stream = stage.stream().await;
                if reset {
                    // Closing it resets it.
                    stream.set_zero_linger().unwrap();
                }
                let me = Me::new();
                let frames = [me.hello_frame(way.kind()), message(1, "flood 100 10000")];
                let mut wire = Wire::new(Box::new(stream));
                if let Way::WebSocket(encoding) = way {
                    let mut ws = Ws::open(wire, encoding).await;
                    ws.say(&frames).await;
                    within("a welcome", ws.try_frame()).await.expect("a welcome");
                    continue;
                }
                wire.write(&way.ask(encode(way.encoding(), &frames)).bytes()).await;
                within("an answer", wire.head()).await.expect("an answer");
            }
            stage.check_bystander().await;
        });
    }
}
