//! What each kind of request is answered, session or not.

use throughline::frame::{Frame, TransportKind};
use throughline::{Server, SessionId};

use super::raw::{Host, WEBSOCKET, hello, id, json, message, poll, post, push, watchdog};

fn get(headers: &str) -> String {
    format!("GET /live HTTP/1.1\r\nHost: test\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_bare_get_is_answered_by_the_discovery_document() {
    let host = Host::echo(Server::builder()).await;
    let answer = host.ask(get("")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(document["name"], "throughline");
    assert_eq!(document["protocols"], serde_json::json!(["throughline.v1"]));
    assert_eq!(document["transports"], serde_json::json!(["websocket", "sse", "long-polling"]));
    assert_eq!(answer.header("cache-control"), Some("no-store, no-transform"));
}

#[tokio::test]
async fn the_client_for_browsers_is_served_and_kept_by_them() {
    let host = Host::echo(Server::builder().allow_origin("https://app.example")).await;
    let get = |headers: &str| format!("GET /live?client.js HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    let answer = host.ask(get("Accept: */*\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("content-encoding"), None);
    assert!(answer.text().contains("export{") && answer.text().contains("throughline.v1"));
    let tag = answer.header("etag").unwrap().to_owned();
    let again = host.ask(get(&format!("If-None-Match: \"other\", W/{tag}\r\n"))).await;
    assert_eq!((again.status, again.header("etag"), again.body.len()), (304, Some(&*tag), 0));
    let other = host.ask(get("If-None-Match: \"other\"\r\n")).await;
    assert_eq!(other.status, 200);
    let shared = host.ask(get("Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n")).await;
    let allowed = shared.header("access-control-allow-origin");
    assert_eq!((shared.status, allowed), (200, Some("https://app.example")));
    let refused = host.ask(get("Origin: https://evil.example\r\n")).await;
    assert_eq!(refused.close(), (403, "forbidden".into()));
    let rooms = host.ask(get("").replace("client.js", "rooms.js")).await;
    assert_eq!((rooms.status, rooms.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    assert!(rooms.text().contains("presence") && rooms.header("etag") != Some(&*tag));
}

#[tokio::test]
async fn the_client_for_browsers_can_be_turned_off() {
    let host = Host::echo(Server::builder().browser_client(false)).await;
    for script in ["client.js", "rooms.js"] {
        let answer = host.ask(format!("GET /live?{script} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    }
}

#[tokio::test]
async fn a_stripped_upgrade_is_told_apart() {
    let host = Host::echo(Server::builder()).await;
    let stripped = WEBSOCKET.replace("Connection: Upgrade\r\nUpgrade: websocket\r\n", "");
    let answer = host.ask(stripped).await;
    assert_eq!(answer.status, 426);
    assert!(answer.text().contains("taken it out"));
    let answer = host.ask(WEBSOCKET.replace("Version: 13", "Version: 8")).await;
    assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")));
}

#[tokio::test]
async fn a_websocket_without_a_key_is_what_a_box_made_of_http2s() {
    let host = Host::echo(Server::builder()).await;
    let keyless = WEBSOCKET.replace("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "");
    let mut wire = host.open(&keyless).await;
    let head = watchdog(wire.until(b"\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("sec-websocket-accept"), "{head}");
    let stripped = keyless.replace("Connection: Upgrade\r\nUpgrade: websocket\r\n", "");
    assert_eq!(host.ask(stripped).await.status, 426);
    let wrong = WEBSOCKET.replace("AAAAAAAAAAAAAAAAAAAAAA==", "AAAA");
    assert_eq!(host.ask(wrong).await.status, 400);
}

#[tokio::test]
async fn a_websocket_is_accepted_only_with_the_subprotocol() {
    let host = Host::echo(Server::builder()).await;
    let mut wire = host.open(WEBSOCKET).await;
    let head = watchdog(wire.until(b"\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101 "));
    assert!(head.contains("sec-websocket-accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI="), "{head}");
    assert!(head.contains("sec-websocket-protocol: throughline.v1"));
    let none = WEBSOCKET.replace("Sec-WebSocket-Protocol: throughline.v1\r\n", "");
    assert_eq!(host.ask(none).await.close(), (400, "unsupported_version".into()));
    let other = WEBSOCKET.replace("throughline.v1", "throughline.v2, chat");
    assert_eq!(host.ask(other).await.close(), (400, "unsupported_version".into()));
    let broken = WEBSOCKET.replace("AAAAAAAAAAAAAAAAAAAAAA==", "AAAA");
    assert_eq!(host.ask(broken).await.close(), (400, "protocol_error".into()));
}

#[tokio::test]
async fn a_connection_that_its_host_does_not_upgrade_ends_instead_of_hanging() {
    let host = Host::without_upgrades(Server::builder().serve(super::raw::echo).unwrap()).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    assert!(watchdog(wire.rest()).await.is_empty());
}

#[tokio::test]
async fn without_an_upgrade_in_the_request_the_answer_names_the_cause() {
    let live = Server::builder().serve(super::raw::echo).unwrap();
    let request = http::Request::builder()
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
        .header("sec-websocket-protocol", "throughline.v1")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = hyper::service::Service::call(&live.service(), request).await.unwrap();
    assert_eq!(answer.status(), 501);
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("with_upgrades"));
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let host = Host::echo(Server::builder()).await;
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = host.ask(format!("{method} /live HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, POST, OPTIONS")));
    }
}

#[tokio::test]
async fn bodies_that_are_none_are_refused_with_a_close() {
    let host = Host::echo(Server::builder()).await;
    let long = format!("Content-Length: {}\r\n", 2 << 20);
    let table = [
        (post(b"", ""), (400, "protocol_error")),
        (post(b"[]", ""), (400, "protocol_error")),
        (post(b"nonsense", ""), (400, "protocol_error")),
        (post(&json(&[message(1, "a")]), ""), (400, "protocol_error")),
        (post(&json(&[hello(TransportKind::WebSocket)]), ""), (400, "protocol_error")),
        (post(b"[\"ack\",1]", ""), (400, "protocol_error")),
        (post(&json(&[hello(TransportKind::Sse)]), "Accept: image/png\r\n"), (406, "not_acceptable")),
        (post(b"a=b", "Content-Type: application/x-www-form-urlencoded\r\n"), (406, "not_acceptable")),
        (format!("POST / HTTP/1.1\r\nHost: test\r\n{long}\r\n").into_bytes(), (413, "too_large")),
    ];
    for (request, (status, code)) in table {
        let answer = host.ask(&request).await;
        assert_eq!(answer.close(), (status, code.into()), "{}", String::from_utf8_lossy(&request));
    }
    assert_eq!(host.live.sessions(), 0);
}

#[tokio::test]
async fn what_is_wrong_behind_a_hello_refuses_the_hello() {
    let host = Host::echo(Server::builder()).await;
    let body = [json(&[hello(TransportKind::LongPolling)]), b"\n[]".to_vec()].concat();
    assert_eq!(host.ask(post(&body, "")).await.close(), (400, "protocol_error".into()));
    assert_eq!(host.live.sessions(), 0);
}

#[tokio::test]
async fn a_body_that_drips_is_given_up() {
    let deadline = std::time::Duration::from_millis(20);
    let host = Host::echo(Server::builder().body_deadline(deadline)).await;
    let mut wire = host.open("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n[").await;
    let answer = watchdog(wire.answer()).await;
    // Without a close: a slow network ends no session.
    assert_eq!((answer.status, answer.text()), (408, "the body took too long\n"));
}

#[tokio::test]
async fn the_query_must_name_the_session_of_the_body() {
    let host = Host::echo(Server::builder()).await;
    let other = SessionId::from_bytes([9; 16]);
    let at = |query: &str, frames: &[Frame]| {
        let request = String::from_utf8(post(&json(frames), "")).unwrap();
        request.replacen("/live", &format!("/live?{query}"), 1)
    };
    let frames = [hello(TransportKind::LongPolling)];
    for query in [format!("session={other}"), "session=".into(), "session=x".into()] {
        assert_eq!(host.ask(at(&query, &frames)).await.close(), (400, "protocol_error".into()), "{query}");
    }
    let welcome = host.ask(at(&format!("a=b&session={}", id()), &frames)).await.welcome();
    for frame in [poll(&welcome, 0, 0), push(&welcome)] {
        let answer = host.ask(at(&format!("session={other}"), &[frame])).await;
        assert_eq!(answer.close(), (400, "protocol_error".into()));
    }
}

#[tokio::test]
async fn polls_and_pushes_of_unknown_sessions_are_404() {
    let host = Host::echo(Server::builder()).await;
    let mut welcome = host.poller().await;
    welcome.session = SessionId::from_bytes([9; 16]);
    for frame in [poll(&welcome, 0, 0), push(&welcome)] {
        assert_eq!(host.post(&[frame], "").await.close(), (404, "unknown_session".into()));
    }
}

#[tokio::test]
async fn a_poll_stands_alone() {
    let host = Host::echo(Server::builder()).await;
    let welcome = host.poller().await;
    let frames = [poll(&welcome, 0, 0), message(1, "a")];
    assert_eq!(host.post(&frames, "").await.close(), (400, "protocol_error".into()));
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out() {
    let host = Host::echo(Server::builder().allow_origin("https://app.example")).await;
    let body = json(&[hello(TransportKind::LongPolling)]);
    for origin in ["https://evil.example", "null"] {
        let headers = format!("Origin: {origin}\r\n");
        let with = |request: &str| request.replacen("\r\n\r\n", &format!("\r\n{headers}\r\n"), 1);
        let events = format!("{headers}Accept: text/event-stream\r\n");
        for request in
            [post(&body, &headers), get(&headers).into(), get(&events).into(), with(WEBSOCKET).into()]
        {
            let answer = host.ask(request).await;
            assert_eq!(answer.close(), (403, "forbidden".into()));
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let foreign = "Sec-Fetch-Site: cross-site\r\n";
    assert_eq!(host.ask(post(&body, foreign)).await.close(), (403, "forbidden".into()));
    let answer = host.ask(get(&format!("{foreign}Accept: text/event-stream\r\n"))).await;
    assert_eq!(answer.close(), (403, "forbidden".into()));
    assert_eq!(host.ask(get(foreign)).await.status, 200);
    assert_eq!(host.ask(post(&body, "Origin: http://test\r\n")).await.status, 200);
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_every_answer() {
    let host = Host::echo(Server::builder().allow_origin("https://app.example")).await;
    let origin = "Origin: https://app.example\r\n";
    let preflight = format!(
        "OPTIONS /live HTTP/1.1\r\nHost: test\r\n{origin}Access-Control-Request-Method: POST\r\n\r\n"
    );
    let answer = host.ask(preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD, POST, OPTIONS"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("Content-Type"));
    let body = json(&[hello(TransportKind::LongPolling)]);
    for request in [post(&body, origin), post(b"nonsense", origin), get(origin).into()] {
        let answer = host.ask(request).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.header("vary"), Some("origin"));
    }
}

#[tokio::test]
async fn transports_that_are_not_offered_are_refused() {
    let host = Host::echo(Server::builder().transports([TransportKind::LongPolling])).await;
    assert_eq!(host.ask(WEBSOCKET).await.status, 501);
    let answer = host.post(&[hello(TransportKind::Sse)], "").await;
    assert_eq!(answer.close(), (406, "not_acceptable".into()));
    host.poller().await;
}

#[tokio::test]
async fn transports_without_a_session_are_bounded() {
    let host = Host::echo(Server::builder().max_unattached(1)).await;
    let _silent = host.websocket(WEBSOCKET).await;
    let refused = host.post(&[hello(TransportKind::LongPolling)], "").await;
    assert_eq!(refused.close(), (429, "overloaded".into()));
    assert_eq!(host.ask(WEBSOCKET).await.close(), (429, "overloaded".into()));
}

#[tokio::test]
async fn a_layer_answers_its_path_and_passes_the_rest_on() {
    use tower_layer::Layer as _;
    let live = Server::builder().serve(super::raw::echo).unwrap();
    let inner = axum::Router::new().fallback(|| async { "inner" });
    let app = axum::Router::new().fallback_service(live.layer("/live").layer(inner));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let host = Host { live, address };
    assert_eq!(host.ask("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.text(), "inner");
    assert!(host.ask(get("")).await.text().contains("throughline"));
    host.websocket(WEBSOCKET).await;
    host.poller().await;
}
