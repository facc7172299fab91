//! What a client does about paths that stop carrying, and both ends about carriers that die before anything got through.

use super::*;
use crate::session::{Departure, Lesson};

fn departures(session: &mut Session) -> Vec<Departure> {
    let of = |event| match event {
        Event::Detached { departure, .. } => Some(departure),
        _ => None,
    };
    events(session).into_iter().filter_map(of).collect()
}

#[test]
fn a_websocket_on_which_messages_stay_unacknowledged_is_pinged_and_then_given_up() {
    let mut ends = Ends::met(WebSocket);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    lend(&mut ends.client, number(1));
    ends.later(1_000);
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["ping"]);
    ends.later(999);
    assert_eq!(ends.client.attachment(), Some(number(1)));
    ends.later(1);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Silent)]);
}

#[test]
fn a_pong_or_a_receipt_for_more_ends_the_doubt() {
    for answer in [Frame::Pong(Some(2)), ack(1, 1)] {
        let mut ends = Ends::met(WebSocket);
        ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
        lend(&mut ends.client, number(1));
        ends.later(1_000);
        assert_eq!(lend(&mut ends.client, number(1)), [Frame::Ping(Some(2))]);
        ends.later(500);
        ends.client.handle_frame(ends.now, number(1), Via::Carrier, answer);
        ends.later(900);
        assert_eq!(ends.client.attachment(), Some(number(1)));
    }
}

/// A message of the server's comes down every so many milliseconds, for so long; nothing goes up.
fn chatter(ends: &mut Ends, first: u64, every: u64, millis: u64) -> u64 {
    let count = millis / every;
    for seq in first..first + count {
        ends.later(every);
        ends.client.handle_frame(ends.now, number(1), Via::Carrier, message(seq));
        ends.client.note_arrived(ends.now, number(1), seq);
    }
    first + count
}

#[test]
fn a_websocket_whose_uplink_is_dead_is_given_up_whatever_comes_down() {
    let mut ends = Ends::met(WebSocket);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    lend(&mut ends.client, number(1));
    // The answer time, and what a receipt may wait.
    let next = chatter(&mut ends, 1, 100, 2_900);
    assert!(!tags(&lend(&mut ends.client, number(1))).contains(&"ping"));
    let next = chatter(&mut ends, next, 100, 100);
    assert!(tags(&lend(&mut ends.client, number(1))).contains(&"ping"));
    chatter(&mut ends, next, 100, 1_200);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::UplinkLost)]);
}

#[test]
fn a_receipt_that_was_asked_for_may_not_wait() {
    let mut ends = Ends::met(WebSocket);
    let ticket = ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.client.await_receipt(ticket);
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["msg", "ping"]);
    let next = chatter(&mut ends, 1, 100, 1_000);
    assert!(lend(&mut ends.client, number(1)).contains(&Frame::Ping(Some(2))));
    chatter(&mut ends, next, 100, 1_200);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::UplinkLost)]);
}

#[test]
fn a_pong_behind_much_that_comes_down_has_its_time() {
    let mut ends = Ends::met(WebSocket);
    ends.client.check_path(ends.now);
    assert_eq!(lend(&mut ends.client, number(1)), [Frame::Ping(Some(2))]);
    let large = |seq_of: u64| {
        Frame::Message(Message {
            seq: seq(seq_of),
            kind: MessageKind::Plain,
            body: Body::from("m".repeat(16 << 10)),
        })
    };
    for seq in 1..=4 {
        ends.later(900);
        ends.client.handle_frame(ends.now, number(1), Via::Carrier, large(seq));
    }
    ends.later(1_300);
    assert_eq!(ends.client.attachment(), Some(number(1)));
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, Frame::Pong(Some(2)));
    ends.later(10_000);
    assert_eq!(detached(&mut ends.client), []);
}

#[test]
fn while_a_ping_waits_no_receipt_is_asked_for_by_another() {
    let mut ends = Ends::met(WebSocket);
    ends.client.check_path(ends.now);
    let ticket = ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.client.await_receipt(ticket);
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["ping", "msg"]);
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, Frame::Pong(Some(2)));
    assert_eq!(lend(&mut ends.client, number(1)), [Frame::Ping(None)]);
}

#[test]
fn an_idle_websocket_is_not_doubted() {
    let mut ends = Ends::met(WebSocket);
    ends.later(15_000);
    assert_eq!(lend(&mut ends.client, number(1)), []);
}

#[test]
fn much_that_is_on_its_way_has_its_time() {
    let mut ends = Ends::met(WebSocket);
    ends.client.send(MessageKind::Plain, Body::from("m".repeat(64 << 10))).unwrap();
    lend(&mut ends.client, number(1));
    ends.later(4_900);
    assert_eq!(lend(&mut ends.client, number(1)), []);
    ends.later(200);
    assert_eq!(tags(&lend(&mut ends.client, number(1))), ["ping"]);
}

#[test]
fn a_large_frame_that_comes_slowly_is_no_silence() {
    let mut ends = Ends::met(WebSocket);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    lend(&mut ends.client, number(1));
    for bytes in 1..20 {
        ends.client.note_arrived(ends.now, number(1), bytes * 1000);
        ends.later(900);
    }
    assert_eq!(ends.client.attachment(), Some(number(1)));
    ends.later(3_000);
    ends.later(3_000);
    assert_eq!(ends.client.attachment(), None);
}

#[test]
fn a_long_round_trip_makes_a_client_patient() {
    let mut ends = Ends::new();
    let attachment = ends.introduce(Sse, Intent::Attach);
    ends.say_hello(attachment);
    ends.later(500);
    ends.down(attachment);
    assert_eq!(ends.client.round_trip(), Some(Duration::from_millis(500)));
    ends.later(1_999);
    assert_eq!(ends.client.attachment(), Some(attachment));
    ends.later(1);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Unproved)]);
}

#[test]
fn a_poll_that_hangs_is_asked_again_without_a_hold_and_then_given_up() {
    let mut ends = Ends::met(LongPolling);
    // The first hold is short, so that this is soon known; then the answer time.
    ends.later(2_999);
    assert_eq!(lend(&mut ends.client, number(1)), []);
    ends.later(1);
    assert_eq!(poll_of(&lend(&mut ends.client, number(1))).hold_ms, 0);
    ends.later(999);
    assert_eq!(ends.client.attachment(), Some(number(1)));
    ends.later(1);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Unproved)]);
}

#[test]
fn a_hold_that_works_is_lengthened_and_one_that_was_cut_is_not() {
    for (lesson, holds) in [
        (Lesson::default(), [4_500, 6_750, 10_125, 15_187, 20_000, 20_000]),
        (
            Lesson { longest_hold: Some(Duration::from_millis(2_500)), ..Lesson::default() },
            [2_500, 2_500, 2_500, 2_500, 2_500, 2_500],
        ),
    ] {
        let mut ends = Ends::met(LongPolling);
        ends.client.learn(lesson);
        ends.later(2_000);
        ends.repoll();
        ends.later(500);
        let mut asked = Vec::new();
        for _ in holds {
            ends.later(20_000.min(ends.client.hold().as_millis().try_into().unwrap()));
            asked.push(ends.repoll().hold_ms);
            ends.later(500);
        }
        assert_eq!(asked, holds);
    }
}

#[test]
fn a_poll_that_hangs_and_a_new_attachment_begin_with_a_short_hold_again() {
    let mut ends = Ends::met(LongPolling);
    for _ in 0..3 {
        ends.later(ends.client.hold().as_millis().try_into().unwrap());
        ends.repoll();
        ends.later(500);
    }
    assert_eq!(ends.client.hold(), Duration::from_millis(6_750));
    ends.later(8_000);
    assert_eq!(poll_of(&lend(&mut ends.client, number(1))).hold_ms, 0);
    assert_eq!(ends.client.hold(), Duration::from_secs(2));
}

#[test]
fn after_so_much_silence_as_it_learned_a_client_pings() {
    for kind in [WebSocket, Sse] {
        let mut ends = Ends::met(kind);
        ends.client.learn(Lesson { ping_after: Some(Duration::from_millis(1_500)), ..Lesson::default() });
        for _ in 0..3 {
            ends.later(1_499);
            assert_eq!(lend(&mut ends.client, number(1)), []);
            ends.later(1);
            assert_eq!(tags(&ends.up(number(1), kind)), ["ping"]);
            assert_eq!(tags(&ends.down(number(1))), ["pong"]);
        }
    }
}

#[test]
fn an_application_may_ask_for_a_sign_of_life() {
    for kind in [WebSocket, Sse, LongPolling] {
        let mut ends = Ends::met(kind);
        ends.client.check_path(ends.now);
        let said = lend(&mut ends.client, number(1));
        let wanted = if kind == LongPolling { "poll" } else { "ping" };
        assert_eq!(tags(&said), [wanted]);
        ends.later(1_000);
        assert_eq!(detached(&mut ends.client).len(), 1, "{kind}");
    }
}

/// The client's carrier dies with what was put on it.
fn lose(ends: &mut Ends) {
    let attachment = ends.client.attachment().unwrap();
    ends.client.handle_detach(ends.now, attachment);
    ends.server.handle_detach(ends.now, attachment);
}

#[test]
fn after_two_carriers_without_progress_a_client_goes_on_in_small_steps() {
    let mut ends = Ends::met(WebSocket);
    for _ in 0..100 {
        ends.client.send(MessageKind::Plain, Body::from("m".repeat(100))).unwrap();
    }
    lend(&mut ends.client, number(1));
    lose(&mut ends);
    let second = ends.introduce(WebSocket, Intent::Attach);
    assert_eq!(lend(&mut ends.client, second).len(), 101, "all of it, behind hello");
    ends.client.handle_detach(ends.now, second);
    let third = ends.introduce(WebSocket, Intent::Attach);
    assert_eq!(tags(&lend(&mut ends.client, third)), ["hello"]);
    ends.client.handle_detach(ends.now, third);
    let fourth = ends.introduce(WebSocket, Intent::Attach);
    ends.say_hello(fourth);
    ends.down(fourth);
    assert_eq!(seqs(&ends.up(fourth, WebSocket)), (1..=11).collect::<Vec<_>>());
    ends.later(50);
    ends.down(fourth);
    assert_eq!(seqs(&ends.up(fourth, WebSocket)), (12..=32).collect::<Vec<_>>());
    lose(&mut ends);
    // What was acknowledged is not said again.
    let fifth = ends.introduce(WebSocket, Intent::Attach);
    ends.say_hello(fifth);
    ends.down(fifth);
    assert_eq!(
        seqs(&ends.up(fifth, WebSocket)),
        (33..=43).collect::<Vec<_>>(),
        "a fresh carrier, a small step"
    );
    ends.settle(fifth, WebSocket);
    for _ in 0..4 {
        ends.later(50);
        ends.settle(fifth, WebSocket);
    }
    assert_eq!(ends.client.held().0, 0);
    ends.send_both(40);
    assert_eq!(lend(&mut ends.client, fifth).len(), 40, "once all is through, no step is small");
}

#[test]
fn a_server_goes_on_in_small_steps_as_well() {
    let mut ends = Ends::met(WebSocket);
    for _ in 0..40 {
        ends.server.send(MessageKind::Plain, Body::from("m".repeat(100))).unwrap();
    }
    for _ in 0..2 {
        lend(&mut ends.server, ends.client.attachment().unwrap());
        lose(&mut ends);
        let next = ends.introduce(WebSocket, Intent::Attach);
        ends.say_hello(next);
    }
    let third = ends.client.attachment().unwrap();
    assert_eq!(seqs(&ends.down(third)), (1..=11).collect::<Vec<_>>());
    ends.later(50);
    ends.up(third, WebSocket);
    assert_eq!(seqs(&ends.down(third)), (12..=32).collect::<Vec<_>>());
}

#[test]
fn who_goes_in_small_steps_asks_for_the_receipt_of_each() {
    let slow = |config: &mut Config| config.light_ack_delay = Duration::from_secs(2);
    for speaks in [Role::Client, Role::Server] {
        let mut ends = Ends::with(slow, slow);
        ends.meet(WebSocket, Intent::Attach);
        let speaker = if speaks == Role::Client { &mut ends.client } else { &mut ends.server };
        for _ in 0..100 {
            speaker.send(MessageKind::Plain, Body::from("m".repeat(100))).unwrap();
        }
        // More was sent than a fresh carrier is given at first.
        for attachment in [1, 2].map(number) {
            lend(&mut ends.client, attachment);
            lend(&mut ends.server, attachment);
            lose(&mut ends);
            let next = ends.introduce(WebSocket, Intent::Attach);
            let hello = hello_of(&lend(&mut ends.client, next));
            bound(ends.server.handle_hello(ends.now, &hello));
            let welcome = lend(&mut ends.server, next).swap_remove(0);
            ends.client.handle_frame(ends.now, next, Via::Carrier, welcome);
        }
        lend(&mut ends.client, number(3));
        lose(&mut ends);
        let last = ends.introduce(WebSocket, Intent::Attach);
        ends.say_hello(last);
        // No time passes: no receipt comes by itself.
        for _ in 0..8 {
            ends.down(last);
            ends.up(last, WebSocket);
        }
        ends.down(last);
        assert_eq!((ends.client.held().0, ends.server.held().0), (0, 0), "{speaks:?}");
    }
}

#[test]
fn who_gets_no_receipts_is_not_careful() {
    let mut ends = Ends::with(|_| {}, |server| server.receipts = Receipts::Absent);
    for _ in 0..40 {
        ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    }
    for seen in [0, 0, 0] {
        let Ok(back) = ends.server.handle_return(ends.now, seq(seen)) else { panic!("it goes on") };
        assert_eq!(seqs(&lend(&mut ends.server, back.attachment)).len(), 40);
    }
}

#[test]
fn a_departure_tells_what_can_be_learned() {
    let mut ends = Ends::met(WebSocket);
    ends.later(3_000);
    ends.client.handle_detach(ends.now, number(1));
    let [idle] = departures(&mut ends.client)[..] else { panic!("one departure") };
    assert_eq!((idle.quiet, idle.fruitful, idle.owing), (Duration::from_secs(3), true, false));
    let mut ends = Ends::met(LongPolling);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.later(700);
    ends.client.handle_detach(ends.now, number(1));
    let [cut] = departures(&mut ends.client)[..] else { panic!("one departure") };
    assert_eq!((cut.polling, cut.owing), (Some(Duration::from_millis(700)), true));
}

#[test]
fn what_carries_brings_the_session_on_while_it_carries_and_when_another_takes_over() {
    let mut ends = Ends::met(WebSocket);
    assert!(ends.client.is_fruitful() && !ends.server.is_fruitful(), "nothing waits; a server does not ask");
    for _ in 0..2 {
        ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    }
    lend(&mut ends.client, number(1));
    assert!(!ends.client.is_fruitful());
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, ack(1, 1));
    assert!(ends.client.is_fruitful(), "one was acknowledged, though another waits");
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(candidate);
    ends.down(candidate);
    ends.up(candidate, WebSocket);
    ends.down(candidate);
    let [superseded] = departures(&mut ends.client)[..] else { panic!("one departure") };
    assert!(superseded.fruitful && superseded.owing);
}

/// The silence behind which a client finds its carrier dead, after a carrier's life so far.
fn deadly(kind: TransportKind, life: impl FnOnce(&mut Ends)) -> Option<Duration> {
    let mut ends = Ends::met(kind);
    life(&mut ends);
    for _ in 0..100 {
        // What it asks vanishes.
        lend(&mut ends.client, number(1));
        ends.later(500);
        if let [departure] = departures(&mut ends.client)[..] {
            return departure.idle;
        }
    }
    panic!("nobody notices");
}

#[test]
fn the_silence_that_a_path_did_not_outlive_is_told() {
    let second = Duration::from_secs(1);
    for kind in [WebSocket, Sse] {
        assert_eq!(deadly(kind, |_| {}), Some(20 * second), "{kind}: the heartbeat was due");
        let learned = |ends: &mut Ends| ends.client.learn(Lesson::new(Some(7 * second), None));
        assert_eq!(deadly(kind, learned), Some(7 * second), "{kind}: it had asked");
        let outlived = |ends: &mut Ends| {
            ends.later(20_000);
            ends.settle(number(1), kind);
        };
        assert_eq!(deadly(kind, outlived), None, "{kind}: it had outlived as much");
    }
    let spoke = |ends: &mut Ends| {
        ends.later(9_000);
        ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    };
    assert_eq!(deadly(WebSocket, spoke), Some(9 * second), "a message went unanswered");
    let busy = |ends: &mut Ends| ends.client.send(MessageKind::Plain, Body::from("m")).map(drop).unwrap();
    assert_eq!(deadly(WebSocket, busy), None, "it died in the middle of traffic");
}

#[test]
fn a_poll_that_was_lost_keeps_the_holds_short_for_ten_minutes() {
    let mut ends = Ends::met(LongPolling);
    let hold = |ends: &mut Ends| ends.client.hold();
    ends.client.note_hold(Duration::from_secs(12));
    ends.client.note_lost_poll();
    for _ in 0..10 {
        ends.client.lengthen_hold();
    }
    assert_eq!(hold(&mut ends), Duration::from_secs(6));
    ends.now += Duration::from_secs(599);
    ends.client.tick(ends.now);
    assert_eq!(hold(&mut ends), Duration::from_secs(6));
    ends.now += Duration::from_secs(1);
    ends.client.tick(ends.now);
    assert_eq!(hold(&mut ends), Duration::from_secs(6), "it goes on from there");
    for _ in 0..10 {
        ends.client.lengthen_hold();
    }
    // No longer than the heartbeat.
    assert_eq!(hold(&mut ends), Duration::from_secs(20));
}

#[test]
fn what_carries_is_told_to_be_proved_once_it_is() {
    for kind in [WebSocket, Sse, LongPolling] {
        let mut ends = Ends::new();
        let attachment = ends.introduce(kind, Intent::Attach);
        ends.say_hello(attachment);
        ends.down(attachment);
        let proved = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Proved { .. }));
        let seen = events(&mut ends.client);
        assert_eq!(proved(&seen), kind == WebSocket);
        if kind != WebSocket {
            ends.settle(attachment, kind);
            assert!(proved(&events(&mut ends.client)), "{kind}");
        }
    }
}

#[test]
fn a_server_tells_that_what_it_says_arrives_once_something_shows_that() {
    let told = |ends: &mut Ends| {
        events(&mut ends.server).iter().filter(|event| matches!(event, Event::Proved { .. })).count()
    };
    for (kind, speaks) in
        [(WebSocket, false), (WebSocket, true), (Sse, false), (Sse, true), (LongPolling, false)]
    {
        let mut ends = Ends::new();
        let attachment = ends.introduce(kind, Intent::Attach);
        ends.client.send(MessageKind::Plain, Body::from("up")).unwrap();
        ends.say_hello(attachment);
        assert_eq!(told(&mut ends), 0, "{kind}: what comes behind hello shows nothing");
        ends.down(attachment);
        if kind == LongPolling {
            ends.server.handle_detach(ends.now, attachment);
        }
        ends.settle(attachment, kind);
        assert_eq!(told(&mut ends), usize::from(kind == LongPolling), "{kind}");
        if speaks {
            burst(&mut ends, attachment, kind);
            ends.later(50);
        } else {
            // Its heartbeat, and the pong.
            ends.later(20_000);
        }
        ends.settle(attachment, kind);
        assert_eq!(told(&mut ends), usize::from(kind != LongPolling), "{kind}");
    }
}

/// Messages come down until the time is full, then nothing does.
fn burst(ends: &mut Ends, attachment: Attachment, kind: TransportKind) {
    ends.server.send(MessageKind::Plain, Body::from("down")).unwrap();
    ends.settle(attachment, kind);
}

#[test]
fn a_stream_that_is_held_back_though_it_was_proved_is_known_by_the_silence_behind_messages() {
    let mut ends = Ends::met(Sse);
    burst(&mut ends, number(1), Sse);
    ends.later(1_000);
    // Up it goes, and is answered; what the server says to it does not come down.
    assert!(tags(&ends.up(number(1), Sse)).contains(&"ping"));
    lend(&mut ends.server, number(1));
    ends.later(999);
    assert_eq!(ends.client.attachment(), Some(number(1)));
    ends.later(1);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Unproved)], "which demotes it");
}

#[test]
fn what_went_up_is_followed_by_the_same_question() {
    let mut ends = Ends::met(Sse);
    ends.client.send(MessageKind::Plain, Body::from("up")).unwrap();
    ends.up(number(1), Sse);
    for _ in 0..9 {
        ends.later(100);
        // More of it puts nothing off.
        ends.client.send(MessageKind::Plain, Body::from("up")).unwrap();
        assert_eq!(tags(&ends.up(number(1), Sse)), ["msg"]);
    }
    ends.later(100);
    assert_eq!(tags(&ends.up(number(1), Sse)), ["ping"]);
}

#[test]
fn a_dead_network_demotes_no_stream_that_is_on_trial() {
    let mut ends = Ends::met(Sse);
    burst(&mut ends, number(1), Sse);
    ends.later(1_000);
    assert!(tags(&lend(&mut ends.client, number(1))).contains(&"ping"));
    ends.later(1_000);
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Silent)]);
}

#[test]
fn a_trial_is_a_handful_of_questions_behind_messages_with_growing_gaps() {
    for kind in [WebSocket, Sse] {
        let mut ends = Ends::met(kind);
        burst(&mut ends, number(1), kind);
        let mut asked = Vec::new();
        for second in 1..=70 {
            ends.later(1_000);
            let said = ends.up(number(1), kind);
            ends.settle(number(1), kind);
            if tags(&said).contains(&"ping") {
                asked.push(second);
                burst(&mut ends, number(1), kind);
            }
        }
        // The last gap begins with the server's heartbeat.
        assert_eq!(asked, [1, 3, 7, 15, 36], "{kind}");
    }
}

#[test]
fn an_idle_path_and_one_that_has_carried_for_a_minute_are_asked_nothing() {
    for kind in [WebSocket, Sse] {
        let mut ends = Ends::met(kind);
        for _ in 0..70 {
            ends.later(1_000);
            let said = ends.up(number(1), kind);
            assert!(!tags(&said).contains(&"ping"), "{kind}: idle");
            ends.settle(number(1), kind);
        }
        burst(&mut ends, number(1), kind);
        for _ in 0..10 {
            ends.later(1_000);
            let said = ends.up(number(1), kind);
            assert!(!tags(&said).contains(&"ping"), "{kind}: settled");
            ends.settle(number(1), kind);
        }
    }
}

#[test]
fn where_there_is_no_other_transport_a_stream_that_is_held_back_stays() {
    let mut ends = Ends::met(Sse);
    ends.client.learn(Lesson { alone: true, ..Lesson::default() });
    burst(&mut ends, number(1), Sse);
    for _ in 0..15 {
        ends.later(1_000);
        assert!(!tags(&ends.up(number(1), Sse)).contains(&"ping"));
    }
    assert_eq!(detached(&mut ends.client), []);
}
