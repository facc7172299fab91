//! Receipts and windows.

use std::collections::BTreeSet;

use super::*;
use crate::session::inbox::Inbox;
use crate::session::{Moment, later};

#[test]
fn a_receipt_waits_for_company_and_then_goes_by_itself() {
    let mut ends = Ends::with(|_| {}, |server| *server = Config::default());
    ends.meet(WebSocket, Intent::Attach);
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(1));
    assert_eq!(lend(&mut ends.server, number(1)), []);
    let due = at(2000) - Duration::from_secs(2) / 1024;
    assert_eq!(ends.server.poll_timeout(), Some(due), "by the first byte of the id");
    ends.later(1998);
    assert_eq!(lend(&mut ends.server, number(1)), []);
    ends.later(1);
    assert_eq!(lend(&mut ends.server, number(1)), [ack(1, 0)]);
    ends.later(3000);
    assert_eq!(lend(&mut ends.server, number(1)), [], "told once");
}

#[test]
fn sessions_that_hear_the_same_tell_it_between_one_and_a_half_and_two_seconds() {
    let (config, one) = (Config::default(), Seq::ZERO.next().unwrap());
    let mut times = BTreeSet::new();
    for first in 0..=255 {
        let mut inbox = Inbox::new(config.window, 1);
        inbox.accept(one, 1, false, config.window);
        inbox.arm(Moment::BEGIN, config.ack_delays(SessionId::from_bytes([first; 16])));
        times.insert(inbox.due());
    }
    let after = |millis| Some(later(Moment::BEGIN, Duration::from_millis(millis)));
    assert_eq!(times.len(), 256);
    assert_eq!(times.last(), Some(&after(2000)));
    assert!(times.first() > Some(&after(1500)));
}

#[test]
fn a_receipt_that_is_about_more_than_a_little_waits_50_ms() {
    let heavy: [(u32, u64, u64); 2] = [(32, 1 << 20, 2), (256, 64, 1)];
    for (messages, bytes, count) in heavy {
        let mut ends = Ends::with(
            |_| {},
            |server| {
                *server = Config { window: Window { messages, bytes }, ..Config::default() };
            },
        );
        ends.meet(WebSocket, Intent::Attach);
        for value in 1..=count {
            assert_eq!(ends.server.poll_timeout().is_some_and(|due| due <= at(2000)), value > 1);
            ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(value));
        }
        assert_eq!(ends.server.poll_timeout(), Some(at(50)), "the shorter wait counts from when it is due");
        ends.later(50);
        assert_eq!(lend(&mut ends.server, number(1)), [ack(count, 0)]);
    }
}

#[test]
fn a_ping_is_answered_with_the_receipt() {
    let mut ends = Ends::met(WebSocket);
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(1));
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, Frame::Ping(None));
    assert_eq!(lend(&mut ends.server, number(1)), [Frame::Pong(None), ack(1, 0)]);
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, Frame::Ping(None));
    assert_eq!(lend(&mut ends.server, number(1)), [Frame::Pong(None)], "which is not said again");
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(2));
    assert_eq!(lend(&mut ends.server, number(1)), [], "and what comes later waits for company again");
}

#[test]
fn who_waits_for_a_receipt_asks_for_it_once() {
    let mut ends = Ends::met(WebSocket);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["msg"], "nobody waits");
    let ticket = ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.client.await_receipt(ticket);
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["msg", "ping"]);
    let later = ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.client.await_receipt(later);
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["msg"], "the first question is not answered yet");
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, ack(2, 2));
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["ping"]);
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, ack(3, 3));
    assert_eq!(lend(&mut ends.client, number(1)), []);
    assert_eq!(ends.client.acked_ticket(), later);
}

#[test]
fn a_question_that_was_lost_is_asked_again_on_the_next_attachment() {
    let mut ends = Ends::met(WebSocket);
    let ticket = ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.server.await_receipt(ticket);
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["msg", "ping"]);
    ends.client.handle_detach(ends.now, number(1));
    ends.server.handle_detach(ends.now, number(1));
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    ends.say_hello(attachment);
    assert_eq!(tags(&lend(&mut ends.server, attachment)), ["welcome", "msg", "ping"]);
}

#[test]
fn a_full_buffer_asks_where_the_window_does_not_fill_first() {
    let mut ends = Ends::with(|client| client.send_buffer = window(8), |_| {});
    ends.meet(WebSocket, Intent::Attach);
    for _ in 0..3 {
        ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    }
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["msg", "msg", "msg"]);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["msg", "ping"]);
}

#[test]
fn polls_and_the_answers_to_pushes_need_no_asking() {
    for kind in [Sse, LongPolling] {
        let mut ends = Ends::met(kind);
        let ticket = ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
        ends.client.await_receipt(ticket);
        assert!(!tags(&lend(&mut ends.client, number(1))).contains(&"ping"), "{kind}");
        let ticket = ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
        ends.server.await_receipt(ticket);
        let asked = tags(&lend(&mut ends.server, number(1))).contains(&"ping");
        assert_eq!(asked, kind == Sse, "{kind}");
    }
}

#[test]
fn a_receipt_rides_before_the_next_message() {
    let mut ends = Ends::met(WebSocket);
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(1));
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["ack", "msg"]);
    ends.later(100);
    assert_eq!(lend(&mut ends.server, number(1)), []);
}

#[test]
fn half_a_window_is_acknowledged_at_once() {
    let mut ends = Ends::with(|_| {}, |server| server.window = window(8));
    ends.meet(WebSocket, Intent::Attach);
    for value in 1..=3 {
        ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(value));
        assert_eq!(lend(&mut ends.server, number(1)), []);
    }
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(4));
    assert_eq!(lend(&mut ends.server, number(1)), [ack(4, 0)]);
}

#[test]
fn nothing_is_sent_beyond_the_window_and_what_was_taken_opens_it() {
    let mut ends = Ends::with(|_| {}, |server| server.window = window(2));
    ends.meet(WebSocket, Intent::Attach);
    for _ in 0..4 {
        ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    }
    assert_eq!(seqs(&ends.up(number(1), WebSocket)), [1, 2]);
    ends.later(60);
    ends.down(number(1));
    assert_eq!(ends.client.acked(), seq(2));
    assert_eq!(lend(&mut ends.client, number(1)), [], "received, and not taken");
    assert!(ends.server.is_pressing());
    ends.server.acknowledge(ends.now, 1);
    ends.later(60);
    ends.down(number(1));
    assert_eq!(seqs(&lend(&mut ends.client, number(1))), [3]);
}

#[test]
fn a_message_larger_than_the_window_goes_when_nothing_else_is_outstanding() {
    let small = Window { messages: 10, bytes: 4 };
    let mut ends = Ends::with(|_| {}, |server| server.window = small);
    ends.meet(WebSocket, Intent::Attach);
    for _ in 0..2 {
        ends.client.send(MessageKind::Plain, Body::from("large")).unwrap();
    }
    assert_eq!(seqs(&ends.up(number(1), WebSocket)), [1]);
    assert_eq!(delivered(&mut ends.server), [1]);
    ends.server.acknowledge(ends.now, 1);
    ends.later(60);
    ends.down(number(1));
    assert_eq!(seqs(&ends.up(number(1), WebSocket)), [2]);
}

#[test]
fn a_receipt_for_what_was_never_sent_ends_the_session() {
    for frame in [ack(1, 0), ack(0, 1)] {
        let mut ends = Ends::met(WebSocket);
        ends.server.handle_frame(ends.now, number(1), Via::Carrier, frame);
        assert_eq!(ended(&mut ends.server).unwrap().close.code, CloseCode::ProtocolError);
    }
}

#[test]
fn receipts_never_go_back() {
    let mut ends = Ends::met(WebSocket);
    ends.send_both(2);
    lend(&mut ends.server, number(1));
    for frame in [ack(2, 1), ack(1, 1), ack(0, 0)] {
        ends.server.handle_frame(ends.now, number(1), Via::Carrier, frame);
    }
    assert_eq!((ends.server.acked(), ends.server.held()), (seq(2), (0, 0)));
}

#[test]
fn what_a_candidate_was_told_is_told_the_carrier_too() {
    let mut ends = Ends::met(WebSocket);
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(1));
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(candidate);
    assert_eq!(tags(&lend(&mut ends.server, candidate)), ["welcome"]);
    ends.later(60);
    assert_eq!(lend(&mut ends.server, number(1)), [ack(1, 0)]);
}

#[test]
fn what_was_taken_is_not_told_by_the_answer_to_a_push_alone() {
    let mut ends = Ends::with(|_| {}, |server| server.window = window(1));
    ends.meet(Sse, Intent::Attach);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    for frame in lend(&mut ends.client, number(1)) {
        ends.server.handle_frame(ends.now, number(1), Via::Push, frame);
    }
    ends.server.acknowledge(ends.now, 1);
    // A repeat of the push, whose answer nobody hears.
    assert_eq!(Frame::Ack(ends.server.push_answer(number(1))), ack(1, 1));
    ends.later(60);
    assert_eq!(lend(&mut ends.server, number(1)), [ack(1, 1)]);
}

#[test]
fn the_answer_to_a_late_push_counts_as_told_to_nobody() {
    let mut ends = Ends::met(Sse);
    ends.meet(WebSocket, Intent::Attach);
    ends.server.handle_frame(ends.now, number(2), Via::Carrier, message(1));
    assert_eq!(Frame::Ack(ends.server.push_answer(number(1))), ack(1, 0));
    ends.later(60);
    assert_eq!(lend(&mut ends.server, number(2)), [ack(1, 0)]);
}

#[test]
fn after_a_move_the_receipt_is_said_again() {
    let mut ends = Ends::met(WebSocket);
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.down(number(1));
    let next = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(next);
    ends.down(next);
    assert_eq!(tags(&ends.up(next, WebSocket)), ["attach"]);
    ends.down(next);
    assert_eq!(tags(&lend(&mut ends.client, next)), ["ack"]);
}
