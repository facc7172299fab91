//! Exactly at each limit: taken. One beyond: refused, typed.

use throughline::frame::{Encoding, Frame, Limits};

use super::http::Ask;
use super::me::{Me, encode, message};
use super::peer::{Peer, Way};
use super::stage::{Set, play, within};
use super::ws::Ws;

const LIMITS: Limits = Limits { max_message_bytes: 4096, max_batch_bytes: 12_000, max_batch_frames: 20 };

fn narrow() -> Set {
    Set::with(|builder| builder.limits(LIMITS))
}

/// A frame of an extension in so many bytes, so that a batch can have any size.
fn padding(encoding: Encoding, size: usize) -> Vec<u8> {
    match encoding {
        Encoding::Json => format!("[\"x-pad\",\"{}\"]", "a".repeat(size - 12)).into_bytes(),
        Encoding::Binary => {
            // A length of two bytes, a type, and the rest.
            let length = size - 2;
            assert!((128..16384).contains(&length));
            let mut frame = vec![(length & 0x7f) as u8 | 0x80, (length >> 7) as u8, 0x80];
            frame.resize(size, 0);
            frame
        }
    }
}

#[test]
fn the_largest_message_is_taken_and_one_byte_more_is_too_large() {
    for way in Way::ALL {
        play(narrow(), async move |stage| {
            for text in [false, true] {
                let body = |size: usize| -> throughline::Body {
                    // As text it stands between quotation marks.
                    if text { "x".repeat(size - 2).into() } else { vec![7; size].into() }
                };
                let mut peer = Peer::enter(stage, way).await;
                let largest = peer.me.message(body(4096));
                peer.say(stage, &[largest]).await;
                assert_eq!(peer.hear(stage).await.len(), 4096, "{way:?}");
                let larger = encode(way.encoding(), &[peer.me.message(body(4097))]);
                assert_eq!(peer.offend(stage, &larger).await.code(), "too_large", "{way:?}");
            }
        });
    }
}

#[test]
fn the_largest_batch_is_taken_and_one_byte_more_is_too_large() {
    for way in Way::ALL {
        play(narrow(), async move |stage| {
            let encoding = way.encoding();
            let mut peer = Peer::enter(stage, way).await;
            let around = match way {
                Way::WebSocket(_) => 0,
                // The push and, in JSON, a newline.
                _ => {
                    let push = encode(encoding, &[Frame::Push(Box::new(peer.me.push()))]).len();
                    push + usize::from(encoding == Encoding::Json)
                }
            };
            let fitting = padding(encoding, LIMITS.max_batch_bytes - around);
            if let Some(answer) = peer.say_raw(stage, &fitting).await {
                assert_eq!(answer.status(), 200, "{}", answer.text());
            }
            peer.check(stage).await;
            let larger = padding(encoding, LIMITS.max_batch_bytes - around + 1);
            if around == 0 {
                let end = peer.offend(stage, &larger).await;
                assert_eq!(end.code(), "too_large", "{way:?}");
            } else {
                // A body is refused before anybody looks what is in it: the session has nothing to do with it.
                let answer = peer.say_raw(stage, &larger).await.unwrap();
                assert_eq!((answer.status(), answer.close().unwrap().code.as_str()), (413, "too_large"));
                peer.check(stage).await;
            }
        });
    }
}

#[test]
fn as_many_frames_as_allowed_are_taken_and_one_more_is_too_many() {
    for way in Way::ALL {
        play(narrow(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let most = LIMITS.max_batch_frames - usize::from(!matches!(way, Way::WebSocket(_)));
            let extension = if way.encoding() == Encoding::Json { &b"[\"x-a\"]"[..] } else { &[1, 0x80] };
            let joint: &[u8] = if way.encoding() == Encoding::Json { b"\n" } else { b"" };
            for frame in [&encode(way.encoding(), &[Frame::Ping(None)])[..], extension] {
                if let Some(answer) = peer.say_raw(stage, &vec![frame; most].join(joint)).await {
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                }
                peer.check(stage).await;
                let end = peer.offend(stage, &vec![frame; most + 1].join(joint)).await;
                assert_eq!(end.code(), "too_large", "{way:?}");
                peer = Peer::enter(stage, way).await;
            }
        });
    }
}

#[test]
fn what_comes_behind_hello_has_the_same_limits() {
    for way in Way::ALL {
        play(narrow(), async move |stage| {
            let me = Me::new();
            let hello = me.hello_frame(way.kind());
            let mut frames = vec![hello.clone()];
            frames.resize(LIMITS.max_batch_frames, Frame::Ping(None));
            Peer::knock(stage, way, me, &frames).await.expect("let in").check(stage).await;

            let too_many = |me: &Me| {
                let mut frames = vec![me.hello_frame(way.kind())];
                frames.resize(LIMITS.max_batch_frames + 1, Frame::Ping(None));
                frames
            };
            let too_large = |me: &Me| vec![me.hello_frame(way.kind()), message(1, vec![7; 4097])];
            for batch in [too_many(&Me::new()), too_large(&Me::new())] {
                let Frame::Hello(hello) = &batch[0] else { unreachable!() };
                let me = Me { id: hello.session, key: hello.key.clone(), ..Me::new() };
                let end = match Peer::knock(stage, way, me, &batch).await {
                    Err(end) => end,
                    Ok(mut peer) => peer.end(stage).await,
                };
                assert_eq!(end.code(), "too_large", "{way:?}");
            }
        });
    }
}

#[test]
fn lengths_that_are_lies_are_believed_by_nobody() {
    play(narrow(), async |stage| {
        // A body that claims to be huge is refused at once; in chunks, when it has become too large.
        for length in ["12001", "1000000000000", "18446744073709551615"] {
            let mut wire = stage.wire().await;
            let ask = Ask::post(Encoding::Json, "x".into()).header("content-length", length);
            wire.write(&ask.bytes()).await;
            let answer = within("an answer", wire.answer()).await.expect("an answer");
            assert!(matches!(answer.status(), 413 | 400 | 431), "{}", answer.text());
        }
        let mut wire = stage.wire().await;
        let ask = Ask::post(Encoding::Json, Default::default()).header("transfer-encoding", "chunked");
        wire.write(ask.head().as_bytes()).await;
        let chunk = format!("{:x}\r\n{}\r\n", 6000, " ".repeat(6000));
        wire.write(chunk.repeat(2).as_bytes()).await;
        wire.write(b"1\r\n \r\n").await;
        let answer = within("an answer", wire.answer()).await.expect("an answer");
        assert_eq!((answer.status(), answer.close().unwrap().code.as_str()), (413, "too_large"));

        // So is a WebSocket frame.
        for length in [12_001_u64, 1 << 40, (1 << 63) - 1] {
            let mut peer = Peer::enter(stage, Way::ALL[0]).await;
            let mut frame = vec![0x81, 0x80 | 127];
            frame.extend_from_slice(&length.to_be_bytes());
            frame.extend_from_slice(&[1, 2, 3, 4]);
            peer.ws().wire.write(&frame).await;
            assert_eq!(peer.end(stage).await.code(), "too_large", "{length}");
        }
        // And a WebSocket message in fragments.
        let mut peer = Peer::enter(stage, Way::ALL[1]).await;
        for index in 0..3 {
            let opcode = if index == 0 { super::ws::BINARY } else { super::ws::CONTINUATION };
            peer.ws().wire.write(&super::ws::fragment(opcode, false, &[0x80; 4001])).await;
        }
        assert_eq!(peer.end(stage).await.code(), "too_large");
    });
}

#[test]
fn heads_and_targets_have_the_hosts_limits() {
    play(Set::default(), async |stage| {
        // `http` takes targets of 65,534 bytes; hyper a hundred headers.
        let target = |size: usize| format!("/live?{}", "x".repeat(size - 6));
        assert_eq!(stage.ask(&Ask::new("GET").target(target(60_000))).await.status(), 200);
        assert_eq!(stage.ask(&Ask::new("GET").target(target(65_534))).await.status(), 200);
        assert_eq!(stage.ask(&Ask::new("GET").target(target(65_535))).await.status(), 414);
        let many = |count: usize| {
            let mut ask = Ask::new("GET");
            ask.headers.extend((1..count).map(|index| (format!("x-{index}"), "y".to_owned())));
            ask
        };
        assert_eq!(stage.ask(&many(100)).await.status(), 200);
        assert_eq!(stage.ask(&many(101)).await.status(), 431);
        let large = Ask::new("GET").header("x", &"y".repeat(1 << 20));
        assert_eq!(stage.ask(&large).await.status(), 431);
    });
}

#[test]
fn an_identity_of_another_length_is_none() {
    play(Set::default(), async |stage| {
        let me = Me::new();
        let hello = encode(Encoding::Json, &[me.hello_frame(Way::ALL[0].kind())]);
        let hello = String::from_utf8(hello.to_vec()).unwrap();
        let id = me.id.to_string();
        for wrong in ["", &id[1..], &format!("{id}A"), &format!("{id}=="), &"A".repeat(10_000)] {
            let mut ws = Ws::open(stage.wire().await, Encoding::Json).await;
            ws.batch(hello.replace(&id, wrong).as_bytes()).await;
            assert_eq!(within("the end", ws.ended()).await.code, Some(4400));
        }
        assert_eq!(stage.sessions(), 0);
    });
}
