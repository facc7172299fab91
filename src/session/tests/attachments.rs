//! Attachments: numbers decide, arrival never does.

use super::*;

#[test]
fn the_first_attach_is_new_and_every_later_one_resumes() {
    let mut ends = Ends::new();
    for (count, resumed) in [(1, false), (2, true), (3, true)] {
        let attachment = ends.introduce(WebSocket, Intent::Attach);
        assert_eq!(attachment, number(count));
        ends.say_hello(attachment);
        let welcome = ends.down(attachment);
        assert!(matches!(&welcome[0], Frame::Welcome(welcome) if welcome.resumed == resumed));
        for session in [&mut ends.client, &mut ends.server] {
            let of = |event: &Event| matches!(event, Event::Attached { resumed: r, .. } if *r == resumed);
            assert!(events(session).iter().any(of), "{count}");
        }
    }
}

#[test]
fn the_same_hello_gets_the_same_welcome_and_the_handler_does_not_run_again() {
    let mut ends = Ends::new();
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    let hello = ends.say_hello(attachment);
    let first = lend(&mut ends.server, attachment);
    bound(ends.server.handle_hello(ends.now, &hello));
    assert_eq!(lend(&mut ends.server, attachment), first);
    let runs = |event: &&Event| matches!(event, Event::Attached { resumed: false, .. });
    assert_eq!(events(&mut ends.server).iter().filter(runs).count(), 1);
}

#[test]
fn a_repeated_hello_replays_on_the_newer_carrier() {
    let mut ends = Ends::new();
    ends.server.send(MessageKind::Plain, Body::from("m")).unwrap();
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    let hello = ends.say_hello(attachment);
    assert_eq!(tags(&lend(&mut ends.server, attachment)), ["welcome", "msg"]);
    bound(ends.server.handle_hello(ends.now, &hello));
    assert_eq!(tags(&lend(&mut ends.server, attachment)), ["welcome", "msg"]);
}

#[test]
fn a_lower_hello_is_superseded_and_changes_nothing() {
    let mut ends = Ends::new();
    let first = ends.introduce(WebSocket, Intent::Attach);
    let late = hello_of(&lend(&mut ends.client, first));
    let second = ends.meet(WebSocket, Intent::Attach);
    let close = refused(ends.server.handle_hello(ends.now, &late));
    assert_eq!((close.code.clone(), close.detail.attachment), (CloseCode::Superseded, Some(second)));
    assert_eq!(ends.server.attachment(), Some(second));
    assert_eq!(events(&mut ends.server).len(), 0);
}

#[test]
fn a_higher_attachment_fences_the_lower_with_a_close_that_names_it() {
    let mut ends = Ends::met(WebSocket);
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    ends.say_hello(attachment);
    let closes: Vec<_> = events(&mut ends.server)
        .into_iter()
        .filter_map(|event| match event {
            Event::Detached { attachment, close, .. } => Some((attachment, close)),
            _ => None,
        })
        .collect();
    assert_eq!(closes, [(number(1), Some(Close::superseded(attachment)))]);
    assert_eq!(lend(&mut ends.server, number(1)), [], "nothing more is written to it");
}

#[test]
fn a_lower_poll_is_superseded_and_a_lower_push_is_judged_by_its_ids() {
    let mut ends = Ends::met(LongPolling);
    let late = Poll { received: Seq::ZERO, ..poll_of(&[poll(&ends)]) };
    ends.meet(WebSocket, Intent::Attach);
    assert_eq!(refused(ends.server.handle_poll(ends.now, &late)).code, CloseCode::Superseded);
    ends.server.handle_frame(ends.now, number(1), Via::Push, message(1));
    ends.server.handle_frame(ends.now, number(1), Via::Push, Frame::Ping(Some(9)));
    assert_eq!(delivered(&mut ends.server), [1]);
    ends.later(60);
    assert_eq!(lend(&mut ends.server, number(2)), [ack(1, 0)], "and its other frames are ignored");
}

fn poll(ends: &Ends) -> Frame {
    Frame::Poll(Box::new(Poll {
        session: ends.client.id(),
        key: SessionKey::from_bytes([2; 32]),
        epoch: ends.server.epoch().unwrap(),
        attachment: number(1),
        received: Seq::ZERO,
        taken: None,
        hold_ms: 1000,
    }))
}

#[test]
fn another_epoch_is_an_unknown_session() {
    let mut ends = Ends::met(WebSocket);
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    let hello = hello_of(&lend(&mut ends.client, attachment));
    let other = Hello { epoch: Some(Epoch::from_bytes([9; 8])), ..hello };
    let close = refused(ends.server.handle_hello(ends.now, &other));
    assert_eq!(close.code, CloseCode::UnknownSession);
    ends.client.handle_frame(ends.now, attachment, Via::Carrier, Frame::Close(close));
    assert_eq!(ended(&mut ends.client).unwrap().by, EndedBy::Peer);
}

#[test]
fn a_welcome_of_another_life_ends_the_session() {
    let mut ends = Ends::met(WebSocket);
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    ends.say_hello(attachment);
    let Some(Frame::Welcome(mut welcome)) = ends.server.poll_transmit(attachment).cloned() else { panic!() };
    welcome.epoch = Epoch::from_bytes([9; 8]);
    ends.client.handle_frame(ends.now, attachment, Via::Carrier, Frame::Welcome(welcome));
    assert_eq!(ended(&mut ends.client).unwrap().close.code, CloseCode::UnknownSession);
}

#[test]
fn a_welcome_that_receipts_have_overtaken_is_good() {
    let mut ends = Ends::met(WebSocket);
    let candidate = ends.introduce(WebSocket, Intent::Candidate);
    ends.say_hello(candidate);
    let welcome = lend(&mut ends.server, candidate);
    ends.client.send(MessageKind::Plain, Body::from("m")).unwrap();
    ends.up(number(1), WebSocket);
    ends.later(60);
    ends.down(number(1));
    assert_eq!(ends.client.acked(), seq(1));
    welcome.into_iter().for_each(|frame| ends.client.handle_frame(ends.now, candidate, Via::Carrier, frame));
    assert!(!ends.client.is_ended());
}

#[test]
fn a_client_superseded_by_a_number_it_never_used_stops() {
    let mut ends = Ends::met(WebSocket);
    let close = Frame::Close(Close::superseded(number(2)));
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, close);
    assert_eq!(ended(&mut ends.client).unwrap().close.code, CloseCode::Superseded);
    assert_eq!(ends.client.introduce(ends.now, WebSocket, Intent::Attach, None), None);
}

#[test]
fn a_client_superseded_by_its_own_number_comes_back() {
    let mut ends = Ends::met(WebSocket);
    ends.introduce(WebSocket, Intent::Candidate);
    let close = Close::superseded(number(2));
    ends.client.handle_frame(ends.now, number(1), Via::Carrier, Frame::Close(close.clone()));
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Closed(close))]);
    assert!(ends.client.is_open());
}

#[test]
fn a_client_ignores_what_a_transport_it_gave_up_still_says() {
    let mut ends = Ends::met(WebSocket);
    ends.introduce(WebSocket, Intent::Attach);
    for frame in [message(1), ack(5, 5), Frame::Close(normal())] {
        ends.client.handle_frame(ends.now, number(1), Via::Carrier, frame);
    }
    assert!(ends.client.is_open());
    assert_eq!(delivered(&mut ends.client), [0; 0]);
}

#[test]
fn a_stream_that_does_not_begin_with_welcome_is_not_ours() {
    let mut ends = Ends::new();
    let attachment = ends.introduce(WebSocket, Intent::Attach);
    lend(&mut ends.client, attachment);
    ends.client.handle_frame(ends.now, attachment, Via::Carrier, message(1));
    assert_eq!(detached(&mut ends.client), [(1, DetachReason::Malformed)]);
}

#[test]
fn a_fresh_token_goes_at_once_and_is_said_again_until_confirmed() {
    let token = Json::of("fresh").unwrap();
    let mut ends = Ends::met(Sse);
    ends.client.refresh_auth(token.clone());
    assert_eq!(lend(&mut ends.client, number(1)), [Frame::Auth(token.clone())]);
    ends.client.handle_push_ended(ends.now, number(1), false);
    ends.up(number(1), Sse);
    assert!(matches!(events(&mut ends.server)[..], [Event::Auth(_)]));
    ends.server.accept_auth(ends.now, 7);
    ends.down(number(1));
    assert!(matches!(events(&mut ends.client)[..], [Event::AuthAccepted { expires_ms: 7 }]));
    ends.client.handle_push_ended(ends.now, number(1), false);
    assert!(!tags(&lend(&mut ends.client, number(1))).contains(&"auth"));
    let next = ends.introduce(Sse, Intent::Attach);
    assert_eq!(hello_of(&lend(&mut ends.client, next)).auth, Some(token));
}
