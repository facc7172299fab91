//! Candidates: introduced, proved, attached.

use super::*;

#[test]
fn a_candidate_carries_nothing_before_its_attach() {
    let mut ends = Ends::met(WebSocket);
    ends.send_both(1);
    let candidate = ends.introduce(Sse, Intent::Candidate);
    let hello = ends.say_hello(candidate);
    assert!(hello.candidate);
    assert_eq!(tags(&ends.down(candidate)), ["welcome"]);
    assert_eq!(tags(&lend(&mut ends.client, candidate)), ["ping"]);
    assert_eq!(ends.server.attachment(), Some(number(1)));
    assert_eq!(seqs(&ends.up(number(1), WebSocket)), [1], "the old path goes on");
}

#[test]
fn a_websocket_attaches_after_its_welcome() {
    let mut ends = Ends::met(WebSocket);
    ends.send_both(1);
    lend(&mut ends.server, number(1));
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(candidate);
    ends.down(candidate);
    assert_eq!(tags(&ends.up(candidate, WebSocket)), ["attach"]);
    assert_eq!(ends.client.attachment(), Some(number(1)), "until the server has answered");
    assert_eq!(lend(&mut ends.client, number(1)), [], "but nothing is sent there meanwhile");
    assert_eq!(tags(&ends.down(candidate)), ["ack", "msg"], "the answer comes before the replay");
    assert_eq!((ends.client.attachment(), ends.server.attachment()), (Some(candidate), Some(candidate)));
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Superseded)]);
}

#[test]
fn a_stream_attaches_when_the_pong_has_come_down() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(Sse, Intent::Candidate);
    ends.say_hello(candidate);
    ends.down(candidate);
    for frame in lend(&mut ends.client, candidate) {
        ends.server.handle_frame(ends.now, candidate, Via::Push, frame);
    }
    let pong = lend(&mut ends.server, candidate);
    assert_eq!(tags(&pong), ["pong"]);
    ends.client.handle_frame(ends.now, candidate, Via::Push, pong[0].clone());
    assert_eq!(lend(&mut ends.client, candidate), [], "beside the stream it proves nothing");
    ends.client.handle_frame(ends.now, candidate, Via::Carrier, pong[0].clone());
    assert_eq!(tags(&lend(&mut ends.client, candidate)), ["attach"]);
}

#[test]
fn on_long_polling_the_first_poll_attaches() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(LongPolling, Intent::Candidate);
    ends.say_hello(candidate);
    ends.down(candidate);
    ends.server.handle_detach(ends.now, candidate);
    let frames = ends.up(candidate, LongPolling);
    assert_eq!(tags(&frames), ["poll"]);
    assert_eq!(poll_of(&frames).hold_ms, 0, "what must prove something is not held");
    assert_eq!(ends.server.attachment(), Some(candidate));
    assert_eq!(tags(&ends.down(candidate)), ["ack"]);
    assert_eq!(ends.client.attachment(), Some(candidate));
}

#[test]
fn a_candidate_can_be_withdrawn_until_it_attaches() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.client.withdraw(ends.now, candidate);
    assert_eq!(detached(&mut ends.client), [(2, DetachReason::Superseded)]);
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(candidate);
    ends.down(candidate);
    assert_eq!(tags(&ends.up(candidate, WebSocket)), ["attach"]);
    ends.client.withdraw(ends.now, candidate);
    ends.client.withdraw(ends.now, number(1));
    assert_eq!(detached(&mut ends.client), [], "what carries, or may already, stays");
}

#[test]
fn a_third_candidate_ends_the_oldest() {
    let mut ends = Ends::met(WebSocket);
    for _ in 0..3 {
        let candidate = ends.introduce(Sse, Intent::Candidate);
        ends.say_hello(candidate);
    }
    assert_eq!(detached(&mut ends.server), [(2, DetachReason::Superseded)]);
    assert_eq!(ends.server.attachment(), Some(number(1)));
}

#[test]
fn a_candidate_ends_in_time() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(candidate);
    ends.server.handle_timeout(at(14_999));
    assert_eq!(detached(&mut ends.server), []);
    ends.server.handle_timeout(at(15_000));
    assert_eq!(detached(&mut ends.server), [(2, DetachReason::Unproved)]);
    assert_eq!(ends.server.attachment(), Some(number(1)));
}

#[test]
fn an_attach_without_answer_gives_the_candidate_up_and_the_old_path_goes_on() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(candidate);
    ends.down(candidate);
    lend(&mut ends.client, candidate);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    assert_eq!(lend(&mut ends.client, number(1)), []);
    ends.later(5000);
    assert_eq!(detached(&mut ends.client), [(2, DetachReason::Unproved)]);
    assert_eq!(seqs(&lend(&mut ends.client, number(1))), [1]);
}

#[test]
fn when_the_path_dies_the_best_welcomed_candidate_attaches_unproved() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(Sse, Intent::Candidate);
    ends.say_hello(candidate);
    ends.down(candidate);
    lend(&mut ends.client, candidate);
    ends.client.handle_detach(ends.now, number(1));
    assert_eq!(tags(&lend(&mut ends.client, candidate)), ["attach"]);
}

#[test]
fn a_candidate_that_waited_long_is_not_silent_at_its_attach() {
    let mut ends = Ends::with(|client| client.prove_within = Duration::from_secs(60), |_| {});
    ends.meet(WebSocket, Intent::Attach);
    let candidate = ends.introduce(Sse, Intent::Candidate);
    ends.say_hello(candidate);
    // A round trip so long makes the client patient with the proof.
    ends.later(9_000);
    ends.down(candidate);
    ends.client.handle_timeout(at(29_000));
    ends.client.handle_frame(at(29_000), number(1), Via::Carrier, Frame::Ping(None));
    ends.client.handle_timeout(at(40_000));
    ends.client.handle_detach(at(40_000), number(1));
    ends.client.handle_timeout(at(40_000));
    assert!(ends.client.poll_timeout().unwrap() > at(40_000));
    // The server has asked as well, for nothing had come beside the stream.
    assert_eq!(tags(&lend(&mut ends.client, candidate)), ["attach", "ping", "pong"]);
}

#[test]
fn the_client_never_attaches_below_what_it_has_tried() {
    let mut ends = Ends::met(WebSocket);
    let low = ends.introduce(Sse, Intent::Candidate);
    ends.say_hello(low);
    ends.down(low);
    ends.up(low, Sse);
    let high = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(high);
    ends.down(high);
    assert_eq!(tags(&lend(&mut ends.client, high)), ["attach"]);
    events(&mut ends.client);
    ends.down(low);
    assert_eq!(detached(&mut ends.client), [(2, DetachReason::Superseded)]);
}

#[test]
fn a_session_that_is_only_introduced_is_forgotten() {
    let mut ends = Ends::new();
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(candidate);
    ends.server.handle_timeout(at(9_999));
    assert!(!ends.server.is_ended());
    ends.server.handle_timeout(at(10_000));
    assert_eq!(ended(&mut ends.server).unwrap().close.code, CloseCode::TimedOut);
}

#[test]
fn an_attach_is_answered_though_it_came_before() {
    let mut ends = Ends::met(WebSocket);
    let attach = Frame::Attach(Attach { received: Seq::ZERO, taken: None });
    ends.server.handle_frame(ends.now, number(1), Via::Push, attach);
    assert_eq!(lend(&mut ends.server, number(1)), [ack(0, 0)]);
}
