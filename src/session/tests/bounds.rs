//! Bounds: what a flood cannot do.

use super::*;

#[test]
fn the_send_buffer_is_bounded_in_messages_and_bytes() {
    let mut ends = Ends::with(|client| client.send_buffer = Window { messages: 3, bytes: 10 }, |_| {});
    ends.client.send(MessageKind::Plain, Body::from(vec![0; 20])).expect("one always fits");
    assert_eq!(ends.client.send(MessageKind::Plain, Body::from(vec![])), Err(SendError::Full));
    let mut ends = Ends::with(|client| client.send_buffer = Window { messages: 3, bytes: 10 }, |_| {});
    for _ in 0..3 {
        ends.client.send(MessageKind::Plain, Body::from(vec![0])).unwrap();
    }
    assert_eq!(ends.client.send(MessageKind::Plain, Body::from(vec![0])), Err(SendError::Full));
    assert_eq!(ends.client.held(), (3, 3));
}

#[test]
fn a_message_larger_than_the_peer_takes_is_refused_at_send() {
    let mut ends = Ends::with(|_| {}, |server| server.limits.max_message_bytes = 10);
    ends.meet(WebSocket, Intent::Attach);
    let refused = ends.client.send(MessageKind::Plain, Body::from(vec![0; 11]));
    assert_eq!(refused, Err(SendError::TooLarge { limit: 10 }));
    assert_eq!(ends.client.max_message_bytes(), 10);
}

#[test]
fn a_message_larger_than_allowed_ends_the_session() {
    let mut ends = Ends::with(|_| {}, |server| server.limits.max_message_bytes = 10);
    ends.meet(WebSocket, Intent::Attach);
    let body = Body::from(vec![0; 11]);
    let large = Frame::Message(Message { seq: seq(1), kind: MessageKind::Plain, body });
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, large);
    assert_eq!(ended(&mut ends.server).unwrap().close.code, CloseCode::TooLarge);
}

#[test]
fn requests_without_answer_are_bounded() {
    let mut ends = Ends::with(|client| client.max_requests = 2, |_| {});
    ends.meet(WebSocket, Intent::Attach);
    for _ in 0..2 {
        ends.client.send(MessageKind::Request, Body::from("?")).unwrap();
    }
    let refused = ends.client.send(MessageKind::Request, Body::from("?"));
    assert_eq!(refused, Err(SendError::TooManyRequests));
    ends.up(number(1), WebSocket);
    ends.server.send(MessageKind::Reply(seq(1)), Body::from("!")).unwrap();
    ends.down(number(1));
    assert!(ends.client.send(MessageKind::Request, Body::from("?")).is_ok());
}

#[test]
fn messages_beyond_the_window_end_the_session() {
    let mut ends = Ends::met(WebSocket);
    for value in 1..=257 {
        ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(value));
    }
    assert_eq!(ended(&mut ends.server).unwrap().close.code, CloseCode::ProtocolError);
}

#[test]
fn of_tokens_and_moves_only_the_latest_waits() {
    let mut ends = Ends::met(WebSocket);
    for count in 0..1000 {
        let token = Frame::Auth(Json::of(&count).unwrap());
        ends.server.handle_frame(ends.now, number(1), Via::Carrier, token);
        ends.server.handle_frame(ends.now, number(1), Via::Carrier, Frame::Ping(Some(count)));
    }
    assert!(matches!(&events(&mut ends.server)[..], [Event::Auth(token)] if token.as_str() == "999"));
    assert_eq!(lend(&mut ends.server, number(1)), [Frame::Pong(Some(999))]);
}

#[test]
fn frames_out_of_their_place_end_the_session() {
    let mut ends = Ends::met(WebSocket);
    let hello = {
        let attachment = ends.introduce(WebSocket, Intent::Candidate);
        hello_of(&lend(&mut ends.client, attachment))
    };
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, Frame::Hello(Box::new(hello)));
    assert_eq!(ended(&mut ends.server).unwrap().close.code, CloseCode::ProtocolError);
    let mut ends = Ends::met(WebSocket);
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, Frame::AuthOk(1));
    assert_eq!(ended(&mut ends.server).unwrap().close.code, CloseCode::ProtocolError);
}

#[test]
fn what_does_not_decode_costs_a_client_its_transport_and_ends_it_on_a_server() {
    let mut ends = Ends::met(WebSocket);
    let error = crate::frame::DecodeError::Truncated;
    ends.client.handle_malformed(ends.now, number(1), &error);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Malformed)]);
    ends.server.handle_malformed(ends.now, number(1), &error);
    assert_eq!(ended(&mut ends.server).unwrap().close.code, CloseCode::ProtocolError);
}

#[test]
fn without_receipts_the_oldest_are_dropped_and_nothing_holds_back() {
    let absent = |config: &mut Config| {
        config.receipts = Receipts::Absent;
        config.send_buffer = Window { messages: 3, bytes: 1 << 20 };
    };
    let mut ends = Ends::with(|client| client.window = window(1), absent);
    for _ in 0..5 {
        ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    }
    let attachment = ends.introduce(Sse, Intent::Attach);
    ends.say_hello(attachment);
    assert_eq!(seqs(&lend(&mut ends.server, attachment)), [3, 4, 5]);
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    assert_eq!(seqs(&lend(&mut ends.server, attachment)), [6]);
    ends.server.handle_timeout(at(100_000));
    assert_eq!(ends.server.attachment(), Some(attachment), "silence is no sign of death");
    // It comes back with what it has seen last.
    let next = ends.introduce(Sse, Intent::Attach);
    let hello = hello_of(&lend(&mut ends.client, next));
    bound(ends.server.handle_hello(at(100_000), &Hello { received: seq(5), ..hello }));
    assert_eq!(seqs(&lend(&mut ends.server, next)), [6]);
}

#[test]
fn an_idle_session_gives_its_memory_back() {
    let mut ends = Ends::met(WebSocket);
    ends.send_both(100);
    ends.settle(number(1), WebSocket);
    ends.later(60);
    ends.settle(number(1), WebSocket);
    ends.server.shrink();
    assert_eq!(ends.server.held(), (0, 0));
    ends.send_both(1);
    ends.settle(number(1), WebSocket);
    ends.later(60);
    ends.settle(number(1), WebSocket);
    assert_eq!((ends.client.acked(), ends.server.acked()), (seq(101), seq(101)));
}

#[test]
fn an_answer_to_what_was_never_asked_is_not_accepted() {
    let mut ends = Ends::met(WebSocket);
    for kind in [MessageKind::Reply(seq(1)), MessageKind::Failure(seq(1))] {
        assert_eq!(ends.client.send(kind, Body::from("late")), Err(SendError::NeverAsked));
    }
    ends.server.send(MessageKind::Request, Body::from("what")).unwrap();
    ends.down(number(1));
    ends.client.send(MessageKind::Reply(seq(1)), Body::from("this")).unwrap();
}
