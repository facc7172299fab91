//! Much of what is allowed once: pieces are bounded as well as bytes, and a flood costs nobody but its sender.

use throughline::frame::{Attach, Encoding, Frame};
use tokio::time::Instant;

use super::me::{Me, ack, encode, seq};
use super::peer::{Peer, Way};
use super::stage::{Set, play, within};
use super::ws::{BINARY, CONTINUATION, Event, PING, PONG, TEXT, Ws, fragment};

const SOCKETS: [Way; 2] = [Way::WebSocket(Encoding::Json), Way::WebSocket(Encoding::Binary)];

#[test]
fn newlines_are_no_frames() {
    for way in Way::ALL.into_iter().filter(|way| way.encoding() == Encoding::Json) {
        play(Set::default(), async move |stage| {
            for count in [1, 2, 1000, 900_000] {
                let mut peer = Peer::enter(stage, way).await;
                let end = peer.offend(stage, &vec![b'\n'; count]).await;
                assert_eq!(end.code(), "protocol_error", "{way:?} {count}");
            }
        });
    }
}

#[test]
fn empty_batches_are_nothing() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let count = if peer.say_raw(stage, b"").await.is_some() { 200 } else { 20_000 };
            for _ in 0..count {
                peer.say_raw(stage, b"").await;
            }
            stage.check_bystander().await;
            peer.check(stage).await;
        });
    }
}

#[test]
fn a_websocket_message_in_endless_empty_fragments_ends_the_websocket_and_not_the_session() {
    for way in SOCKETS {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let opcode = peer.ws().opcode();
            peer.ws().wire.write(&fragment(opcode, false, b"")).await;
            // What stands between them is none of it.
            let pong = fragment(PONG, true, b"");
            let many = [fragment(CONTINUATION, false, b""), pong].concat().repeat(1000);
            let mut count = 0;
            while peer.ws().wire.write(&many).await {
                count += 1;
                assert!(count < 10_000, "no end of fragments");
            }
            let mut peer = peer.resume(stage, way).await;
            peer.check(stage).await;
        });
    }
}

#[test]
fn endless_fragments_before_hello_end_the_websocket() {
    play(Set::default(), async |stage| {
        let mut ws = Ws::open(stage.wire().await, Encoding::Json).await;
        ws.wire.write(&fragment(TEXT, false, b"")).await;
        let many = fragment(CONTINUATION, false, b"").repeat(1000);
        let began = Instant::now();
        while ws.wire.write(&many).await {}
        assert_eq!(began.elapsed().as_secs(), 0);
    });
}

#[test]
fn websocket_pings_and_pongs_in_any_number_cost_nothing() {
    for way in SOCKETS {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            for opcode in [PING, PONG] {
                let many = fragment(opcode, true, &[7; 125]).repeat(100);
                for _ in 0..200 {
                    // Read what comes meanwhile, or the pipe is full of pongs.
                    let mut rest = &many[..];
                    while !rest.is_empty() {
                        let part = rest.len().min(4096);
                        assert!(within("room", peer.ws().wire.write(&rest[..part])).await);
                        rest = &rest[part..];
                        drain(peer.ws()).await;
                    }
                }
            }
            peer.check(stage).await;
        });
    }
}

/// Takes what has come so far.
async fn drain(ws: &mut Ws) {
    tokio::task::yield_now().await;
    while let Ok(event) = tokio::time::timeout(std::time::Duration::ZERO, ws.event()).await {
        assert!(matches!(event, Event::Pong(_) | Event::Message(..)), "{event:?}");
    }
}

#[test]
fn of_many_pings_the_latest_is_answered() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            for round in 1..=20 {
                let pings: Vec<_> = (1..=1000).map(|index| Frame::Ping(Some(round * 1000 + index))).collect();
                peer.say(stage, &pings).await;
            }
            let mut pongs = 0;
            let hearing = async {
                loop {
                    match peer.try_frame(stage).await {
                        Ok(Frame::Pong(Some(21_000))) => return,
                        Ok(Frame::Pong(_)) => pongs += 1,
                        Ok(_) => {}
                        Err(code) => panic!("ended with {code:?}"),
                    }
                }
            };
            within("the pong to the latest", hearing).await;
            // Each batch is several turns of the driver at most.
            assert!(pongs <= 20 * 5, "{way:?}: {pongs}");
            peer.check(stage).await;
        });
    }
}

#[test]
fn tiny_frames_in_full_batches_are_taken_and_cost_nothing() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let kinds: [fn() -> Frame; 3] = [
                || ack(0, 0),
                || Frame::Pong(None),
                || Frame::Attach(Attach { received: seq(0), taken: None }),
            ];
            for kind in kinds {
                let batch = encode(way.encoding(), &vec![kind(); 1000]);
                for _ in 0..50 {
                    peer.say_raw(stage, &batch).await;
                }
            }
            stage.check_bystander().await;
            peer.check(stage).await;
        });
    }
}

#[test]
fn messages_beyond_the_window_end_the_session() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let mut flood: Vec<_> = vec![peer.me.message("sleep")];
            flood.extend((0..299).map(|_| peer.me.message("x")));
            let answer = peer.say(stage, &flood).await;
            let end = peer.end(stage).await;
            assert_eq!(end.code(), "protocol_error", "{way:?}");
            assert!(answer.is_none_or(|answer| answer.status() == 400));
        });
    }
}

#[test]
fn messages_beyond_the_window_behind_hello_end_the_session_too() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut me = Me::new();
            let mut frames = vec![me.hello_frame(way.kind()), me.message("sleep")];
            frames.extend((0..599).map(|_| me.message("x")));
            let end = match Peer::knock(stage, way, me, &frames).await {
                Err(end) => end,
                Ok(mut peer) => peer.end(stage).await,
            };
            assert_eq!(end.code(), "protocol_error", "{way:?}");
            // The handler may have taken the first.
            assert!((256..=257).contains(&end.close.detail.received.unwrap().value()), "{way:?}");
        });
    }
}

#[test]
fn a_third_candidate_ends_the_oldest_and_each_ends_in_time() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let mut candidates = Vec::new();
            for attachment in 2..=4 {
                let me = Me { attachment, ..peer.me.clone() };
                let mut hello = me.hello(SOCKETS[0].kind());
                hello.candidate = true;
                let hello = Frame::Hello(Box::new(hello));
                candidates.push(Peer::knock(stage, SOCKETS[0], me, &[hello]).await.expect("let in"));
            }
            let began = Instant::now();
            assert_eq!(candidates.remove(0).end(stage).await.code(), "superseded");
            assert_eq!(began.elapsed().as_secs(), 0);
            for mut candidate in candidates {
                let ending = async { while candidate.try_frame(stage).await.is_ok() {} };
                within("the end of a candidate", ending).await;
            }
            assert_eq!(began.elapsed().as_secs(), 15, "{way:?}");
            peer.check(stage).await;
            assert_eq!(stage.sessions(), 1);
        });
    }
}

#[test]
fn candidates_in_any_number_leave_two() {
    for way in [Way::ALL[0], Way::ALL[2], Way::ALL[5]] {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, Way::ALL[0]).await;
            let mut candidates = Vec::new();
            for attachment in 2..100 {
                let me = Me { attachment, ..peer.me.clone() };
                let mut hello = me.hello(way.kind());
                hello.candidate = true;
                let hello = Frame::Hello(Box::new(hello));
                candidates.push(Peer::knock(stage, way, me, &[hello]).await.expect("let in"));
            }
            stage.check_bystander().await;
            peer.check(stage).await;
            // The last can still be attached.
            let mut last = candidates.pop().unwrap();
            if way.kind() != throughline::TransportKind::LongPolling {
                last.say(stage, &[Frame::Attach(Attach { received: seq(peer.me.received), taken: None })])
                    .await;
            }
            (last.me.sent, last.me.received) = (peer.me.sent, peer.me.received);
            last.check(stage).await;
            assert_eq!((stage.sessions(), stage.started()), (1, 1));
        });
    }
}

#[test]
fn hellos_in_any_number_leave_one_transport() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let mut old = Vec::new();
            for attachment in 2..=100 {
                // Each second is the same as the one before.
                let me = Me { attachment: attachment / 2 + 1, ..peer.me.clone() };
                old.push(std::mem::replace(&mut peer, Peer::enter_as(stage, way, me).await));
            }
            for mut old in old {
                if old.way.kind() != throughline::TransportKind::LongPolling {
                    let ending = async { while old.try_frame(stage).await.is_ok() {} };
                    within("the end of an older transport", ending).await;
                }
            }
            peer.check(stage).await;
            assert_eq!((stage.sessions(), stage.started()), (1, 1));
        });
    }
}

#[test]
fn hellos_of_one_session_all_at_once_make_one_session() {
    play(Set { places: 200, ..Set::default() }, async |stage| {
        let me = Me::new();
        let mut wires = Vec::new();
        for index in 0..100 {
            let way = Way::ALL[2 + index % 5];
            let me = Me { attachment: 1 + (index as u64 * 7) % 31, ..me.clone() };
            let mut wire = stage.wire().await;
            wire.write(&way.ask(encode(way.encoding(), &[me.hello_frame(way.kind())])).bytes()).await;
            wires.push(wire);
        }
        for wire in &mut wires {
            let head = within("an answer", wire.head()).await.expect("an answer");
            assert!(matches!(head.status, 200 | 409 | 429), "{head:?}");
        }
        assert_eq!((stage.sessions(), stage.started()), (1, 1));
    });
}

#[test]
fn a_message_in_its_smallest_pieces_arrives() {
    for way in SOCKETS {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let frame = peer.me.message("x".repeat(2000));
            let batch = encode(way.encoding(), &[frame]);
            let opcode = if way.encoding() == Encoding::Json { TEXT } else { BINARY };
            for (index, byte) in batch.iter().enumerate() {
                let opcode = if index == 0 { opcode } else { CONTINUATION };
                let piece = fragment(opcode, index + 1 == batch.len(), &[*byte]);
                for byte in piece {
                    assert!(peer.ws().wire.write(&[byte]).await);
                }
            }
            assert_eq!(peer.hear(stage).await.len(), 2002);
        });
    }
}

#[test]
fn messages_numbered_right_and_sent_without_end_are_echoed_without_end() {
    for way in SOCKETS {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            for _ in 0..200 {
                let messages: Vec<_> = (0..50).map(|_| peer.me.message("x")).collect();
                peer.say(stage, &messages).await;
                for _ in 0..50 {
                    peer.hear(stage).await;
                }
                let received = peer.me.received;
                peer.say(stage, &[ack(received, received)]).await;
            }
            stage.check_bystander().await;
        });
    }
}
