//! Numbers that cannot be: of messages from the future, of receipts for what was never sent, of attachments.

use throughline::frame::{Attach, CloseDetail, Frame, MAX_NUMBER, Message, MessageKind};
use throughline::{Body, Close, CloseCode};

use super::me::{Me, ack, encode, message, number, seq};
use super::peer::{Peer, Way};
use super::stage::{Set, play};

#[test]
fn a_message_from_the_future_costs_the_transport_and_not_the_session() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            for ahead in [2, 3, MAX_NUMBER] {
                let mut peer = Peer::enter(stage, way).await;
                let answer = peer.say(stage, &[message(ahead, "future")]).await;
                match answer {
                    // Beside a stream it is only not taken: the push that began too late is repeated.
                    Some(answer) => {
                        assert_eq!((answer.status(), answer.frames()), (200, vec![ack(0, 0)]));
                    }
                    None => {
                        let ended = peer.ws().ended().await;
                        assert_eq!((ended.close, ended.code), (None, Some(1000)));
                    }
                }
                let mut peer = peer.resume(stage, way).await;
                peer.check(stage).await;
                let bye = Frame::Close(Close::new(CloseCode::Normal, ""));
                peer.offend(stage, &encode(way.encoding(), &[bye])).await;
            }
            assert_eq!(stage.started(), 3);
        });
    }
}

#[test]
fn a_repeated_message_is_received_once() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            for _ in 0..5 {
                peer.say(stage, &[message(1, "again"), message(1, "and again")]).await;
            }
            peer.me.sent = 1;
            assert_eq!(peer.hear(stage).await, "\"again\"");
            peer.check(stage).await;
        });
    }
}

#[test]
fn whatever_acknowledges_what_was_never_sent_ends_the_session() {
    let close = |received| {
        let detail = CloseDetail { received: Some(seq(received)), ..CloseDetail::default() };
        Frame::Close(Close::new(CloseCode::Normal, "").with_detail(detail))
    };
    let answer = |to, kind: fn(throughline::frame::Seq) -> MessageKind| {
        Frame::Message(Message { seq: seq(1), kind: kind(seq(to)), body: Body::from("answer") })
    };
    let lies = [
        ack(1, 0),
        ack(MAX_NUMBER, MAX_NUMBER),
        Frame::Attach(Attach { received: seq(1), taken: None }),
        close(1),
        close(MAX_NUMBER),
        answer(1, MessageKind::Reply),
        answer(MAX_NUMBER, MessageKind::Failure),
    ];
    for way in Way::ALL {
        let lies = lies.clone();
        play(Set::default(), async move |stage| {
            for lie in &lies {
                let mut peer = Peer::enter(stage, way).await;
                let end = peer.offend(stage, &encode(way.encoding(), std::slice::from_ref(lie))).await;
                assert_eq!(end.code(), "protocol_error", "{way:?} {lie:?}");
            }
        });
    }
}

#[test]
fn a_hello_that_acknowledges_what_was_never_sent_ends_the_session() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            // The first hello of a session, and a later one.
            let mut me = Me::new();
            me.received = 1;
            let hello = me.hello_frame(way.kind());
            let end = Peer::knock(stage, way, me, &[hello]).await.err().expect("a close");
            assert_eq!(end.code(), "protocol_error", "{way:?}");

            let mut me = Peer::enter(stage, way).await.me.clone();
            me.attachment = 2;
            me.received = MAX_NUMBER;
            let hello = me.hello_frame(way.kind());
            let end = Peer::knock(stage, way, me.clone(), &[hello]).await.err().expect("a close");
            assert_eq!(end.code(), "protocol_error", "{way:?}");
            // It is over for good, and whoever has the key is told how.
            me.received = 0;
            let hello = me.hello_frame(way.kind());
            let end = Peer::knock(stage, way, me, &[hello]).await.err().expect("a close");
            assert_eq!(end.code(), "protocol_error", "{way:?}");
        });
    }
}

#[test]
fn more_taken_than_received_is_refused_wherever_it_is_said() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let me = Me::new();
            let mut hello = me.hello(way.kind());
            hello.taken = Some(seq(1));
            let hello = Frame::Hello(Box::new(hello));
            let end = Peer::knock(stage, way, me, &[hello]).await.err().expect("a close");
            assert_eq!(end.code(), "protocol_error", "{way:?}");

            let mut peer = Peer::enter(stage, way).await;
            let attach = Frame::Attach(Attach { received: seq(0), taken: Some(seq(1)) });
            let end = peer.offend(stage, &encode(way.encoding(), &[attach])).await;
            assert_eq!(end.code(), "protocol_error", "{way:?}");
        });
    }
}

#[test]
fn a_poll_that_acknowledges_what_was_never_sent_ends_the_session() {
    play(Set::default(), async |stage| {
        for (received, taken) in [(1, None), (MAX_NUMBER, None), (0, Some(1))] {
            let way = Way::ALL[5];
            let peer = Peer::enter(stage, way).await;
            let mut poll = peer.me.poll(20_000);
            (poll.received, poll.taken) = (seq(received), taken.map(seq));
            let answer = stage.ask(&way.ask(encode(way.encoding(), &[Frame::Poll(Box::new(poll))]))).await;
            assert_eq!(answer.status(), 400, "{}", answer.text());
            assert_eq!(answer.close().unwrap().code, CloseCode::ProtocolError);
        }
    });
}

#[test]
fn the_last_attachment_number_works_and_0_is_none() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let mut peer = Peer::enter(stage, way).await;
            peer.me.attachment = MAX_NUMBER - 1;
            let mut peer = peer.resume(stage, way).await;
            peer.check(stage).await;
            for lower in [1, 2, MAX_NUMBER - 1] {
                let mut me = peer.me.clone();
                me.attachment = lower;
                let hello = me.hello_frame(way.kind());
                let end = Peer::knock(stage, way, me, &[hello]).await.err().expect("a close");
                assert_eq!(
                    (end.code(), end.close.detail.attachment),
                    ("superseded", Some(number(MAX_NUMBER)))
                );
            }
            peer.check(stage).await;
        });
    }
    play(Set::default(), async |stage| {
        for (from, to) in [
            ("\"attachment\":1", "\"attachment\":0"),
            ("\"attachment\":1", "\"attachment\":9007199254740992"),
        ] {
            for way in [Way::ALL[0], Way::ALL[2], Way::ALL[5]] {
                let me = Me::new();
                let hello = encode(way.encoding(), &[me.hello_frame(way.kind())]);
                let hello = String::from_utf8(hello.to_vec()).unwrap();
                assert!(hello.contains(from));
                let end = Peer::knock_raw(stage, way, me, hello.replace(from, to).into())
                    .await
                    .err()
                    .expect("a close");
                assert_eq!(end.code(), "protocol_error", "{way:?}");
            }
        }
        assert_eq!(stage.sessions(), 0);
    });
}
