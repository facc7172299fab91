//! Receipts and windows.

use super::*;

#[test]
fn a_receipt_waits_for_company_and_then_goes_by_itself() {
    let mut ends = Ends::met(WebSocket);
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(1));
    assert_eq!(lend(&mut ends.server, number(1)), []);
    assert_eq!(ends.server.poll_timeout(), Some(at(50)));
    ends.later(49);
    assert_eq!(lend(&mut ends.server, number(1)), []);
    ends.later(1);
    assert_eq!(lend(&mut ends.server, number(1)), [ack(1, 0)]);
    ends.later(100);
    assert_eq!(lend(&mut ends.server, number(1)), [], "told once");
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
