//! Polls and pushes out of their place, too many of them, and against each other.

use throughline::frame::{Encoding, Frame};
use throughline::{Close, CloseCode};

use super::http::{Answer, Ask, Wire};
use super::me::{Me, ack, encode, message};
use super::peer::{Peer, Way};
use super::stage::{Set, Stage, play, within};

const POLLING: [Way; 2] = [Way::Polling(Encoding::Json), Way::Polling(Encoding::Binary)];

fn poll(me: &Me, way: Way, hold_ms: u64) -> Ask {
    way.ask(encode(way.encoding(), &[Frame::Poll(Box::new(me.poll(hold_ms)))]))
}

fn push(me: &Me, encoding: Encoding, frames: &[Frame]) -> Ask {
    Ask::frames(encoding, &[&[Frame::Push(Box::new(me.push()))], frames].concat())
}

/// Polls and leaves the answer for later.
async fn begin_poll(stage: &Stage, me: &Me, way: Way) -> Wire {
    let mut wire = stage.wire().await;
    assert!(wire.write(&poll(me, way, 20_000).bytes()).await);
    wire
}

async fn answered(wire: &mut Wire) -> Answer {
    within("the answer to a poll", wire.answer()).await.expect("an answer")
}

#[test]
fn of_two_polls_the_newer_wins_and_the_older_ends_empty() {
    for way in POLLING {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let mut older = begin_poll(stage, &peer.me, way).await;
            let mut newer = begin_poll(stage, &peer.me, way).await;
            let first = answered(&mut older).await;
            assert_eq!((first.status(), first.frames()), (200, vec![]));
            let hello = peer.me.message("to the newer");
            peer.say(stage, &[hello]).await;
            let frames = answered(&mut newer).await.frames();
            assert!(frames.iter().any(|frame| matches!(frame, Frame::Message(_))), "{frames:?}");
        });
    }
}

#[test]
fn of_many_polls_at_once_one_stays_open() {
    play(Set::default(), async |stage| {
        let way = POLLING[0];
        let mut peer = Peer::enter(stage, way).await;
        let mut wires = Vec::new();
        for _ in 0..100 {
            wires.push(begin_poll(stage, &peer.me, way).await);
        }
        let mut last = wires.pop().unwrap();
        for wire in &mut wires {
            let answer = answered(wire).await;
            // Beyond what waits for one session at once a poll is turned away, typed.
            assert!(matches!(answer.status(), 200 | 429), "{}", answer.text());
        }
        let hello = peer.me.message("to the last");
        peer.say(stage, &[hello]).await;
        let came = answered(&mut last).await.frames();
        assert!(!came.is_empty());
        if !came.iter().any(|frame| matches!(frame, Frame::Message(_))) {
            assert_eq!(peer.hear(stage).await, "\"to the last\"");
        } else {
            peer.me.received = 1;
        }
        peer.check(stage).await;
    });
}

#[test]
fn many_pushes_at_once_are_answered_or_turned_away_and_lose_nothing() {
    play(Set { places: 100, ..Set::default() }, async |stage| {
        let way = POLLING[0];
        let mut peer = Peer::enter(stage, way).await;
        let body = push(&peer.me, Encoding::Json, &[message(1, "echo")]);
        let mut wires = Vec::new();
        for _ in 0..60 {
            let mut wire = stage.wire().await;
            wire.write(&body.bytes()).await;
            wires.push(wire);
        }
        let mut statuses = Vec::new();
        for wire in &mut wires {
            let answer = answered(wire).await;
            statuses.push(answer.status());
            match answer.status() {
                200 => assert_eq!(answer.frames()[0], ack(1, answer_taken(&answer))),
                429 => assert!(answer.head.get("retry-after").is_some()),
                _ => panic!("{}", answer.text()),
            }
        }
        assert!(statuses.contains(&200), "{statuses:?}");
        peer.me.sent = 1;
        assert_eq!(peer.hear(stage).await, "\"echo\"");
        peer.check(stage).await;
    });
}

fn answer_taken(answer: &Answer) -> u64 {
    match answer.frames()[0] {
        Frame::Ack(ack) => ack.taken.value(),
        _ => panic!("no ack"),
    }
}

#[test]
fn a_poll_for_an_attachment_that_does_not_poll_is_refused_and_harms_nothing() {
    for way in Way::ALL.into_iter().filter(|way| !POLLING.contains(way)) {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let answer = stage.ask(&poll(&peer.me, POLLING[0], 20_000)).await;
            assert_eq!(answer.status(), 406, "{}", answer.text());
            assert_eq!(answer.close().unwrap().code, CloseCode::NotAcceptable);
            peer.check(stage).await;
        });
    }
}

#[test]
fn a_poll_of_a_number_never_introduced_is_told_to_say_hello() {
    for way in POLLING {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let mut other = peer.me.clone();
            other.attachment = 7;
            let answer = stage.ask(&poll(&other, way, 20_000)).await;
            assert_eq!((answer.status(), answer.close().unwrap().code.clone()), (421, CloseCode::Moved));
            peer.check(stage).await;
        });
    }
}

#[test]
fn lower_polls_are_superseded_and_lower_pushes_are_judged_by_their_messages() {
    for way in POLLING {
        play(Set::default(), async move |stage| {
            let peer = Peer::enter(stage, way).await;
            let lower = peer.me.clone();
            let mut peer = peer.resume(stage, way).await;
            let answer = stage.ask(&poll(&lower, way, 20_000)).await;
            assert_eq!((answer.status(), answer.close().unwrap().code.clone()), (409, CloseCode::Superseded));
            let late = push(&lower, way.encoding(), &[message(1, "late"), Frame::Ping(Some(5))]);
            let answer = stage.ask(&late).await;
            assert_eq!(answer.status(), 200);
            assert!(matches!(&answer.frames()[..], [Frame::Ack(ack)] if ack.received.value() == 1));
            peer.me.sent = 1;
            assert_eq!(peer.hear(stage).await, "\"late\"");
            peer.check(stage).await;
        });
    }
}

#[test]
fn a_poll_stands_alone() {
    for way in POLLING {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let frames = [Frame::Poll(Box::new(peer.me.poll(20_000))), message(1, "behind")];
            let answer = stage.ask(&way.ask(encode(way.encoding(), &frames))).await;
            assert_eq!(
                (answer.status(), answer.close().unwrap().code.clone()),
                (400, CloseCode::ProtocolError)
            );
            peer.check(stage).await;
        });
    }
}

#[test]
fn after_a_close_in_a_push_nothing_behind_it_counts() {
    for way in Way::ALL.into_iter().filter(|way| !matches!(way, Way::WebSocket(_))) {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            let bye = Frame::Close(Close::new(CloseCode::Normal, "bye"));
            let frames = [
                message(1, "one"),
                bye,
                message(2, "two"),
                Frame::Hello(Box::new(peer.me.hello(way.kind()))),
            ];
            let answer = peer.say(stage, &frames).await.unwrap();
            let close = answer.close().expect("a close");
            assert_eq!(
                (close.code.as_str(), close.detail.received.map(|seq| seq.value())),
                ("normal", Some(1))
            );
            assert_eq!(answer.status(), 410);
            // What still comes is told the same.
            for frames in [vec![message(2, "two")], vec![]] {
                let answer = peer.say(stage, &frames).await.unwrap();
                assert_eq!((answer.status(), answer.close().unwrap().code.clone()), (410, CloseCode::Normal));
            }
        });
    }
}

#[test]
fn polls_of_no_length_are_answered_at_once_for_ever() {
    play(Set::default(), async |stage| {
        let way = POLLING[0];
        let mut peer = Peer::enter(stage, way).await;
        let began = tokio::time::Instant::now();
        let mut wire = stage.wire().await;
        for _ in 0..500 {
            let answer = wire.ask(&poll(&peer.me, way, 0)).await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        assert_eq!(began.elapsed().as_secs(), 0);
        peer.check(stage).await;
    });
}

#[test]
fn a_hold_of_any_length_is_capped() {
    play(Set::default(), async |stage| {
        let way = POLLING[0];
        let peer = Peer::enter(stage, way).await;
        let began = tokio::time::Instant::now();
        let answer = stage.ask(&poll(&peer.me, way, throughline::frame::MAX_NUMBER)).await;
        assert_eq!((answer.status(), began.elapsed().as_secs()), (200, 25));
    });
}

#[test]
fn frames_that_do_not_push_are_refused_in_a_push() {
    for way in POLLING {
        play(Set::default(), async move |stage| {
            for inner in 0..3 {
                let mut peer = Peer::enter(stage, way).await;
                let frame = match inner {
                    0 => Frame::Push(Box::new(peer.me.push())),
                    1 => Frame::Poll(Box::new(peer.me.poll(0))),
                    _ => peer.me.hello_frame(way.kind()),
                };
                let end = peer.offend(stage, &encode(way.encoding(), &[frame])).await;
                assert_eq!(end.code(), "protocol_error");
            }
        });
    }
}
