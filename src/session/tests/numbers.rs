//! Numbers: in order, once, never used again.

use super::*;

#[test]
fn messages_count_from_one_in_each_direction_on_every_transport() {
    for kind in TransportKind::ALL {
        let mut ends = Ends::met(kind);
        ends.send_both(3);
        ends.settle(number(1), kind);
        assert_eq!(delivered(&mut ends.client), [1, 2, 3], "{kind}");
        assert_eq!(delivered(&mut ends.server), [1, 2, 3], "{kind}");
    }
}

#[test]
fn a_repeat_is_not_delivered_again() {
    let mut ends = Ends::met(WebSocket);
    for value in [1, 1, 2, 1, 2, 3] {
        ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(value));
    }
    assert_eq!(delivered(&mut ends.server), [1, 2, 3]);
}

#[test]
fn a_gap_gives_up_the_transport_it_came_on_and_no_other() {
    let mut ends = Ends::met(WebSocket);
    let spare = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(spare);
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, message(2));
    assert_eq!(detached(&mut ends.server), [(1, DetachReason::Gap)]);
    assert_eq!(ends.server.receipt(), Ack::default());
    ends.server.handle_frame(ends.now, spare, Via::Push, message(2));
    assert_eq!(detached(&mut ends.server), [], "a push is only not taken");
}

#[test]
fn what_is_unacknowledged_is_sent_again_on_the_next_attachment_oldest_first() {
    let mut ends = Ends::met(WebSocket);
    ends.send_both(4);
    assert_eq!(seqs(&lend(&mut ends.client, number(1))), [1, 2, 3, 4]);
    assert_eq!(seqs(&lend(&mut ends.server, number(1))), [1, 2, 3, 4]);
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, ack(2, 2));
    let next = ends.introduce(WebSocket, Intent::Attach);
    let frames = lend(&mut ends.client, next);
    assert_eq!(tags(&frames), ["hello", "msg", "msg"]);
    assert_eq!(seqs(&frames), [3, 4]);
    bound(ends.server.handle_hello(ends.now, &Hello { received: seq(1), ..hello_of(&frames) }));
    assert_eq!(seqs(&lend(&mut ends.server, next)), [2, 3, 4]);
}

#[test]
fn messages_ride_behind_the_first_hello_within_the_early_window() {
    let mut ends = Ends::with(|client| client.early_window = window(2), |_| {});
    ends.send_both(3);
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    ends.say_hello(attachment);
    assert_eq!(delivered(&mut ends.server), [1, 2]);
    ends.down(attachment);
    assert_eq!(seqs(&lend(&mut ends.client, attachment)), [3], "it goes on, and repeats nothing");
}

#[test]
fn what_is_much_waits_for_welcome_which_would_wait_for_all_of_it() {
    let mut ends = Ends::met(WebSocket);
    for size in [60_000, 8_000, 200_000] {
        ends.client.send(MessageKind::Plain, Body::from("x".repeat(size))).unwrap();
    }
    assert_eq!(seqs(&lend(&mut ends.client, number(1))), [1, 2, 3]);
    ends.client.handle_detach(ends.now, number(1));
    let next = ends.introduce(WebSocket, Intent::Attach);
    let frames = lend(&mut ends.client, next);
    assert_eq!((tags(&frames), seqs(&frames)), (vec!["hello", "msg"], vec![1]));
    bound(ends.server.handle_hello(ends.now, &hello_of(&frames)));
    ends.down(next);
    assert_eq!(seqs(&lend(&mut ends.client, next)), [2, 3]);
}

#[test]
fn what_rides_behind_the_first_hello_is_taken_though_the_window_be_smaller() {
    let mut ends = Ends::with(|_| {}, |server| server.window = window(2));
    ends.send_both(5);
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    ends.say_hello(attachment);
    assert_eq!(delivered(&mut ends.server), [1, 2, 3, 4, 5]);
    ends.down(attachment);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    assert_eq!(lend(&mut ends.client, attachment), [], "from now on the window holds");
    ends.server.acknowledge(ends.now, 5);
    ends.down(attachment);
    assert_eq!(seqs(&lend(&mut ends.client, attachment)), [6]);
}

#[test]
fn a_number_is_given_at_the_transport_not_at_send() {
    let mut ends = Ends::new();
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.client.abort(ends.now, normal());
    let lost = ended(&mut ends.client).unwrap().undelivered;
    assert_eq!((lost.len(), lost[0].seq, lost[0].is_unknown()), (1, None, false));

    let mut ends = Ends::met(WebSocket);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    lend(&mut ends.client, number(1));
    ends.client.abort(ends.now, normal());
    assert_eq!(ended(&mut ends.client).unwrap().undelivered[0].seq, Some(seq(1)));
}

#[test]
fn a_request_is_answered_once_and_by_its_ticket() {
    let mut ends = Ends::met(WebSocket);
    let ticket = ends.client.send(MessageKind::Request, Body::from("?")).unwrap();
    ends.up(number(1), WebSocket);
    for kind in [MessageKind::Failure(seq(1)), MessageKind::Reply(seq(1))] {
        ends.server.send(kind, Body::from("!")).unwrap();
    }
    ends.down(number(1));
    let answers: Vec<_> = events(&mut ends.client);
    assert_eq!(answers.len(), 1);
    assert!(matches!(&answers[0], Event::Reply { ticket: to, answer: Err(_) } if *to == ticket));
    assert_eq!(ends.client.receipt().taken, seq(2), "answers take themselves");
}

#[test]
fn a_plain_message_that_failed_is_told_by_its_number() {
    let mut ends = Ends::met(WebSocket);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.up(number(1), WebSocket);
    for kind in [MessageKind::Failure(seq(1)), MessageKind::Reply(seq(1))] {
        ends.server.send(kind, Body::from("!")).unwrap();
    }
    ends.down(number(1));
    let told: Vec<_> = events(&mut ends.client);
    let [Event::Failed { seq: of, failure }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*of, failure), (seq(1), &Body::from("!")));
    assert_eq!(ends.client.receipt().taken, seq(2), "and it opens the window as an answer does");
}

#[test]
fn an_answer_to_what_was_never_asked_ends_the_session() {
    let mut ends = Ends::met(WebSocket);
    let kind = MessageKind::Reply(seq(9));
    let answer = Frame::Message(Message { seq: seq(1), kind, body: Body::from("!") });
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, answer);
    assert_eq!(ended(&mut ends.client).unwrap().close.code, CloseCode::ProtocolError);
}
