//! Pushes and polls.

use super::*;

/// An SSE client with so many messages, of which the first push took all.
fn pushed(count: usize) -> Ends {
    let mut ends = Ends::met(Sse);
    for _ in 0..count {
        ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    }
    assert_eq!(lend(&mut ends.client, number(1)).len(), count);
    ends
}

/// What goes up, whose pings are answered.
fn answered(ends: &mut Ends) -> Vec<Frame> {
    let frames = lend(&mut ends.client, number(1));
    for frame in &frames {
        if let Frame::Ping(number_of) = frame {
            ends.client.handle_frame(ends.now, number(1), Via::Carrier, Frame::Pong(*number_of));
        }
    }
    frames
}

#[test]
fn a_push_that_made_no_progress_is_repeated_by_a_timer_that_slows_down() {
    let mut ends = pushed(2);
    for pause in [250, 500, 1000, 2000, 4000, 5000, 5000] {
        ends.client.handle_push_ended(ends.now, number(1), true);
        assert_eq!(seqs(&lend(&mut ends.client, number(1))), [0; 0]);
        let due = ends.now + Duration::from_millis(pause);
        ends.client.handle_frame(ends.now, number(1), Via::Carrier, Frame::Ping(None));
        lend(&mut ends.client, number(1));
        ends.client.handle_timeout(due - Duration::from_millis(1));
        assert_eq!(seqs(&answered(&mut ends)), [0; 0]);
        ends.now = due;
        ends.client.handle_timeout(due);
        assert_eq!(seqs(&answered(&mut ends)), [1, 2], "{pause}");
    }
}

#[test]
fn a_push_that_made_progress_goes_on_at_once_with_the_rest() {
    let mut ends = pushed(3);
    ends.client.handle_frame(ends.now, number(1), Via::Push, ack(1, 1));
    ends.client.handle_push_ended(ends.now, number(1), true);
    assert_eq!(seqs(&lend(&mut ends.client, number(1))), [2, 3]);
}

#[test]
fn an_unanswered_push_is_repeated_from_the_oldest_and_the_second_gives_the_path_up() {
    let mut ends = pushed(2);
    ends.client.handle_push_ended(ends.now, number(1), false);
    ends.now += Duration::from_secs(1);
    ends.client.handle_timeout(ends.now);
    assert_eq!(seqs(&lend(&mut ends.client, number(1))), [1, 2]);
    ends.client.handle_push_ended(ends.now, number(1), false);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::UplinkLost)]);
}

/// A long-polling client whose push was not answered for so long beside a held poll.
fn stuck(held: u64) -> Ends {
    let mut ends = Ends::met(LongPolling);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    lend(&mut ends.client, number(1));
    ends.later(held);
    ends.client.handle_push_ended(ends.now, number(1), false);
    ends
}

#[test]
fn a_push_that_waited_behind_a_held_poll_has_polls_held_for_less() {
    for (held, hold) in [(900, 2_000), (1_000, 500)] {
        let mut ends = stuck(held);
        assert_eq!(ends.client.hold(), Duration::from_millis(hold));
        let asked = ends.client.poll_request(number(1)).cloned();
        assert_eq!(asked.map(|poll| poll_of(&[poll]).hold_ms), (hold == 500).then_some(hold));
    }
}

#[test]
fn a_push_that_waited_behind_a_held_poll_is_no_lost_one() {
    let mut ends = stuck(1_000);
    lend(&mut ends.client, number(1));
    ends.client.handle_push_ended(ends.now, number(1), false);
    assert_eq!(detached(&mut ends.client), []);
    ends.client.handle_push_ended(ends.now, number(1), false);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::UplinkLost)]);
}

#[test]
fn a_receipt_in_a_lost_push_is_said_again() {
    let mut ends = Ends::met(Sse);
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.down(number(1));
    ends.later(60);
    assert_eq!(lend(&mut ends.client, number(1)), [ack(1, 0)]);
    ends.client.handle_push_ended(ends.now, number(1), false);
    assert_eq!(lend(&mut ends.client, number(1)), [ack(1, 0)]);
}

#[test]
fn a_lost_attach_and_a_lost_proof_are_said_again() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(Sse, Intent::Candidate);
    ends.say_hello(candidate);
    ends.down(candidate);
    assert_eq!(tags(&lend(&mut ends.client, candidate)), ["ping"]);
    ends.client.handle_push_ended(ends.now, candidate, false);
    assert_eq!(tags(&ends.up(candidate, Sse)), ["ping"]);
    ends.down(candidate);
    assert_eq!(tags(&lend(&mut ends.client, candidate)), ["attach"]);
    ends.client.handle_push_ended(ends.now, candidate, false);
    assert_eq!(tags(&lend(&mut ends.client, candidate)), ["attach"]);
}

#[test]
fn a_poll_is_answered_from_right_behind_what_it_acknowledges() {
    let mut ends = Ends::met(LongPolling);
    ends.send_both(3);
    assert_eq!(seqs(&lend(&mut ends.server, number(1))), [1, 2, 3]);
    // The answer is lost: reading has consumed nothing.
    ends.server.handle_detach(ends.now, number(1));
    let poll = Poll { received: seq(1), ..ends.repoll() };
    bound(ends.server.handle_poll(ends.now, &poll));
    assert_eq!(seqs(&lend(&mut ends.server, number(1))), [2, 3]);
}

#[test]
fn a_held_poll_is_answered_at_the_end_of_its_hold() {
    let mut ends = Ends::met(LongPolling);
    ends.server.handle_timeout(at(1_999));
    assert_eq!(lend(&mut ends.server, number(1)), []);
    ends.server.handle_timeout(at(2_000));
    assert_eq!(lend(&mut ends.server, number(1)), [ack(0, 0)]);
}

#[test]
fn the_server_caps_the_hold() {
    let second = Duration::from_secs(1);
    let mut ends = Ends::with(|_| {}, |server| server.max_hold = second);
    ends.meet(LongPolling, Intent::Attach);
    ends.server.handle_timeout(at(1000));
    assert_eq!(lend(&mut ends.server, number(1)), [ack(0, 0)]);
}

#[test]
fn nothing_is_written_between_polls() {
    let mut ends = Ends::met(LongPolling);
    ends.server.handle_detach(ends.now, number(1));
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    assert_eq!(lend(&mut ends.server, number(1)), []);
}

#[test]
fn receipts_of_a_poll_answer_that_may_be_lost_ride_on_the_next() {
    let mut ends = Ends::met(LongPolling);
    ends.server.handle_frame(ends.now, number(1), Via::Push, message(1));
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["ack", "msg"]);
    ends.server.handle_detach(ends.now, number(1));
    ends.repoll();
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["ack", "msg"]);
}

#[test]
fn a_poll_that_is_answered_early_and_empty_is_followed_by_a_pause() {
    for hold in [Duration::from_secs(10), Duration::ZERO] {
        let mut ends = Ends::with(|client| client.hold = hold, |_| {});
        let attachment = ends.introduce(LongPolling, Intent::Attach);
        ends.say_hello(attachment);
        ends.down(attachment);
        ends.client.poll_request(attachment).unwrap();
        ends.client.handle_poll_ended(ends.now, attachment);
        assert!(ends.client.poll_request(attachment).is_some(), "the proof");
        ends.client.handle_poll_ended(ends.now, attachment);
        assert!(ends.client.poll_request(attachment).is_none());
        ends.client.handle_timeout(at(499));
        assert!(ends.client.poll_request(attachment).is_none());
        ends.client.handle_timeout(at(500));
        assert!(ends.client.poll_request(attachment).is_some());
    }
}

#[test]
fn a_poll_that_brings_a_new_receipt_is_followed_by_the_next_at_once() {
    let mut ends = Ends::met(LongPolling);
    let attachment = number(1);
    ends.send_both(2);
    ends.repoll();
    assert_eq!(seqs(&lend(&mut ends.client, attachment)), [1, 2]);
    for (told, goes_on) in [(ack(1, 1), true), (ack(2, 1), true), (ack(2, 2), true), (ack(2, 2), false)] {
        ends.client.handle_frame(ends.now, attachment, Via::Carrier, told);
        ends.client.handle_poll_ended(ends.now, attachment);
        assert_eq!(ends.client.poll_request(attachment).is_some(), goes_on);
    }
}

#[test]
fn a_poll_of_a_stream_is_refused() {
    let mut ends = Ends::met(LongPolling);
    let poll = ends.repoll();
    ends.meet(Sse, Intent::Attach);
    let other = Poll { attachment: number(2), ..poll.clone() };
    assert_eq!(refused(ends.server.handle_poll(ends.now, &other)).code, CloseCode::NotAcceptable);
    let unknown = Poll { attachment: number(9), ..poll };
    assert_eq!(refused(ends.server.handle_poll(ends.now, &unknown)).code, CloseCode::Moved);
}

#[test]
fn pushes_that_are_too_large_for_a_box_are_repeated_at_once_and_lose_no_uplink() {
    let mut ends = Ends::met(Sse);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    for _ in 0..10 {
        assert_eq!(seqs(&lend(&mut ends.client, number(1))), [1, 2]);
        ends.client.handle_push_refused(ends.now, number(1));
    }
    assert_eq!(detached(&mut ends.client), []);
    assert_eq!(seqs(&ends.up(number(1), Sse)), [1, 2]);
}
