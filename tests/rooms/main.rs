//! Rooms from end to end: a client's `Rooms` against a server's `Hub::serve`, over real sockets.

#![expect(clippy::unwrap_used, reason = "tests say what they expect by panicking")]

mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use stage::{Rights, Stage, client, kind, next, said, until};
use support::{Served, Wire, within};
use throughline::client::rooms::{Event, RoomError};
use throughline::frame::{Body, Json, TransportKind};
use throughline::hub::{
    Action, Hub, InboxBounds, Keep, MemoryInbox, OperationRate, ReadOnly, RoomConfig, Stats, Visitor,
};
use throughline::room::payload::{Change, Join, Notice, Who};
use throughline::server::{Attempt, Grant};
use throughline::session::Config;
use throughline::socket::{RequestError, State};
use throughline::{CloseCode, Principal, Rooms, Server, Socket};

fn keeping() -> Hub {
    let history = Keep { messages: 100, bytes: 1 << 20, age: Duration::from_secs(600) };
    Hub::builder()
        .rooms(move |_| {
            let mut config = RoomConfig::default();
            config.history = history;
            config
        })
        .build()
}

fn code(error: &RoomError) -> &str {
    match error {
        RoomError::Request(RequestError::Failed { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

fn named(name: &str) -> Who {
    Who::Principal(name.to_owned())
}

#[tokio::test]
async fn members_hear_what_is_said_and_by_whom_over_each_transport() {
    let stage = Stage::new(Hub::new()).await;
    for kind in TransportKind::ALL {
        let mut ada = stage.connect("ada", [kind]).await;
        let mut bob = stage.connect("bob", [kind]).await;
        let name = format!("room-{kind}");
        for rooms in [&mut ada, &mut bob] {
            let begin = within(10, "joins", rooms.room(&name).join(Join::default())).await.unwrap();
            assert_eq!(begin.at.value(), 0);
            assert!(matches!(next(rooms).await, Notice::Begin(told) if told == begin));
        }
        let room = ada.room(&name);
        let at = within(10, "says", room.publish("hi")).await.unwrap().unwrap();
        assert_eq!(at.offset.value(), 1);
        within(10, "says", room.publish_unanswered(vec![0, 255])).await.unwrap();
        for rooms in [&mut ada, &mut bob] {
            let heard = said(rooms).await;
            assert_eq!((heard.at.value(), heard.by, heard.body), (1, Some(named("ada")), Body::from("hi")));
            assert_eq!(said(rooms).await.body, Body::from(vec![0, 255]));
            assert_eq!(rooms.position(&name).unwrap().offset.value(), 2);
        }
        within(10, "leaves", bob.room(&name).leave()).await.unwrap();
        assert!(matches!(next(&mut bob).await, Notice::Left(left) if left.code == "asked"));
        assert_eq!(stage.hub.room(name.as_str()).len(), 1);
    }
}

#[tokio::test]
async fn what_an_authoriser_refuses_is_not_done_and_it_is_asked_again_when_the_session_is_back() {
    let rights = Rights::default();
    let hub = Hub::builder().authorize(rights.clone()).build();
    let stage = Stage::new(hub).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    let room = rooms.room("r");
    for (action, join) in [
        (Action::Join, Join::default()),
        (Action::History, Join { last: Some(1), ..Join::default() }),
        (Action::Presence, Join { presence: true, ..Join::default() }),
    ] {
        rights.refuse("ada", action);
        let refused = within(10, "is refused", room.join(join)).await.unwrap_err();
        assert_eq!(code(&refused), "forbidden");
        rights.allow("ada", action);
    }
    assert!(stage.hub.room("r").is_empty());
    rights.refuse("ada", Action::Publish);
    assert_eq!(code(&within(10, "is refused", room.publish("x")).await.unwrap_err()), "forbidden");
    rights.refuse("ada", Action::History);
    assert_eq!(code(&within(10, "is refused", room.history(None, 9)).await.unwrap_err()), "forbidden");
    within(10, "joins", room.join(Join::default())).await.unwrap();
    assert!(matches!(next(&mut rooms).await, Notice::Begin(_)));
    rights.refuse("ada", Action::Join);
    stage.wire.cut();
    assert!(matches!(next(&mut rooms).await, Notice::Left(left) if left.code == "forbidden"));
    assert!(stage.hub.room("r").is_empty());
    assert_eq!(rooms.position("r"), None);
}

#[tokio::test]
async fn a_principal_is_there_until_its_last_session_ends_and_not_while_it_is_only_cut() {
    let stage = Stage::new(Hub::new()).await;
    let mut watcher = stage.connect("ada", TransportKind::ALL).await;
    within(10, "joins", watcher.room("r").join(Join { presence: true, ..Join::default() })).await.unwrap();
    assert!(matches!(next(&mut watcher).await, Notice::Begin(_)));
    let Notice::Present(list) = next(&mut watcher).await else { panic!("a list") };
    assert_eq!((list.first, list.last, list.members.len()), (true, true, 1));
    let meta = Json::of("here").unwrap();
    let mut others = Vec::new();
    for _ in 0..2 {
        let rooms = stage.connect("bob", TransportKind::ALL).await;
        let join = Join { meta: Some(meta.clone()), ..Join::default() };
        within(10, "joins", rooms.room("r").join(join)).await.unwrap();
        others.push(rooms);
    }
    let Notice::Change(Change::Joined { member, .. }) = next(&mut watcher).await else { panic!("it came") };
    assert_eq!((member.who, member.meta), (named("bob"), Some(meta)));
    others.pop().unwrap().close(CloseCode::Normal, "");
    stage.wire.cut();
    let last = others.pop().unwrap();
    let away = Json::of("away").unwrap();
    within(10, "tells", last.room("r").update(Some(away.clone()))).await.unwrap();
    let Notice::Change(Change::Updated { member, .. }) = next(&mut watcher).await else { panic!("not gone") };
    assert_eq!((member.who, member.meta), (named("bob"), Some(away)));
    last.close(CloseCode::Normal, "");
    assert!(
        matches!(next(&mut watcher).await, Notice::Change(Change::Gone { who, .. }) if who == named("bob"))
    );
}

#[tokio::test]
async fn a_lost_session_takes_its_rooms_up_again_from_where_they_stand() {
    let mut stage = Stage::new(keeping()).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    let room = rooms.room("r");
    within(10, "joins", room.join(Join::default())).await.unwrap();
    within(10, "says", room.publish("one")).await.unwrap();
    assert!(matches!(next(&mut rooms).await, Notice::Begin(_)));
    assert_eq!(said(&mut rooms).await.body, Body::from("one"));
    // The node goes, and another takes its place that has the room: what was said meanwhile is told.
    stage.restart(stage.hub.clone()).await;
    for text in ["two", "three"] {
        stage.hub.room("r").publish(text).await.unwrap();
    }
    let Event::Lost(_) = until(&mut rooms, |event| matches!(event, Event::Lost(_))).await else { panic!() };
    let Notice::Begin(begin) = next(&mut rooms).await else { panic!("it begins again") };
    assert_eq!((begin.recovered, begin.at.value()), (true, 1));
    assert_eq!(said(&mut rooms).await.body, Body::from("two"));
    assert_eq!(said(&mut rooms).await.body, Body::from("three"));
    // Another that knows nothing of it: the client is told that it cannot be recovered.
    stage.restart(keeping()).await;
    until(&mut rooms, |event| matches!(event, Event::Lost(_))).await;
    let Notice::Begin(begin) = next(&mut rooms).await else { panic!("it begins anew") };
    assert_eq!((begin.recovered, begin.at.value()), (false, 0));
    within(10, "says", room.publish("four")).await.unwrap();
    assert_eq!(said(&mut rooms).await.at.value(), 1);
}

#[tokio::test]
async fn a_room_is_taken_up_again_though_as_many_requests_wait_as_may() {
    let mut stage = Stage::new(keeping()).await;
    let mut bounds = Config::default();
    bounds.max_requests = 4;
    let connecting = client(&stage.wire, "ada", TransportKind::ALL).session(bounds).connect();
    let mut rooms = Rooms::over(within(10, "the client connects", connecting).await.unwrap());
    within(10, "joins", rooms.room("r").join(Join::default())).await.unwrap();
    assert!(matches!(next(&mut rooms).await, Notice::Begin(_)));
    let (before, mut watch) = (rooms.id(), rooms.watch());
    stage.restart(stage.hub.clone()).await;
    // The new session has begun, and nobody was told of it yet.
    while rooms.id() == before || !matches!(rooms.state(), State::Connected { .. }) {
        within(10, "it is another session", watch.changed()).await;
    }
    let sender = rooms.socket().sender();
    let ask = |_| {
        let sender = sender.clone();
        tokio::spawn(async move { sender.request("x").await })
    };
    let waiting: Vec<_> = (0..4).map(ask).collect();
    tokio::task::yield_now().await;
    assert!(matches!(within(10, "is told", rooms.recv()).await, Ok(Event::Lost(_))));
    assert!(matches!(next(&mut rooms).await, Notice::Begin(_)));
    for request in waiting {
        assert_eq!(within(10, "is answered", request).await.unwrap(), Ok(Body::from("x")));
    }
}

#[tokio::test]
async fn what_a_lost_session_did_not_deliver_is_listed_as_it_was_given() {
    let mut stage = Stage::new(keeping()).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    within(10, "joins", rooms.room("r").join(Join::default())).await.unwrap();
    assert!(matches!(next(&mut rooms).await, Notice::Begin(_)));
    stage.wire.stall(true, false);
    let marked = Body::Json(Json::parse(r#"{"$":"mine"}"#).unwrap());
    within(10, "sends", rooms.send(marked.clone())).await.unwrap();
    let leaving = rooms.room("r");
    let leaving = tokio::spawn(async move { leaving.leave().await });
    stage.restart(stage.hub.clone()).await;
    stage.wire.stall(false, false);
    let Event::Lost(lost) = until(&mut rooms, |event| matches!(event, Event::Lost(_))).await else {
        panic!()
    };
    assert_eq!(lost.undelivered.first().map(|message| &message.body), Some(&marked));
    // Who had asked to leave has left.
    assert!(matches!(next(&mut rooms).await, Notice::Left(left) if left.code == "asked"));
    assert!(rooms.position("r").is_none());
    let _ = within(10, "is told", leaving).await;
}

#[tokio::test]
async fn history_comes_in_pages_that_say_where_they_begin() {
    let stage = Stage::new(keeping()).await;
    let rooms = stage.connect("ada", TransportKind::ALL).await;
    let room = rooms.room("r");
    let nowhere = within(10, "is refused", room.history(None, 9)).await.unwrap_err();
    assert_eq!(code(&nowhere), "no_room");
    for number in 0..5_u8 {
        let body = if number % 2 == 0 { Body::from(vec![number, 255]) } else { Body::from("text") };
        within(10, "says", room.publish(body)).await.unwrap();
    }
    let page = within(10, "a page", room.history(None, 3)).await.unwrap();
    let bodies: Vec<_> = page.said().unwrap().into_iter().map(|said| said.body).collect();
    assert_eq!(bodies, [Body::from(vec![0, 255]), Body::from("text"), Body::from(vec![2, 255])]);
    assert_eq!((page.from.offset.value(), page.head.value(), page.whole), (0, 5, true));
    let since = throughline::room::payload::Position { offset: page.said().unwrap()[2].at, ..page.from };
    let page = within(10, "the next", room.history(Some(since), 3)).await.unwrap();
    assert_eq!(page.said().unwrap().iter().map(|said| said.at.value()).collect::<Vec<_>>(), [4, 5]);
}

#[tokio::test]
async fn the_applications_own_messages_pass_whatever_they_look_like() {
    let stage = Stage::new(Hub::new()).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    let bodies = [
        Body::from("plain"),
        Body::json(&serde_json::json!({ "$": "join", "room": "r" })).unwrap(),
        Body::from(b"$ 100".to_vec()),
    ];
    for body in bodies {
        rooms.send(body.clone()).await.unwrap();
        let Event::Message(echo) = until(&mut rooms, |event| matches!(event, Event::Message(_))).await else {
            panic!()
        };
        assert_eq!(echo.body, body);
        assert_eq!(within(10, "answers", rooms.request(body.clone())).await.unwrap(), body);
        let sender = rooms.sender();
        assert_eq!(within(10, "answers", sender.request(body.clone())).await.unwrap(), body);
        sender.send_acked(body.clone()).await.unwrap();
        sender.try_send(body.clone()).unwrap();
        for _ in 0..2 {
            assert!(matches!(rooms.recv().await, Ok(Event::Message(echo)) if echo.body == body));
        }
    }
    assert!(stage.hub.is_empty());
}

#[tokio::test]
async fn messages_go_to_a_principal_to_a_session_and_to_all() {
    let stage = Stage::new(Hub::new()).await;
    let mut all = Vec::new();
    for name in ["ada", "ada", "bob"] {
        let mut rooms = stage.connect(name, TransportKind::ALL).await;
        // Served once it answers.
        within(10, "answers", rooms.request("x")).await.unwrap();
        assert!(stage.hub.to_session(rooms.id(), "you").unwrap());
        assert_eq!(heard(&mut rooms).await, Body::from("you"));
        all.push(rooms);
    }
    assert_eq!(stage.hub.to_principal(&Principal::new("ada"), "ada").unwrap(), 2);
    assert_eq!(stage.hub.to_principal(&Principal::new("eve"), "eve").unwrap(), 0);
    assert_eq!(stage.hub.to_all("all").unwrap(), 3);
    for (rooms, expected) in all.iter_mut().zip([2, 2, 1]) {
        if expected == 2 {
            assert_eq!(heard(rooms).await, Body::from("ada"));
        }
        assert_eq!(heard(rooms).await, Body::from("all"));
    }
    drop(all);
    support_until(|| stage.hub.sessions() == 0).await;
}

async fn heard(rooms: &mut throughline::Rooms) -> Body {
    match until(rooms, |event| matches!(event, Event::Message(_))).await {
        Event::Message(message) => message.body,
        _ => unreachable!(),
    }
}

async fn support_until(condition: impl Fn() -> bool) {
    let look = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(20, "it holds", look).await;
}

#[tokio::test]
async fn a_session_may_be_in_so_many_rooms_and_those_it_was_taken_from_do_not_count() {
    let stage = Stage::new(Hub::builder().max_joined(2).build()).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    for name in ["a", "b"] {
        within(10, "joins", rooms.room(name).join(Join::default())).await.unwrap();
    }
    let refused = within(10, "is refused", rooms.room("c").join(Join::default())).await.unwrap_err();
    assert_eq!(code(&refused), "too_many_joined");
    assert!(stage.hub.room("a").remove(rooms.id(), "out", "go"));
    until(&mut rooms, |event| matches!(kind(event), Some(Notice::Left(left)) if left.code == "out")).await;
    within(10, "joins", rooms.room("c").join(Join::default())).await.unwrap();
    assert_eq!(stage.hub.len(), 2);
}

#[derive(Clone, Debug, PartialEq)]
struct Role(String);

#[tokio::test]
async fn what_the_authenticator_granted_besides_reaches_the_handler_and_the_authoriser() {
    let by_role = |attempt: &Attempt<'_>| {
        let name = attempt.auth().and_then(|token| token.to::<String>().ok()).unwrap_or_default();
        let role = Role(name.clone());
        std::future::ready(if attempt.is_renewal() {
            Ok(Grant::to(name))
        } else {
            Ok(Grant::to(name).with(role))
        })
    };
    let handler = |socket: Socket, hub: Hub| async move {
        let role = socket.extension::<Role>().map(|role| role.0.clone());
        assert_eq!(socket.extension::<u8>(), None);
        let live = hub.serve(socket);
        assert_eq!(live.extension::<Role>().map(|role| role.0.clone()), role);
        let mut live = live;
        let _ = live.send(role.unwrap_or_default()).await;
        while live.recv().await.is_ok() {}
    };
    let writers = |visitor: &Visitor, _: &str, action: Action| {
        std::future::ready(action != Action::Publish || visitor.extension() == Some(&Role("writer".into())))
    };
    let hub = Hub::builder().authorize(writers).build();
    let server = Server::builder().hub(hub).authenticator(by_role).serve(handler).unwrap();
    let served = Served::new(&server).await;
    let wire = Wire::to(served.address).await;
    for name in ["writer", "reader"] {
        let connecting = client(&wire, name, TransportKind::ALL).connect();
        let mut rooms = Rooms::over(within(10, "the client connects", connecting).await.unwrap());
        assert!(matches!(
            within(10, "is told", rooms.recv()).await, Ok(Event::Message(message)) if message.body == name.into()
        ));
        let said = within(10, "says", rooms.room("r").publish("x")).await;
        assert_eq!(said.as_ref().err().map(code), (name == "reader").then_some("forbidden"));
    }
}

#[tokio::test]
async fn who_may_only_read_joins_and_says_nothing() {
    let stage = Stage::new(Hub::builder().authorize(ReadOnly).build()).await;
    let rooms = stage.connect("ada", TransportKind::ALL).await;
    within(10, "joins", rooms.room("r").join(Join { presence: true, ..Join::default() })).await.unwrap();
    let refused = within(10, "is refused", rooms.room("r").publish("x")).await.unwrap_err();
    assert_eq!(code(&refused), "forbidden");
}

#[tokio::test]
async fn what_is_no_operation_fails_and_the_session_goes_on() {
    let stage = Stage::new(Hub::new()).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    for (payload, expected) in [
        // As a message it is passed over.
        (r#"{"$":"dance"}"#, "unknown"),
        (r#"{"$":"join"}"#, "malformed"),
        (r#"{"$":"join","room":""}"#, "malformed"),
        (r#"{"$":"leave","room":"r"}"#, "no_member"),
    ] {
        let body = Json::parse(payload).unwrap();
        match within(10, "fails", rooms.socket().request(body.clone())).await {
            Err(RequestError::Failed { code, .. }) => assert_eq!(code, expected, "{payload}"),
            other => panic!("{payload}: {other:?}"),
        }
        rooms.socket().send(body).await.unwrap();
        if expected == "unknown" {
            continue;
        }
        let code = if expected == "no_member" { "no_request" } else { expected };
        assert!(matches!(next(&mut rooms).await, Notice::Failed(failed) if failed.code == code), "{payload}");
    }
    assert_eq!(within(10, "answers", rooms.request("still here")).await.unwrap(), Body::from("still here"));
}

#[tokio::test]
async fn operations_that_come_too_often_are_refused_and_leaving_is_free() {
    let rate = OperationRate { burst: 3, per_second: 0 };
    let stage = Stage::new(Hub::builder().operation_rate(rate).build()).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    let room = rooms.room("r");
    within(10, "joins", room.join(Join::default())).await.unwrap();
    within(10, "says", room.publish("one")).await.unwrap();
    within(10, "says", room.publish("two")).await.unwrap();
    assert_eq!(code(&within(10, "is refused", room.publish("three")).await.unwrap_err()), "too_often");
    assert_eq!(code(&within(10, "is refused", room.history(None, 9)).await.unwrap_err()), "too_often");
    within(10, "says", room.publish_unanswered("four")).await.unwrap();
    until(&mut rooms, |event| {
        matches!(kind(event), Some(Notice::Failed(failed)) if (&*failed.room, &*failed.code) == ("r", "too_often"))
    })
    .await;
    // The application's own messages are not counted, and others have a pace of their own.
    assert_eq!(within(10, "answers", rooms.request("x")).await.unwrap(), Body::from("x"));
    let other = stage.connect("ada", TransportKind::ALL).await;
    within(10, "says", other.room("r").publish("three")).await.unwrap();
    within(10, "leaves", room.leave()).await.unwrap();
    assert_eq!((stage.hub.stats().too_often, stage.hub.stats().said), (3, 3));
}

#[tokio::test]
async fn the_operator_sees_what_there_is_and_what_was_refused() {
    let rights = Rights::default();
    let hub =
        Hub::builder().authorize(rights.clone()).inbox(MemoryInbox::new(InboxBounds::default()).unwrap());
    let stage = Stage::new(hub.build()).await;
    assert_eq!(stage.hub.stats(), Stats::default());
    stage.hub.deliver(&Principal::new("ada"), "kept").await.unwrap();
    let mut ada = stage.connect("ada", TransportKind::ALL).await;
    let bob = stage.connect("bob", TransportKind::ALL).await;
    for name in ["a", "b"] {
        within(10, "joins", ada.room(name).join(Join::default())).await.unwrap();
    }
    within(10, "joins", bob.room("a").join(Join::default())).await.unwrap();
    within(10, "says", bob.room("a").publish("hi")).await.unwrap();
    rights.refuse("bob", Action::Publish);
    within(10, "is refused", bob.room("a").publish("hi")).await.unwrap_err();
    within(10, "fails", bob.socket().request(Json::parse(r#"{"$":"join"}"#).unwrap())).await.unwrap_err();
    until(&mut ada, |event| matches!(event, Event::Kept(_))).await;
    support_until(|| stage.hub.stats().kept_received == 1).await;
    let stats = stage.hub.stats();
    assert_eq!((stats.sessions, stats.rooms, stats.members), (2, 2, 3));
    assert_eq!((stats.said, stats.forbidden, stats.malformed, stats.kept), (1, 1, 1, 1));
    assert_eq!((stats.left_out, stats.ended_slow, stats.too_often, stats.misfits), (0, 0, 0, 0));
    // A right that is taken back at a resume counts as well.
    rights.refuse("ada", Action::Join);
    stage.wire.cut();
    support_until(|| stage.hub.stats().forbidden == 3).await;
    assert_eq!(stage.hub.stats().members, 1);
    drop((ada, bob));
    support_until(|| stage.hub.stats().sessions == 0).await;
    let stats = stage.hub.stats();
    assert_eq!((stats.rooms, stats.members, stats.said), (0, 0, 1));
}

#[tokio::test]
async fn operations_are_answered_though_the_handler_drops_its_receiving_again_and_again() {
    let stage = Stage::dropping(keeping()).await;
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    let room = rooms.room("r");
    within(10, "joins", room.join(Join::default())).await.unwrap();
    for number in 1..=20 {
        let at = within(10, "says", room.publish("x")).await.unwrap().unwrap();
        assert_eq!(at.offset.value(), number, "each is said once");
    }
    assert!(matches!(next(&mut rooms).await, Notice::Begin(_)));
    for number in 1..=20 {
        assert_eq!(said(&mut rooms).await.at.value(), number);
    }
}

#[tokio::test]
async fn a_request_that_is_not_answered_fails_with_its_session_and_one_given_up_disturbs_no_other() {
    let stage = Stage::new(Hub::new()).await;
    let rooms = stage.connect("ada", TransportKind::ALL).await;
    let given_up = tokio::time::timeout(Duration::from_millis(1), rooms.request("never")).await;
    assert!(given_up.is_err());
    stage.wire.cut();
    assert_eq!(within(10, "answers", rooms.request("once")).await.unwrap(), Body::from("once"));
    let waiting = rooms.request("never");
    let ending = async {
        support_until(|| stage.never() == 2).await;
        stage.server().close(rooms.id(), CloseCode::Normal, "enough");
    };
    let (answer, ()) = within(10, "fails", async { tokio::join!(waiting, ending) }).await;
    assert_eq!(answer, Err(RequestError::Lost));
}

#[tokio::test]
async fn a_client_without_the_layer_is_a_member_as_before() {
    let stage = Stage::new(Hub::new()).await;
    let rooms = stage.connect("ada", TransportKind::ALL).await;
    let mut plain =
        within(10, "connects", client(&stage.wire, "plain", TransportKind::ALL).connect()).await.unwrap();
    within(10, "joins", rooms.room("open").join(Join::default())).await.unwrap();
    within(10, "says", rooms.room("open").publish("hi")).await.unwrap();
    assert_eq!(within(10, "hears", plain.recv()).await.unwrap().body, Body::from("hi"));
}
