//! Closing: in order, at once, crossing, and long after.

use super::*;

#[test]
fn a_graceful_close_goes_out_when_all_before_it_is_acknowledged() {
    let mut ends = Ends::met(WebSocket);
    ends.client.send(MessageKind::Plain, Body::from("last")).unwrap();
    ends.client.close(ends.now, normal());
    assert_eq!(ends.client.send(MessageKind::Plain, Body::from("more")), Err(SendError::Closed));
    assert_eq!(tags(&ends.up(number(1), WebSocket)), ["msg", "ping"]);
    assert_eq!(
        tags(&ends.down(number(1))),
        ["pong", "ack"],
        "who closes asks, and need not wait for a timer"
    );
    assert_eq!(tags(&ends.up(number(1), WebSocket)), ["close"]);
    let end = ended(&mut ends.server).unwrap();
    assert_eq!((end.by, end.close.code.clone()), (EndedBy::Peer, CloseCode::Normal));
    assert_eq!(tags(&ends.down(number(1))), ["close"]);
    let end = ended(&mut ends.client).unwrap();
    assert_eq!((end.by, end.undelivered.len()), (EndedBy::Local, 0));
}

#[test]
fn both_ends_close_on_every_transport_without_a_timeout() {
    for kind in TransportKind::ALL {
        for server_closes in [false, true] {
            let mut ends = Ends::met(kind);
            ends.send_both(2);
            let closer = if server_closes { &mut ends.server } else { &mut ends.client };
            closer.close(ends.now, normal());
            for _ in 0..4 {
                ends.later(60);
                for _ in 0..3 {
                    ends.up(number(1), kind);
                    if !ends.down(number(1)).is_empty() && kind == LongPolling {
                        ends.server.handle_detach(ends.now, number(1));
                        ends.client.handle_poll_ended(ends.now, number(1));
                    }
                    if let Some(close) = ends.server.end().cloned() {
                        // A poll or push of a session that has ended is answered by its close.
                        ends.client.handle_frame(ends.now, number(1), Via::Push, Frame::Close(close));
                    }
                }
            }
            assert!(ends.client.is_ended() && ends.server.is_ended(), "{kind} {server_closes}");
            let by = (ended(&mut ends.client).unwrap().by, ended(&mut ends.server).unwrap().by);
            let expected = (EndedBy::Local, EndedBy::Peer);
            assert_eq!(by, if server_closes { (expected.1, expected.0) } else { expected }, "{kind}");
        }
    }
}

#[test]
fn after_close_nothing_is_taken_any_more() {
    let mut ends = Ends::met(WebSocket);
    ends.client.close(ends.now, normal());
    ends.server.send(MessageKind::Plain, Body::from("late")).unwrap();
    ends.down(number(1));
    assert_eq!(delivered(&mut ends.client), [0; 0]);
    let frames = lend(&mut ends.client, number(1));
    assert!(matches!(&frames[..], [Frame::Close(close)] if close.detail.received == Some(Seq::ZERO)));
}

#[test]
fn two_ends_that_close_at_once_do_not_wait_for_each_other() {
    let mut ends = Ends::met(WebSocket);
    ends.send_both(2);
    ends.client.close(ends.now, normal());
    ends.server.close(ends.now, normal());
    for _ in 0..3 {
        ends.up(number(1), WebSocket);
        ends.down(number(1));
    }
    for session in [&mut ends.client, &mut ends.server] {
        let end = ended(session).unwrap();
        assert_eq!((end.by, end.undelivered.len()), (EndedBy::Local, 2));
    }
}

/// Both ends have more to send than the windows admit.
fn held_back(kind: TransportKind) -> Ends {
    let narrow = |config: &mut Config| config.window = window(2);
    let mut ends = Ends::with(narrow, narrow);
    ends.meet(kind, Intent::Attach);
    ends.send_both(6);
    ends
}

#[test]
fn two_ends_that_close_at_once_while_both_are_held_back_do_not_wait_for_each_other() {
    // Before and after the messages that the windows admit have arrived.
    for (kind, exchanges, lost) in [(WebSocket, 0, 6), (WebSocket, 2, 4), (Sse, 0, 6), (Sse, 2, 4)] {
        let mut ends = held_back(kind);
        for _ in 0..exchanges {
            ends.up(number(1), kind);
            ends.later(60);
            ends.down(number(1));
        }
        ends.client.close(ends.now, normal());
        ends.server.close(ends.now, normal());
        for _ in 0..4 {
            ends.up(number(1), kind);
            ends.later(60);
            ends.down(number(1));
        }
        let ends = [&mut ends.client, &mut ends.server].map(|session| ended(session).unwrap());
        assert_eq!(ends.map(|end| (end.by, end.undelivered.len())), [(EndedBy::Local, lost); 2], "{kind}");
    }
}

#[test]
fn an_end_that_closes_later_knows_that_its_peer_takes_no_more() {
    let mut ends = held_back(WebSocket);
    ends.client.close(ends.now, normal());
    assert_eq!(tags(&ends.up(number(1), WebSocket)), ["msg", "msg", "closing", "ping"]);
    assert_eq!(seqs(&ends.down(number(1))), [0; 0], "nothing that would be refused is sent");
    ends.server.close(ends.now, normal());
    assert_eq!(tags(&ends.down(number(1))).last(), Some(&"close"));
    assert_eq!(ended(&mut ends.client).unwrap().by, EndedBy::Local);
}

#[test]
fn an_end_that_is_held_back_and_closes_waits_for_an_open_peer() {
    let mut ends = held_back(WebSocket);
    ends.client.close(ends.now, normal());
    for round in 0..3 {
        ends.up(number(1), WebSocket);
        assert_eq!(delivered(&mut ends.server).len(), 2, "{round}");
        ends.server.acknowledge(ends.now, 2);
        ends.later(60);
        ends.down(number(1));
    }
    assert_eq!(tags(&ends.up(number(1), WebSocket)), ["close"]);
    let end = ended(&mut ends.server).unwrap();
    assert_eq!((end.by, end.close.detail.received), (EndedBy::Peer, Some(seq(6))));
}

#[test]
fn a_close_is_repeated_on_each_attach_and_ends_in_time() {
    let mut ends = Ends::met(WebSocket);
    ends.server.close(ends.now, normal());
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["close"]);
    let next = ends.introduce(WebSocket, Intent::Attach);
    ends.say_hello(next);
    assert_eq!(tags(&lend(&mut ends.server, next)), ["welcome", "close"]);
    ends.server.handle_timeout(at(9_999));
    assert!(!ends.server.is_ended());
    ends.server.handle_timeout(at(10_000));
    assert_eq!(ended(&mut ends.server).unwrap().by, EndedBy::Timeout);
}

#[test]
fn a_close_in_a_lost_push_or_poll_answer_is_said_again() {
    let mut ends = Ends::met(Sse);
    ends.client.close(ends.now, normal());
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["close"]);
    ends.client.handle_push_ended(ends.now, number(1), false);
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["close"]);

    let mut ends = Ends::met(LongPolling);
    ends.server.close(ends.now, normal());
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["close"]);
    ends.server.handle_detach(ends.now, number(1));
    ends.repoll();
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["close"]);
}

#[test]
fn an_ended_session_answers_whoever_comes_back_with_its_close() {
    let mut ends = Ends::met(LongPolling);
    let poll = Poll {
        session: ends.client.id(),
        key: SessionKey::from_bytes([2; 32]),
        epoch: ends.server.epoch().unwrap(),
        attachment: number(1),
        received: Seq::ZERO,
        taken: None,
        hold_ms: 1000,
    };
    let kicked = Close::new(CloseCode::from_word("kicked").unwrap(), "out");
    ends.server.abort(ends.now, kicked.clone());
    events(&mut ends.server);
    let next = ends.introduce(WebSocket, Intent::Attach);
    let hello = hello_of(&lend(&mut ends.client, next));
    assert_eq!(refused(ends.server.handle_hello(ends.now, &hello)).code, kicked.code);
    assert_eq!(
        refused(ends.server.handle_hello(ends.now, &Hello { epoch: None, ..hello })).code,
        kicked.code
    );
    assert_eq!(refused(ends.server.handle_poll(ends.now, &poll)).code, kicked.code);
    ends.server.handle_detach(ends.now, number(1));
    assert_eq!(events(&mut ends.server).len(), 0, "nothing comes after the end");
    assert_eq!(ends.server.poll_timeout(), None);
}

#[test]
fn an_abort_says_its_close_once_on_each_transport_and_reports() {
    let mut ends = Ends::met(WebSocket);
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.server.abort(ends.now, normal());
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["close"]);
    let end = ended(&mut ends.server).unwrap();
    assert_eq!((end.by, end.undelivered.len()), (EndedBy::Local, 1));
}

#[test]
fn an_abort_before_welcome_says_its_close_behind_hello() {
    for kind in TransportKind::ALL {
        let mut ends = Ends::new();
        let first = ends.introduce(kind, Intent::Attach);
        let hello = ends.say_hello(first);
        ends.client.abort(ends.now, normal());
        assert_eq!(tags(&ends.up(first, kind)), ["close"], "{kind}");
        assert_eq!(
            ended(&mut ends.server).unwrap().by,
            EndedBy::Peer,
            "{kind}: and does not wait for its time"
        );
        assert_eq!(hello.attachment, first);
    }
}

#[test]
fn an_abort_before_hello_says_nothing() {
    let mut ends = Ends::new();
    let first = ends.introduce(WebSocket, Intent::Attach);
    ends.client.abort(ends.now, normal());
    assert_eq!(lend(&mut ends.client, first), []);
}

#[test]
fn a_refused_hello_needs_no_answer() {
    let mut ends = Ends::new();
    let first = ends.introduce(WebSocket, Intent::Attach);
    lend(&mut ends.client, first);
    let close = Close::new(CloseCode::Unauthorized, "who are you");
    ends.client.handle_frame(ends.now, first, Via::Carrier, Frame::Close(close));
    assert_eq!(ended(&mut ends.client).unwrap().by, EndedBy::Peer);
    assert_eq!(lend(&mut ends.client, first), []);
}

#[test]
fn a_close_acknowledges_what_its_sender_received() {
    let mut ends = Ends::met(WebSocket);
    ends.send_both(2);
    lend(&mut ends.server, number(1));
    let mut close = normal();
    close.detail.received = Some(seq(1));
    ends.server.handle_frame(ends.now, number(1), Via::Carrier, Frame::Close(close));
    let lost = ended(&mut ends.server).unwrap().undelivered;
    assert_eq!(lost.iter().map(|lost| lost.ticket.value()).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_late_close_of_a_fenced_transport_counts_on_the_server() {
    let mut ends = Ends::met(Sse);
    ends.meet(WebSocket, Intent::Attach);
    ends.server.handle_frame(ends.now, number(1), Via::Push, Frame::Close(normal()));
    assert!(ends.server.is_ended());
}

#[test]
fn a_refused_candidate_is_only_that() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(Sse, Intent::Candidate);
    let close = Close::new(CloseCode::UnknownSession, "elsewhere");
    ends.client.handle_frame(ends.now, candidate, Via::Carrier, Frame::Close(close.clone()));
    assert_eq!(detached(&mut ends.client), [(2, DetachReason::Closed(close))]);
    assert!(ends.client.is_open());
}

#[test]
fn without_receipts_a_close_follows_what_was_sent_and_awaits_nothing() {
    let mut ends = Ends::with(|_| {}, |server| server.receipts = Receipts::Absent);
    ends.meet(Sse, Intent::Attach);
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.server.close(ends.now, normal());
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["msg", "close"]);
    assert_eq!(ended(&mut ends.server).unwrap().by, EndedBy::Local);
    assert_eq!(lend(&mut ends.server, number(1)), []);
}

#[test]
fn a_first_poll_that_ends_after_the_session_tells_nothing() {
    let mut ends = Ends::new();
    let attachment = ends.introduce(LongPolling, Intent::Attach);
    ends.say_hello(attachment);
    ends.down(attachment);
    assert_eq!(tags(&ends.up(attachment, LongPolling)), ["poll"]);
    ends.client.abort(ends.now, normal());
    assert!(ended(&mut ends.client).is_some());
    ends.client.handle_poll_ended(ends.now, attachment);
    assert!(events(&mut ends.client).is_empty());
}
