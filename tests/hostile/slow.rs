//! Peers that take their time: each has a deadline, and holds nothing but its own place until then.

use std::time::Duration;

use throughline::CloseCode;
use throughline::frame::{Encoding, Frame};
use tokio::time::Instant;

use super::http::Ask;
use super::me::{Me, encode};
use super::peer::{Peer, Way};
use super::stage::{Set, play, within};
use super::ws::{BINARY, CONTINUATION, Event, PING, TEXT, Ws, fragment};

const DEADLINE: Duration = Duration::from_secs(3);

fn hurried() -> Set {
    Set::with(|builder| builder.hello_deadline(DEADLINE).body_deadline(DEADLINE))
}

/// So much of it, then nothing more.
fn beginnings(bytes: &[u8]) -> Vec<&[u8]> {
    [0, 1, 2, bytes.len() / 2, bytes.len() - 1].into_iter().filter_map(|end| bytes.get(..end)).collect()
}

#[test]
fn a_head_that_never_ends_is_the_hosts_affair_and_holds_no_place() {
    play(Set { places: 1, ..hurried() }, async |stage| {
        let mut wires = Vec::new();
        for _ in 0..20 {
            let mut wire = stage.wire().await;
            wire.write(b"POST /live HTTP/1.1\r\nhost: a\r\nx").await;
            wires.push(wire);
        }
        let mut peer = Peer::enter(stage, Way::Events).await;
        peer.check(stage).await;
        let began = Instant::now();
        for wire in &mut wires {
            within("the end of the connection", wire.ends()).await;
        }
        assert!(began.elapsed() <= Duration::from_secs(5));
    });
}

#[test]
fn a_body_that_stops_is_given_up_when_its_time_is_over() {
    play(hurried(), async |stage| {
        for encoding in [Encoding::Json, Encoding::Binary] {
            let me = Me::new();
            let way = Way::Polling(encoding);
            let ask = way.ask(encode(encoding, &[me.hello_frame(way.kind())]));
            for body in beginnings(&ask.body) {
                let began = Instant::now();
                let mut wire = stage.wire().await;
                wire.write(&[ask.head().as_bytes(), body].concat()).await;
                let answer = within("an answer", wire.answer()).await.expect("an answer");
                assert_eq!(began.elapsed(), DEADLINE);
                // Without a close: a slow network ends no session.
                assert_eq!((answer.status(), &answer.body[..]), (408, &b"the body took too long\n"[..]));
                within("the end", wire.ends()).await;
            }
        }
        assert_eq!(stage.sessions(), 0);
    });
}

#[test]
fn a_body_that_drips_is_given_up_when_its_time_is_over() {
    play(hurried(), async |stage| {
        for chunked in [false, true] {
            let mut ask = Ask::post(Encoding::Json, vec![b' '; 100].into());
            if chunked {
                ask = ask.header("transfer-encoding", "chunked");
            }
            let began = Instant::now();
            let mut wire = stage.wire().await;
            wire.write(ask.head().as_bytes()).await;
            let dripping = async {
                while wire.write(if chunked { b"1\r\n \r\n" } else { b" " }).await {
                    if tokio::time::timeout(Duration::from_millis(500), wire.fill()).await.is_ok() {
                        break;
                    }
                }
            };
            within("the end of dripping", dripping).await;
            assert_eq!(began.elapsed(), DEADLINE);
            assert_eq!(within("an answer", wire.answer()).await.expect("an answer").status(), 408);
        }
    });
}

#[test]
fn bodies_that_stop_take_all_places_and_give_them_back() {
    play(Set { places: 4, ..hurried() }, async |stage| {
        let mut peer = Peer::enter(stage, Way::Events).await;
        let began = Instant::now();
        let mut wires = Vec::new();
        for _ in 0..4 {
            let mut wire = stage.wire().await;
            wire.write(Ask::post(Encoding::Json, vec![b' '; 100].into()).head().as_bytes()).await;
            wires.push(wire);
        }
        tokio::time::sleep(DEADLINE / 10).await;
        let (me, way) = (Me::new(), Way::Events);
        let late = stage.ask(&way.ask(encode(Encoding::Json, &[me.hello_frame(way.kind())]))).await;
        assert_eq!((late.status(), late.close().unwrap().code.clone()), (429, CloseCode::Overloaded));
        assert!(late.head.get("retry-after").is_some());
        stage.check_bystander().await;
        // Who has a session goes on.
        peer.check(stage).await;
        for wire in &mut wires {
            assert_eq!(within("an answer", wire.answer()).await.unwrap().status(), 408);
        }
        assert_eq!(began.elapsed(), DEADLINE);
        Peer::enter(stage, Way::Events).await.check(stage).await;
    });
}

#[test]
fn what_is_large_may_take_longer() {
    play(hurried(), async |stage| {
        let mut peer = Peer::enter(stage, Way::Events).await;
        let message = peer.me.message("x".repeat(200 << 10));
        let body = encode(Encoding::Json, &[Frame::Push(Box::new(peer.me.push())), message]);
        let ask = Ask::post(Encoding::Json, body);
        let began = Instant::now();
        let mut wire = stage.wire().await;
        wire.write(ask.head().as_bytes()).await;
        // At 20 KiB/s.
        for piece in ask.body.chunks(4 << 10) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            wire.write(piece).await;
        }
        assert_eq!(within("an answer", wire.answer()).await.expect("an answer").status(), 200);
        assert!(began.elapsed() > 3 * DEADLINE);
    });
}

#[test]
fn a_hello_that_never_comes_by_websocket_is_waited_for_no_longer_than_the_deadline() {
    // What goes on meanwhile.
    let table: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("pings", &[0x89, 0x80, 1, 2, 3, 4]),
        ("empty text messages", &[0x81, 0x80, 1, 2, 3, 4]),
        ("empty binary messages", &[0x82, 0x80, 1, 2, 3, 4]),
        ("pongs", &[0x8a, 0x80, 1, 2, 3, 4]),
        ("empty fragments of one message", &[0x01, 0x80, 1, 2, 3, 4]),
    ];
    for (name, bytes) in table {
        play(hurried(), async move |stage| {
            let began = Instant::now();
            let mut ws = Ws::open(stage.wire().await, Encoding::Json).await;
            let mut bytes = bytes.to_vec();
            let mut seen = None;
            while began.elapsed() < DEADLINE * 2 {
                ws.wire.write(&bytes).await;
                if name.starts_with("empty fragments") {
                    bytes[0] = CONTINUATION;
                }
                match tokio::time::timeout(Duration::from_millis(100), ws.event()).await {
                    Ok(Event::Pong(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                    Err(_) => {}
                    Ok(other) => {
                        seen = Some((began.elapsed(), other));
                        break;
                    }
                }
            }
            let (when, what) = seen.unwrap_or_else(|| panic!("{name}: never told"));
            // In steps of what goes on meanwhile.
            assert!((3000..=3100).contains(&when.as_millis()), "{name}: {when:?} {what:?}");
            assert!(matches!(what, Event::Close(Some(1000))), "{name}: {what:?}");
            assert_eq!(stage.sessions(), 0);
        });
    }
}

#[test]
fn a_hello_that_stops_in_the_middle_is_waited_for_no_longer_than_the_deadline() {
    play(hurried(), async |stage| {
        for (encoding, opcode) in [(Encoding::Json, TEXT), (Encoding::Binary, BINARY)] {
            let me = Me::new();
            let hello = encode(encoding, &[me.hello_frame(Way::WebSocket(encoding).kind())]);
            for part in beginnings(&fragment(opcode, true, &hello)) {
                let began = Instant::now();
                let mut ws = Ws::open(stage.wire().await, Encoding::Json).await;
                ws.wire.write(part).await;
                let ended = within("the end", ws.ended()).await;
                assert_eq!((began.elapsed(), ended.close, ended.code), (DEADLINE, None, Some(1000)));
            }
        }
        assert_eq!(stage.sessions(), 0);
    });
}

#[test]
fn who_does_not_answer_the_close_is_left_alone_soon() {
    play(hurried(), async |stage| {
        // Refused, and neither reads nor answers: the place is free at once, the connection soon.
        let mut ws = Ws::open(stage.wire().await, Encoding::Json).await;
        ws.batch(b"[]").await;
        let began = Instant::now();
        within("the end", async { while !matches!(ws.event().await, Event::End) {} }).await;
        assert!(began.elapsed() <= Duration::from_secs(3), "{:?}", began.elapsed());
    });
}

#[test]
fn who_answers_no_ping_is_given_up_and_its_session_after_the_resume_window() {
    for way in Way::ALL.into_iter().filter(|way| !matches!(way, Way::Polling(_))) {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let began = Instant::now();
            // It reads and says nothing; the bystander answers.
            let silent = async { while peer.try_frame(stage).await.is_ok() {} };
            within("the end of the transport", silent).await;
            assert_eq!(began.elapsed().as_secs(), 30, "{way:?}");
            assert_eq!(stage.sessions(), 1);
            drop(peer);
            stage.until("the session is gone", |stage| stage.sessions() == 0).await;
            assert_eq!(began.elapsed().as_secs(), 150, "{way:?}");
        });
    }
}

#[test]
fn who_polls_no_more_is_given_up_and_its_session_after_the_resume_window() {
    play(Set::default(), async |stage| {
        let peer = Peer::enter(stage, Way::ALL[5]).await;
        let began = Instant::now();
        // A push says nothing about the way down.
        for _ in 0..20 {
            let mut push = encode(Encoding::Json, &[Frame::Push(Box::new(peer.me.push()))]).to_vec();
            push.extend_from_slice(b"\n[\"ping\"]");
            let answer = stage.ask(&Ask::post(Encoding::Json, push.into())).await;
            assert!(matches!(answer.status(), 200), "{}", answer.text());
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        stage.until("the session is gone", |stage| stage.sessions() == 0).await;
        assert_eq!(began.elapsed().as_secs(), 150);
    });
}

#[test]
fn pings_of_the_websocket_itself_are_answered_before_hello() {
    play(hurried(), async |stage| {
        let mut ws = Ws::open(stage.wire().await, Encoding::Json).await;
        ws.raw(PING, b"x").await;
        assert!(matches!(within("a pong", ws.event()).await, Event::Pong(payload) if payload == "x"));
    });
}
