//! Clients without a library.

use throughline::frame::{Frame, TransportKind, Window};
use throughline::{Hub, Server, Socket};

use super::raw::{Host, WEBSOCKET, Wire, echo, hello, text, watchdog};

/// Everybody listens to one room.
async fn listen(mut socket: Socket, hub: Hub) {
    let Ok(_member) = hub.room("news").join(&socket).await else { return };
    while socket.recv().await.is_ok() {}
}

fn events(last: Option<&str>) -> String {
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    format!("GET /live HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n{last}\r\n")
}

/// Opens a stream of events, and waits until its first one.
async fn stream(host: &Host, last: Option<&str>) -> (Wire, String) {
    let mut wire = host.open(events(last)).await;
    let head = watchdog(wire.until(b"\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let first = event(&mut wire).await;
    (wire, first)
}

/// The next event, without the sizes of chunks.
async fn event(wire: &mut Wire) -> String {
    let text = watchdog(wire.until(b"\n\n")).await;
    let lines = text.lines().filter(|line| line.contains(':'));
    lines.collect::<Vec<_>>().join("\n")
}

fn id_of(event: &str) -> &str {
    event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap()
}

async fn joined(host: &Host, count: usize) {
    watchdog(async {
        while host.live.hub().room("news").len() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_stream_tells_its_place_then_payloads() {
    let host = Host::of(Server::builder().serve(listen).unwrap()).await;
    let (mut wire, first) = stream(&host, None).await;
    assert!(first.starts_with("id: ") && first.ends_with(".0"), "{first}");
    joined(&host, 1).await;
    host.live.hub().room("news").publish("a").await.unwrap();
    let token = id_of(&first).strip_suffix(".0").unwrap();
    assert_eq!(event(&mut wire).await, format!("id: {token}.1\ndata: \"a\""));
}

#[tokio::test]
async fn an_event_stream_goes_on_where_it_broke_off() {
    let host = Host::of(Server::builder().serve(listen).unwrap()).await;
    let (wire, first) = stream(&host, None).await;
    joined(&host, 1).await;
    drop(wire);
    for body in ["a", "b"] {
        host.live.hub().room("news").publish(body).await.unwrap();
    }
    let token = id_of(&first).strip_suffix(".0").unwrap();
    let (mut wire, again) = stream(&host, Some(&format!("{token}.1"))).await;
    assert_eq!(again, format!("id: {token}.1"));
    assert_eq!(event(&mut wire).await, format!("id: {token}.2\ndata: \"b\""));
    assert_eq!(host.live.sessions(), 1);
}

#[tokio::test]
async fn a_place_that_is_not_known_is_told_lost_with_200() {
    let host = Host::of(Server::builder().serve(listen).unwrap()).await;
    let (_, first) = stream(&host, None).await;
    let wrong_key = id_of(&first).replace('.', ".A");
    for last in ["17", "x.y.1", &wrong_key] {
        let (_, told) = stream(&host, Some(last)).await;
        assert!(told.contains("event: lost"), "{told}");
        assert!(id_of(&told).ends_with(".0"));
    }
}

#[tokio::test]
async fn a_place_that_has_been_dropped_or_never_was_is_told_lost() {
    let bound = Window { messages: 2, bytes: 2 << 20 };
    let host = Host::of(Server::builder().send_buffer(bound).serve(listen).unwrap()).await;
    let (wire, first) = stream(&host, None).await;
    joined(&host, 1).await;
    drop(wire);
    for body in ["a", "b", "c", "d"] {
        host.live.hub().room("news").publish(body).await.unwrap();
    }
    let token = id_of(&first).strip_suffix(".0").unwrap();
    for seen in ["1", "99"] {
        let (mut wire, told) = stream(&host, Some(&format!("{token}.{seen}"))).await;
        assert_eq!(told, format!("id: {token}.2\nevent: lost\ndata: "));
        assert_eq!(event(&mut wire).await, format!("id: {token}.3\ndata: \"c\""));
    }
}

#[tokio::test]
async fn an_event_source_is_not_turned_away_for_good_by_what_passes() {
    let host = Host::of(Server::builder().max_sessions(1).serve(listen).unwrap()).await;
    let (_wire, _) = stream(&host, None).await;
    let answer = host.ask(events(None)).await;
    assert_eq!((answer.status, answer.text()), (200, "retry: 5000\n: overloaded\n\n"));
}

#[tokio::test]
async fn plain_event_streams_can_be_turned_off() {
    let host = Host::of(Server::builder().plain_events(false).serve(listen).unwrap()).await;
    assert_eq!(host.ask(events(None)).await.close(), (406, "not_acceptable".into()));
}

#[tokio::test]
async fn a_session_that_was_closed_goes_on_as_a_fresh_one() {
    let host = Host::of(Server::builder().serve(|_socket, _hub| async {}).unwrap()).await;
    let (mut wire, first) = stream(&host, None).await;
    assert_eq!(event(&mut wire).await, "event: close\ndata: normal: ");
    let (_, told) = stream(&host, Some(id_of(&first))).await;
    assert!(told.contains("event: lost"), "{told}");
}

#[tokio::test]
async fn a_plain_websocket_carries_payloads_where_the_host_allows_it() {
    let plain =
        WEBSOCKET.replace("/live", "/live?plain").replace("Sec-WebSocket-Protocol: throughline.v1\r\n", "");
    let host = Host::echo(Server::builder()).await;
    assert_eq!(host.ask(&plain).await.close(), (406, "not_acceptable".into()));
    let host = Host::of(Server::builder().plain_websocket(true).serve(echo).unwrap()).await;
    let mut wire = host.websocket(&plain).await;
    wire.say("{\"a\":1}").await;
    assert_eq!(wire.hear().await, (1, b"{\"a\":1}".to_vec()));
    wire.say("not json").await;
    assert_eq!(wire.hear().await, (1, b"\"not json\"".to_vec()));
    drop(wire);
    watchdog(async {
        while host.live.sessions() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// It would say its key to the application.
#[tokio::test]
async fn who_names_the_subprotocol_is_no_plain_client_whatever_the_query_says() {
    let host = Host::echo(Server::builder().plain_websocket(true)).await;
    let mut wire = host.websocket(&WEBSOCKET.replace("/live", "/live?plain")).await;
    wire.say(&text(&[hello(TransportKind::WebSocket)])).await;
    assert!(matches!(wire.frames().await[0], Frame::Welcome(_)));
}
