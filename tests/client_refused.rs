//! The client against servers that refuse, stall or are not there: what it tries, in which order, and when it stops.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they expect by panicking")]

#[path = "support/serving.rs"]
mod serving;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use serde_json::{Value, json};
use throughline::client::{Backoff, Builder};
use throughline::frame::{CloseCode, Json, TransportKind};
use throughline::{Client, ConnectError, Freshness, Socket, State};
use tokio::net::TcpListener;

async fn watchdog<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
}

/// A request as a fake server saw it: by which transport, and its body.
#[derive(Clone, Debug)]
struct Seen {
    transport: &'static str,
    body: String,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// What a fake server answers; `None` for never.
type Answer = Option<Response<Full<Bytes>>>;

/// A server that answers each request as it is told.
async fn serve(answer: impl Fn(&Seen) -> Answer + Clone + Send + 'static) -> (SocketAddr, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let log = Log::default();
    let seen = Arc::clone(&log);
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, answer) = (Arc::clone(&seen), answer.clone());
        async move {
            let accept = request.headers().get("accept").map(|value| value.to_str().unwrap());
            let transport = match (request.headers().contains_key("upgrade"), accept) {
                (true, _) => "websocket",
                (false, Some("text/event-stream")) => "sse",
                _ => "long-polling",
            };
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let request = Seen { transport, body };
            let answered = answer(&request);
            seen.lock().unwrap().push(request);
            match answered {
                Some(response) => Ok::<_, Infallible>(response),
                None => std::future::pending().await,
            }
        }
    });
    tokio::spawn(serving::accept(listener, service));
    (addr, log)
}

fn status(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

/// A refusal in the words of the protocol.
fn close(status: u16, code: &str, detail: &Value) -> Response<Full<Bytes>> {
    let body = json!(["close", code, "because", detail]).to_string();
    let response = Response::builder().status(status).header("content-type", "application/x-ndjson");
    response.body(Full::from(body)).unwrap()
}

fn client(addr: SocketAddr) -> Builder {
    let backoff = Backoff::default().base(Duration::from_millis(1)).cap(Duration::from_millis(2));
    let verdicts = std::sync::Arc::new(throughline::client::MemoryVerdicts::new());
    Client::builder(format!("http://{addr}/live")).backoff(backoff).verdicts(verdicts)
}

fn transports(log: &Log) -> Vec<&'static str> {
    log.lock().unwrap().iter().map(|seen| seen.transport).collect()
}

/// The first wait for a next attempt: its reason, and how long from now.
async fn first_wait(socket: &Socket) -> (Arc<str>, Duration) {
    let mut watch = socket.watch();
    let mut state = watch.state();
    loop {
        if let State::Reconnecting { reason, retry_at: Some(at) } = state {
            return (reason, at.saturating_duration_since(Instant::now()));
        }
        state = watch.changed().await;
    }
}

#[tokio::test]
async fn impossible_values_are_refused_by_name() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let invalid = |builder: Builder| match builder.start() {
        Err(ConnectError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(invalid(client(nowhere).transports([])), "transports");
    assert_eq!(invalid(client(nowhere).max_attempts(0)), "max_attempts");
    assert_eq!(invalid(client(nowhere).connect_timeout(Duration::ZERO)), "connect_timeout");
    assert_eq!(invalid(client(nowhere).backoff(Backoff::default().cap(Duration::ZERO))), "backoff.cap");
    assert_eq!(invalid(client(nowhere).header("a b", "c")), "header");
    assert_eq!(invalid(client(nowhere).header("Upgrade", "c")), "header");
    let mut session = throughline::session::Config::default();
    session.window.messages = 0;
    assert_eq!(invalid(client(nowhere).session(session)), "window.messages");
}

#[test]
fn outside_a_runtime_it_says_so() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    assert!(matches!(client(nowhere).start(), Err(ConnectError::NoRuntime)));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up_after_the_attempts_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = watchdog(client(addr).max_attempts(3).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { attempts: 3, .. }), "{error:?}");
}

#[tokio::test]
async fn transports_are_tried_from_the_best_down_and_over_again() {
    let (addr, log) = serve(|_| Some(status(404))).await;
    let error = watchdog(client(addr).max_attempts(2).connect()).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    assert_eq!(transports(&log), ["websocket", "sse", "long-polling", "websocket", "sse", "long-polling"]);
}

#[tokio::test]
async fn the_applications_order_counts() {
    let (addr, log) = serve(|_| Some(status(404))).await;
    let order = [TransportKind::LongPolling, TransportKind::WebSocket];
    watchdog(client(addr).transports(order).max_attempts(1).connect()).await.unwrap_err();
    assert_eq!(transports(&log), ["long-polling", "websocket"]);
}

#[tokio::test]
async fn what_is_never_answered_is_given_up_in_time() {
    let (addr, log) = serve(|_| None).await;
    let mut session = throughline::session::Config::default();
    session.welcome_within = Duration::from_millis(50);
    let client = client(addr).connect_timeout(Duration::from_millis(50)).session(session).max_attempts(1);
    watchdog(client.connect()).await.unwrap_err();
    assert_eq!(transports(&log), ["websocket", "sse", "long-polling"]);
}

#[tokio::test]
async fn retry_after_is_waited_for_and_the_reason_shown() {
    let busy = || Response::builder().status(503).header("retry-after", "7").body(Full::default()).unwrap();
    for order in TransportKind::ALL {
        let (addr, _log) = serve(move |_| Some(busy())).await;
        let socket = client(addr).transports([order]).start().unwrap();
        let (reason, wait) = watchdog(first_wait(&socket)).await;
        assert!(reason.contains("503"), "{reason}");
        assert!((6..8).contains(&wait.as_secs()), "{order}: {wait:?}");
    }
}

#[tokio::test]
async fn an_upgrade_that_is_turned_down_for_now_does_not_keep_the_others_waiting() {
    let busy = || Response::builder().status(503).header("retry-after", "7").body(Full::default()).unwrap();
    let (addr, log) = serve(move |_| Some(busy())).await;
    let socket = client(addr).start().unwrap();
    let (_, wait) = watchdog(first_wait(&socket)).await;
    assert!((6..8).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(transports(&log), ["websocket", "sse"]);
}

#[tokio::test]
async fn where_there_are_too_many_requests_the_next_one_waits() {
    let (addr, log) = serve(|seen| Some(status(if seen.transport == "websocket" { 426 } else { 429 }))).await;
    let socket = client(addr).start().unwrap();
    let (_, wait) = watchdog(first_wait(&socket)).await;
    assert!(wait > Duration::from_millis(200), "{wait:?}");
    assert_eq!(transports(&log), ["websocket", "sse"]);
}

#[tokio::test]
async fn what_a_draining_server_asks_for_is_waited_for_whatever_the_transport() {
    for order in TransportKind::ALL {
        let answer = |_: &Seen| Some(close(503, "draining", &json!({"retry_after_ms": 9000})));
        let (addr, log) = serve(answer).await;
        let socket = client(addr).transports([order, TransportKind::WebSocket]).start().unwrap();
        let (reason, wait) = watchdog(first_wait(&socket)).await;
        assert!(reason.contains("draining"), "{reason}");
        assert!((8..10).contains(&wait.as_secs()), "{order}: {wait:?}");
        assert_eq!(transports(&log).len(), 1, "nothing else is tried at a server that drains");
    }
}

#[tokio::test]
async fn a_refusal_for_good_is_final_on_every_transport() {
    for (code, status) in [("forbidden", 403), ("unauthorized", 401), ("unsupported_version", 400)] {
        for kind in TransportKind::ALL {
            let (addr, log) = serve(move |_| Some(close(status, code, &json!({})))).await;
            let error = watchdog(client(addr).transports([kind]).connect()).await.unwrap_err();
            let ConnectError::Refused(close) = error else { panic!("{error:?}") };
            assert_eq!((close.code.as_str(), log.lock().unwrap().len()), (code, 1), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_transport_that_is_not_offered_gives_way_and_none_at_all_is_final() {
    let (addr, log) = serve(|_| Some(close(406, "not_acceptable", &json!({})))).await;
    let error = watchdog(client(addr).connect()).await.unwrap_err();
    let ConnectError::Refused(close) = error else { panic!("{error:?}") };
    assert_eq!(close.code, CloseCode::NotAcceptable);
    assert_eq!(transports(&log), ["websocket", "sse", "long-polling"]);
}

#[tokio::test]
async fn an_expired_token_is_replaced_once() {
    let (addr, log) = serve(|_| Some(close(401, "auth_expired", &json!({})))).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&asked);
    let token = move |freshness| {
        let number = {
            let mut calls = calls.lock().unwrap();
            calls.push(freshness);
            calls.len()
        };
        async move { Ok(Json::of(&json!({ "token": number }))?) }
    };
    let client = client(addr).transports([TransportKind::LongPolling]).token(token);
    let error = watchdog(client.connect()).await.unwrap_err();
    let ConnectError::Refused(close) = error else { panic!("{error:?}") };
    assert_eq!(close.code, CloseCode::AuthExpired);
    assert_eq!(*asked.lock().unwrap(), [Freshness::Any, Freshness::Fresh]);
    let hellos = log.lock().unwrap().iter().map(|seen| seen.body.clone()).collect::<Vec<_>>();
    assert!(hellos[0].contains(r#""auth":{"token":1}"#), "{hellos:?}");
    assert!(hellos[1].contains(r#""auth":{"token":2}"#), "{hellos:?}");
}

#[tokio::test]
async fn a_token_source_that_fails_is_a_failed_attempt_that_names_it() {
    let (addr, log) = serve(|_| Some(status(404))).await;
    let client = client(addr).token(|_| async { Err("the vault is sealed".into()) }).max_attempts(2);
    let error = watchdog(client.connect()).await.unwrap_err().to_string();
    assert!(error.contains("the vault is sealed"), "{error}");
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn own_headers_and_the_public_id_go_with_every_request_and_the_key_never_in_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let heads: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let log = Arc::clone(&heads);
    let service = service_fn(move |request: Request<Incoming>| {
        let cookie = request.headers().get("cookie").is_some_and(|value| value == "a=b");
        log.lock().unwrap().push((request.uri().to_string(), cookie));
        async { Ok::<_, Infallible>(status(404)) }
    });
    tokio::spawn(serving::accept(listener, service));
    let backoff = Backoff::default().base(Duration::from_millis(1));
    let client = Client::builder(format!("ws://{addr}/live?room=1")).header("Cookie", "a=b").backoff(backoff);
    watchdog(client.max_attempts(1).connect()).await.unwrap_err();
    let heads = heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 3);
    for (uri, cookie) in heads {
        let id = uri.strip_prefix("/live?room=1&session=").unwrap_or_else(|| panic!("{uri}"));
        assert_eq!((id.len(), cookie), (22, true), "{uri}");
    }
}
