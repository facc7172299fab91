//! Liveness: each direction is judged on its own path.

use super::*;

#[test]
fn the_server_pings_each_heartbeat_and_gives_up_what_does_not_answer() {
    for kind in [WebSocket, Sse] {
        let mut ends = Ends::met(kind);
        ends.server.handle_timeout(at(20_000));
        assert_eq!(tags(&lend(&mut ends.server, number(1))), ["ping"]);
        ends.server.handle_timeout(at(29_999));
        assert_eq!(ends.server.attachment(), Some(number(1)));
        ends.server.handle_timeout(at(30_000));
        assert_eq!(detached(&mut ends.server), [(1, DetachReason::Silent)], "{kind}");
    }
}

#[test]
fn a_large_message_on_a_slow_path_is_no_silence_while_it_comes() {
    let mut ends = Ends::met(WebSocket);
    for (seconds, count) in [(20, 100), (40, 200), (60, 300), (80, 300)] {
        ends.server.note_arrived(at(seconds * 1000), number(1), count);
        ends.server.handle_timeout(at(seconds * 1000));
        assert_eq!(ends.server.attachment(), Some(number(1)), "{seconds} s");
    }
    ends.server.note_arrived(at(90_000), number(1), 300);
    ends.server.handle_timeout(at(90_000));
    assert_eq!(detached(&mut ends.server), [(1, DetachReason::Silent)], "it stopped at 60 s");
}

/// When the server pings a stream in its first minute.
fn pinged_at(candidate: bool, hear: impl Fn(&mut Session, Attachment, u64)) -> Vec<u64> {
    let mut ends = Ends::with(|_| {}, |server| server.candidate_lifetime = Duration::from_secs(60));
    let mut intent = Intent::Attach;
    if candidate {
        // Something must carry the session, or it would be forgotten.
        ends.meet(LongPolling, Intent::Attach);
        intent = Intent::Candidate;
    }
    let attachment = ends.introduce(Sse, intent);
    ends.say_hello(attachment);
    lend(&mut ends.server, attachment);
    let mut pings = Vec::new();
    for second in 1..29 {
        hear(&mut ends.server, attachment, second);
        ends.server.handle_timeout(at(second * 1000));
        let frames = lend(&mut ends.server, attachment);
        pings.extend(frames.iter().any(|frame| frame.tag() == "ping").then_some(second));
    }
    pings
}

/// A box that does not notice that its client has left does when something is to be passed on.
#[test]
fn a_stream_whose_client_is_not_heard_of_is_pinged_each_second_for_a_while() {
    let knocks: Vec<_> = (2..=15).collect();
    // Messages may have come with the `hello`, and receipts prove nothing that counts here.
    let messages = |server: &mut Session, attachment, second| {
        server.handle_frame(at(second * 1000), attachment, Via::Push, message(1));
    };
    assert_eq!(pinged_at(false, |_, _, _| {}), knocks);
    assert_eq!(pinged_at(false, messages), knocks);
    assert_eq!(pinged_at(true, |_, _, _| {}), knocks);
    let answers = |server: &mut Session, attachment, second| {
        if second == 4 {
            server.handle_frame(at(4000), attachment, Via::Push, Frame::Ping(Some(1)));
        }
    };
    assert_eq!(pinged_at(false, answers), [2, 3, 24]);
    assert_eq!(pinged_at(true, answers), [2, 3]);
}

#[test]
fn any_frame_keeps_a_websocket_alive() {
    let mut ends = Ends::met(WebSocket);
    ends.server.handle_frame(at(25_000), number(1), Via::Carrier, message(1));
    ends.client.handle_frame(at(25_000), number(1), Via::Carrier, message(1));
    for session in [&mut ends.server, &mut ends.client] {
        leap(session, at(54_999));
        assert!(session.attachment().is_some());
        session.handle_timeout(at(55_000));
        assert!(session.attachment().is_none());
    }
}

#[test]
fn pushes_never_keep_a_dead_stream_alive_on_the_server() {
    let mut ends = Ends::met(Sse);
    for (second, frame) in [(21, message(1)), (25, Frame::Pong(Some(7))), (29, ack(0, 0))] {
        ends.server.handle_timeout(at(second * 1000));
        ends.server.handle_frame(at(second * 1000), number(1), Via::Push, frame);
    }
    ends.server.handle_timeout(at(30_000));
    assert_eq!(ends.server.attachment(), None);
}

#[test]
fn pushes_never_keep_a_dead_stream_alive_on_the_client() {
    for kind in [Sse, LongPolling] {
        let mut ends = Ends::met(kind);
        for second in [10, 20, 29] {
            ends.client.handle_frame(at(second * 1000), number(1), Via::Push, ack(0, 0));
            ends.client.handle_push_ended(at(second * 1000), number(1), true);
        }
        leap(&mut ends.client, at(32_000));
        assert_eq!(detached(&mut ends.client), [(1, DetachReason::Silent)], "{kind}");
    }
}

#[test]
fn a_pong_proves_the_stream_once() {
    let mut ends = Ends::met(Sse);
    ends.server.handle_timeout(at(20_000));
    for second in [21, 39] {
        ends.server.handle_frame(at(second * 1000), number(1), Via::Push, Frame::Pong(Some(1)));
    }
    leap(&mut ends.server, at(50_999));
    assert_eq!(ends.server.attachment(), Some(number(1)));
    ends.server.handle_timeout(at(51_000));
    assert_eq!(ends.server.attachment(), None);
}

#[test]
fn no_poll_for_a_heartbeat_and_its_grace_detaches() {
    let mut ends = Ends::met(LongPolling);
    // A poll is open and answered at 10 s; none comes after.
    leap(&mut ends.server, at(10_000));
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["ack"]);
    ends.server.handle_detach(at(10_000), number(1));
    leap(&mut ends.server, at(39_999));
    assert_eq!(ends.server.attachment(), Some(number(1)), "between polls nothing is wrong");
    ends.server.handle_timeout(at(40_000));
    assert_eq!(detached(&mut ends.server), [(1, DetachReason::Silent)]);
}

#[test]
fn a_poll_with_the_current_number_attaches_again_what_was_given_up() {
    let mut ends = Ends::met(LongPolling);
    lend(&mut ends.server, number(1));
    ends.server.handle_detach(ends.now, number(1));
    leap(&mut ends.server, at(40_000));
    assert_eq!(ends.server.attachment(), None);
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.repoll();
    assert_eq!(tags(&lend(&mut ends.server, number(1))), ["ack", "msg"]);
}

#[test]
fn the_client_answers_the_latest_ping_only() {
    let mut ends = Ends::met(WebSocket);
    for ping in 0..1000 {
        ends.client.handle_frame(ends.now, number(1), Via::Carrier, Frame::Ping(Some(ping)));
    }
    assert_eq!(lend(&mut ends.client, number(1)), [Frame::Pong(Some(999))]);
}

#[test]
fn a_pong_in_a_lost_push_is_said_again() {
    let mut ends = Ends::met(Sse);
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, Frame::Ping(Some(4)));
    assert_eq!(lend(&mut ends.client, number(1)), [Frame::Pong(Some(4))]);
    ends.client.handle_push_ended(ends.now, number(1), false);
    assert_eq!(lend(&mut ends.client, number(1)), [Frame::Pong(Some(4))]);
    ends.client.handle_push_ended(ends.now, number(1), true);
    assert_eq!(lend(&mut ends.client, number(1)), []);
}

#[test]
fn a_stream_that_is_not_proved_in_time_is_given_up() {
    for (kind, reason) in [(Sse, DetachReason::Unproved), (LongPolling, DetachReason::Unproved)] {
        let mut ends = Ends::new();
        let attachment = ends.introduce(kind, Intent::Attach);
        ends.say_hello(attachment);
        ends.down(attachment);
        lend(&mut ends.client, attachment);
        ends.client.handle_timeout(at(999));
        assert_eq!(ends.client.attachment(), Some(attachment));
        ends.client.handle_timeout(at(1_000));
        assert_eq!(detached(&mut ends.client), [(1, reason)]);
    }
}

#[test]
fn a_hello_without_welcome_is_given_up() {
    let mut ends = Ends::new();
    ends.introduce(WebSocket, Intent::Attach);
    ends.client.handle_timeout(at(10_000));
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::NoWelcome)]);
}

#[test]
fn a_session_waits_for_its_client_for_the_resume_window() {
    let mut ends = Ends::met(WebSocket);
    ends.server.handle_detach(ends.now, number(1));
    ends.server.handle_timeout(at(119_999));
    assert!(!ends.server.is_ended());
    ends.server.handle_timeout(at(120_000));
    let end = ended(&mut ends.server).unwrap();
    assert_eq!((end.close.code.clone(), end.by), (CloseCode::TimedOut, EndedBy::Timeout));
}

#[test]
fn a_client_whose_early_messages_nobody_answers_gives_the_id_up() {
    let mut ends = Ends::new();
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    for second in (0..60).step_by(10) {
        ends.client.handle_timeout(at(second * 1000));
        let attachment = ends.client.introduce(at(second * 1000), WebSocket, Intent::Attach, None).unwrap();
        lend(&mut ends.client, attachment);
    }
    // The dial comes before the timer, as after a sleep.
    assert_eq!(ends.client.introduce(at(60_000), WebSocket, Intent::Attach, None), None);
    let end = ended(&mut ends.client).unwrap();
    assert_eq!((end.by, end.undelivered[0].is_unknown()), (EndedBy::Timeout, true));
}

#[test]
fn an_earlier_now_counts_as_the_latest_seen() {
    let mut ends = Ends::met(WebSocket);
    ends.server.handle_timeout(at(20_000));
    lend(&mut ends.server, number(1));
    ends.server.handle_frame(at(5), number(1), Via::Carrier, Frame::Pong(Some(1)));
    ends.server.handle_timeout(at(49_999));
    assert_eq!(ends.server.attachment(), Some(number(1)));
}

#[test]
fn no_wait_is_beyond_what_time_can_hold() {
    let endless = |config: &mut Config| {
        config.resume_window = Duration::MAX;
        config.heartbeat = Duration::from_secs(u64::MAX / 4);
        config.close_timeout = Duration::MAX;
        (config.ack_delay, config.light_ack_delay) = (Duration::MAX, Duration::MAX);
        config.welcome_within = Duration::MAX;
    };
    let mut ends = Ends::with(endless, endless);
    ends.meet(WebSocket, Intent::Attach);
    ends.send_both(1);
    ends.settle(number(1), WebSocket);
    ends.client.close(ends.now, normal());
    ends.server.handle_detach(ends.now, number(1));
    assert!(ends.client.poll_timeout().is_some() && ends.server.poll_timeout().is_some());
}

#[test]
fn who_looks_late_judges_by_what_has_come_a_second_later() {
    for comes in [true, false] {
        let mut ends = Ends::met(WebSocket);
        ends.server.handle_timeout(at(20_000));
        // The process stood from here on, and its timer with it: the pong waits where nobody reads it yet.
        ends.server.handle_timeout(at(35_300));
        assert_eq!(ends.server.attachment(), Some(number(1)));
        assert_eq!(ends.server.poll_timeout(), Some(at(37_000)));
        if comes {
            ends.server.handle_frame(at(35_400), number(1), Via::Carrier, Frame::Pong(Some(1)));
        }
        ends.server.handle_timeout(at(37_000));
        assert_eq!(ends.server.attachment().is_some(), comes);
    }
}

#[test]
fn whose_timers_are_always_late_finds_out_what_is_dead() {
    let mut ends = Ends::met(WebSocket);
    // As those of a page that nobody looks at.
    let looks = (1..).find(|minute| {
        ends.server.handle_timeout(at(minute * 60_000));
        ends.server.attachment().is_none()
    });
    assert_eq!(looks, Some(2));
}
