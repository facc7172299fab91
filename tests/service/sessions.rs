//! A `hello` over each transport, and what follows.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode};
use throughline::frame::{Ack, Attachment, Encoding, Frame, Seq, TransportKind};
use throughline::server::{Attempt, Denied, Grant};
use throughline::{CloseCode, Server};

use super::raw::{
    Host, WEBSOCKET, decode, decode_as, encode, hello, id, json, message, plain_hello, poll, post, push,
    text, watchdog,
};

fn received(seq: u64) -> Frame {
    let seq = Seq::new(seq).unwrap();
    Frame::Ack(Ack { received: seq, taken: seq })
}

#[tokio::test]
async fn a_websocket_greets_and_echoes() {
    let host = Host::echo(Server::builder()).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    wire.say(&text(&[hello(TransportKind::WebSocket), message(1, "a"), message(2, "b")])).await;
    let Frame::Welcome(welcome) = wire.frames().await.remove(0) else { panic!("no welcome") };
    assert_eq!((welcome.session, welcome.resumed), (id(), false));
    let echoed = wire.frame(|frame| (*frame == message(2, "b")).then_some(())).await;
    assert_eq!((echoed, host.live.sessions()), ((), 1));
}

#[tokio::test]
async fn a_poller_polls_and_pushes() {
    let host = Host::echo(Server::builder()).await;
    let welcome = host.poller().await;
    let answer = host.post(&[push(&welcome), message(1, "a"), message(2, "b")], "").await;
    assert_eq!(answer.status, 200);
    assert!(matches!(answer.frames().as_slice(), [Frame::Ack(ack)] if ack.received.value() == 2));
    let answer = host.post(&[poll(&welcome, 0, 10_000)], "").await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let first = answer.frames().into_iter().find(|frame| matches!(frame, Frame::Message(_)));
    assert_eq!(first, Some(message(1, "a")));
    // Reading consumed nothing: what is not acknowledged comes again.
    let again = host.post(&[poll(&welcome, 0, 10_000)], "").await.frames();
    assert!(again.contains(&message(1, "a")));
}

#[tokio::test]
async fn of_two_polls_the_newer_wins_and_the_older_ends_empty() {
    let host = Host::echo(Server::builder()).await;
    let welcome = host.poller().await;
    // The first poll brings the receipt that a server may owe; from then on polls are held.
    host.post(&[poll(&welcome, 0, 0)], "").await;
    let held = post(&json(&[poll(&welcome, 0, 10_000)]), "");
    let mut older = host.open(&held).await;
    let mut newer = host.open(&held).await;
    let ended = watchdog(async {
        tokio::select! {
            answer = older.answer() => (answer, true),
            answer = newer.answer() => (answer, false),
        }
    });
    let (ended, older_ended) = ended.await;
    assert_eq!((ended.status, ended.body.len()), (200, 0));
    assert_eq!(host.post(&[push(&welcome), message(1, "a")], "").await.status, 200);
    let answer = if older_ended { newer.answer().await } else { older.answer().await };
    assert!(answer.frames().contains(&message(1, "a")), "{}", answer.text());
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_session() {
    let host = Host::echo(Server::builder()).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    wire.say(&text(&[hello(TransportKind::WebSocket), message(1, "a")])).await;
    assert!(matches!(wire.frames().await[0], Frame::Welcome(_)));
    drop(wire);
    let attachment = Attachment::new(2).unwrap();
    let again = throughline::frame::Hello { attachment, ..plain_hello(TransportKind::LongPolling) };
    let answer = host.post(&[Frame::Hello(Box::new(again))], "").await;
    let welcome = answer.welcome();
    assert_eq!((welcome.resumed, welcome.received.value(), host.live.sessions()), (true, 1, 1));
    // What was echoed and not acknowledged is sent again.
    let mut frames = answer.frames();
    frames.extend(host.post(&[poll(&welcome, 0, 10_000)], "").await.frames());
    assert!(frames.contains(&message(1, "a")));
}

#[tokio::test]
async fn an_authenticator_that_takes_too_long_is_not_waited_for() {
    let judge = |_: &Attempt<'_>| std::future::pending::<Result<Grant, Denied>>();
    let deadline = std::time::Duration::from_millis(20);
    let host = Host::echo(Server::builder().authenticator(judge).auth_deadline(deadline)).await;
    let refused = host.post(&[hello(TransportKind::LongPolling)], "").await;
    assert_eq!(refused.close(), (429, "overloaded".into()));
}

#[tokio::test]
async fn ambient_credentials_count_only_where_the_page_is_known() {
    let judge = |attempt: &Attempt<'_>| {
        let cookie = attempt.headers().get("cookie").is_some();
        std::future::ready(if cookie {
            Ok(Grant::to("a"))
        } else {
            Err(Denied::Unauthorized("no cookie".into()))
        })
    };
    let table = [
        ("Cookie: a=b\r\n", 401),
        ("Cookie: a=b\r\nSec-Fetch-Site: none\r\n", 401),
        ("Cookie: a=b\r\nSec-Fetch-Site: same-origin\r\n", 200),
        ("Cookie: a=b\r\nOrigin: http://test\r\n", 200),
        ("Cookie: a=b\r\nOrigin: https://app.example\r\n", 200),
        ("Origin: http://test\r\n", 401),
    ];
    for (headers, status) in table {
        let host =
            Host::echo(Server::builder().authenticator(judge).allow_origin("https://app.example")).await;
        let answer = host.post(&[hello(TransportKind::LongPolling)], headers).await;
        assert_eq!(answer.status, status, "{headers}");
    }
}

#[tokio::test]
async fn a_stream_greets_in_its_first_bytes_and_carries_what_is_pushed() {
    let host = Host::echo(Server::builder()).await;
    let request = post(&json(&[hello(TransportKind::Sse)]), "Accept: text/event-stream\r\n");
    let mut wire = host.open(request).await;
    let head = watchdog(wire.until(b"\r\n\r\n")).await.to_ascii_lowercase();
    for line in [
        "http/1.1 200 ok",
        "content-type: text/event-stream",
        "x-accel-buffering: no",
        "cache-control: no-store, no-transform",
        "content-encoding: identity",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let event = watchdog(wire.until(b"\n\n")).await;
    let batch = event.split_once("data: ").unwrap().1.trim_end();
    let Some(Frame::Welcome(welcome)) = super::raw::decode(batch.as_bytes()).into_iter().next() else {
        panic!("no welcome: {event}")
    };
    let answer = host.post(&[push(&welcome), message(1, "a")], "").await;
    assert_eq!(answer.status, 200);
    assert!(watchdog(wire.until(b"\n\n")).await.contains("data: "));
}

#[tokio::test]
async fn binary_frames_are_taken_and_answered() {
    let host = Host::echo(Server::builder()).await;
    let body = encode(&[hello(TransportKind::LongPolling)], Encoding::Binary);
    let answer = host.ask(post(&body, "Content-Type: application/vnd.throughline\r\n")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/vnd.throughline")));
    let frames = decode_as(&answer.body, Encoding::Binary);
    let Frame::Welcome(welcome) = &frames[0] else { panic!("no welcome") };
    let body = encode(&[push(welcome), message(1, vec![0, 1])], Encoding::Binary);
    let answer = host.ask(post(&body, "Content-Type: application/vnd.throughline\r\n")).await;
    let ack = decode_as(&answer.body, Encoding::Binary);
    assert!(matches!(ack.as_slice(), [Frame::Ack(ack)] if ack.received.value() == 1));
    // What is asked in one encoding may be answered in the other.
    let answer =
        host.post(&[push(welcome), message(2, "a")], "Accept: application/vnd.throughline\r\n").await;
    assert_eq!(answer.header("content-type"), Some("application/vnd.throughline"));
    assert!(matches!(decode_as(&answer.body, Encoding::Binary).as_slice(), [Frame::Ack(_)]));
}

#[tokio::test]
async fn a_binary_stream_begins_with_welcome() {
    let host = Host::echo(Server::builder()).await;
    let request = post(&json(&[hello(TransportKind::Sse)]), "Accept: application/vnd.throughline\r\n");
    let mut wire = host.open(request).await;
    let head = watchdog(wire.until(b"\r\n\r\n")).await;
    assert!(head.contains("content-type: application/vnd.throughline"), "{head}");
}

#[tokio::test]
async fn a_second_hello_resumes_and_a_lower_one_is_superseded() {
    let host = Host::echo(Server::builder()).await;
    let welcome = host.poller().await;
    let next = |attachment| {
        let epoch = Some(welcome.epoch);
        let attachment = Attachment::new(attachment).unwrap();
        let hello = plain_hello(TransportKind::LongPolling);
        [Frame::Hello(Box::new(throughline::frame::Hello { epoch, attachment, ..hello }))]
    };
    assert!(host.post(&next(7), "").await.welcome().resumed);
    assert_eq!(host.post(&next(6), "").await.close(), (409, "superseded".into()));
    assert_eq!(host.post(&[poll(&welcome, 0, 0)], "").await.close(), (409, "superseded".into()));
    // A stream that does not begin is one answer.
    let late = throughline::frame::Hello { epoch: Some(welcome.epoch), ..plain_hello(TransportKind::Sse) };
    let late = host.post(&[Frame::Hello(Box::new(late))], "Accept: text/event-stream\r\n").await;
    assert_eq!(late.close(), (409, "superseded".into()));
    assert_eq!(late.header("content-type"), Some("application/x-ndjson"));
    // Messages are judged by themselves.
    assert_eq!(host.post(&[push(&welcome), message(1, "a")], "").await.status, 200);
    assert_eq!(host.live.sessions(), 1);
}

#[tokio::test]
async fn a_wrong_key_is_answered_as_an_unknown_session() {
    let host = Host::echo(Server::builder()).await;
    let welcome = host.poller().await;
    let mut wrong = plain_hello(TransportKind::LongPolling);
    wrong.key = throughline::frame::SessionKey::from_bytes([3; 32]);
    wrong.epoch = Some(welcome.epoch);
    let mut unknown = wrong.clone();
    unknown.session = throughline::SessionId::from_bytes([9; 16]);
    let wrong = host.post(&[Frame::Hello(Box::new(wrong))], "").await;
    let unknown = host.post(&[Frame::Hello(Box::new(unknown))], "").await;
    assert_eq!(wrong.close(), (404, "unknown_session".into()));
    assert_eq!(wrong.body, unknown.body);
}

#[tokio::test]
async fn an_ended_session_keeps_its_close_for_who_comes_back() {
    let host = Host::echo(Server::builder()).await;
    let welcome = host.poller().await;
    assert_eq!(host.post(&[push(&welcome), message(1, "bye")], "").await.status, 200);
    let mut said = Vec::new();
    while !matches!(said.last(), Some(Frame::Close(_))) {
        said = watchdog(host.post(&[poll(&welcome, 0, 10_000)], "")).await.frames();
    }
    let close = Frame::Close(throughline::Close::new(CloseCode::Normal, ""));
    let answer = host.post(&[push(&welcome), close], "").await;
    assert_eq!(answer.close(), (410, "normal".into()));
    // A repeated hello runs no handler again.
    for transport in [TransportKind::LongPolling, TransportKind::Sse] {
        assert_eq!(host.post(&[hello(transport)], "").await.close(), (410, "normal".into()));
    }
}

#[tokio::test]
async fn a_refused_websocket_hears_the_close_first_then_the_code() {
    let host = Host::echo(Server::builder()).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    wire.say(&text(&[received(0)])).await;
    let frames = wire.frames().await;
    assert!(matches!(frames.as_slice(), [Frame::Close(close)] if close.code == CloseCode::ProtocolError));
    let (opcode, payload) = wire.hear().await;
    assert_eq!((opcode, &payload[..2]), (8, &4400_u16.to_be_bytes()[..]));
}

#[tokio::test]
async fn a_websocket_that_says_nothing_is_ended_without_a_word_in_band() {
    let deadline = std::time::Duration::from_millis(20);
    let host = Host::echo(Server::builder().hello_deadline(deadline)).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    let (opcode, payload) = wire.hear().await;
    assert_eq!((opcode, &payload[..2]), (8, &1000_u16.to_be_bytes()[..]));
}

#[tokio::test]
async fn the_authenticator_decides_and_a_session_stays_its_principals() {
    let judge = |attempt: &Attempt<'_>| {
        let name = attempt.auth().and_then(|auth| auth.to::<String>().ok());
        std::future::ready(match name.as_deref() {
            None => Err(Denied::Unauthorized("who are you".into())),
            Some("mallory") => Err(Denied::Forbidden("not you".into())),
            Some(name) => Ok(Grant::to(name).expires_in(std::time::Duration::from_secs(60))),
        })
    };
    let host = Host::echo(Server::builder().authenticator(judge)).await;
    let as_name = |name: Option<&str>, attachment| {
        let auth = name.map(|name| throughline::frame::Json::of(name).unwrap());
        let attachment = Attachment::new(attachment).unwrap();
        let hello = plain_hello(TransportKind::LongPolling);
        [Frame::Hello(Box::new(throughline::frame::Hello { auth, attachment, ..hello }))]
    };
    let refused = host.post(&as_name(None, 1), "").await;
    assert_eq!(refused.close(), (401, "unauthorized".into()));
    assert!(refused.header("www-authenticate").is_some());
    assert_eq!(host.post(&as_name(Some("mallory"), 1), "").await.close(), (403, "forbidden".into()));
    assert_eq!(host.live.sessions(), 0);
    let welcome = host.post(&as_name(Some("alice"), 1), "").await.welcome();
    assert!(welcome.auth_expires_ms.is_some_and(|ms| ms > 0 && ms <= 60_000));
    // A refused hello fences nothing.
    assert_eq!(host.post(&as_name(Some("bob"), 9), "").await.close(), (403, "forbidden".into()));
    assert!(host.post(&as_name(Some("alice"), 2), "").await.welcome().resumed);
}

#[tokio::test]
async fn a_fresh_token_is_judged_in_band() {
    let judge = |attempt: &Attempt<'_>| {
        let name = attempt.auth().and_then(|auth| auth.to::<String>().ok()).unwrap_or_default();
        std::future::ready(if name == "x" {
            Err(Denied::Unauthorized("no".into()))
        } else {
            Ok(Grant::to(name))
        })
    };
    for (token, ends) in
        [("alice", None), ("bob", Some(CloseCode::Forbidden)), ("x", Some(CloseCode::Unauthorized))]
    {
        let host = Host::echo(Server::builder().authenticator(judge)).await;
        let mut wire = host.websocket(WEBSOCKET).await;
        let json = |name: &str| throughline::frame::Json::of(name).unwrap();
        let hello = plain_hello(TransportKind::WebSocket);
        let hello = throughline::frame::Hello { auth: Some(json("alice")), ..hello };
        wire.say(&text(&[Frame::Hello(Box::new(hello))])).await;
        wire.say(&text(&[Frame::Auth(json(token))])).await;
        let answered = wire.frame(|frame| match frame {
            Frame::AuthOk(_) => Some(None),
            Frame::Close(close) => Some(Some(close.code.clone())),
            _ => None,
        });
        assert_eq!(answered.await, ends, "{token}");
    }
}

#[tokio::test]
async fn a_token_that_runs_out_ends_the_transport_and_not_the_session() {
    let judge = |_: &Attempt<'_>| {
        std::future::ready(Ok(Grant::to("a").expires_in(std::time::Duration::from_millis(20))))
    };
    let host = Host::echo(Server::builder().authenticator(judge)).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    wire.say(&text(&[hello(TransportKind::WebSocket)])).await;
    let code = wire.frame(|frame| match frame {
        Frame::Close(close) => Some(close.code.clone()),
        _ => None,
    });
    assert_eq!((code.await, host.live.sessions()), (CloseCode::AuthExpired, 1));
}

#[tokio::test]
async fn more_sessions_than_allowed_are_refused_for_now() {
    let host = Host::echo(Server::builder().max_sessions(1)).await;
    host.poller().await;
    let mut other = plain_hello(TransportKind::LongPolling);
    other.session = throughline::SessionId::from_bytes([9; 16]);
    let refused = host.post(&[Frame::Hello(Box::new(other))], "").await;
    assert_eq!(refused.close(), (429, "overloaded".into()));
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn more_requests_than_a_session_can_take_at_once_are_refused_for_now() {
    let host = Host::echo(Server::builder()).await;
    let body = Bytes::from(json(&[push(&host.poller().await)]));
    let service = host.live.service();
    let mut pushes: Vec<_> = (0..17)
        .map(|_| {
            let request = Request::post("/live").body(Full::new(body.clone())).unwrap();
            hyper::service::Service::call(&service, request)
        })
        .collect();
    // All before the session has its turn.
    let mut refused = Vec::new();
    std::future::poll_fn(|cx| {
        refused.extend(pushes.iter_mut().filter_map(|push| match Pin::new(push).poll(cx) {
            Poll::Ready(answer) => Some(answer.unwrap()),
            Poll::Pending => None,
        }));
        Poll::Ready(())
    })
    .await;
    let [refused] = <[_; 1]>::try_from(refused).map_err(|all| all.len()).expect("one too many");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(matches!(&decode(&body)[..], [Frame::Close(close)] if close.code == CloseCode::Overloaded));
    pushes.truncate(16);
    for push in pushes {
        assert_eq!(watchdog(push).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_session_only() {
    let live = Server::builder().serve(|mut socket: throughline::Socket, _hub| async move {
        let message = socket.recv().await;
        assert!(message.is_err(), "as the test wants it");
    });
    let host = Host::of(live.unwrap()).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    wire.say(&text(&[hello(TransportKind::WebSocket), message(1, "a")])).await;
    let code = wire.frame(|frame| match frame {
        Frame::Close(close) => Some(close.code.clone()),
        _ => None,
    });
    assert_eq!(code.await, CloseCode::InternalError);
}

#[tokio::test]
async fn the_server_closes_a_session_by_its_id_and_moves_it() {
    let host = Host::echo(Server::builder()).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    wire.say(&text(&[hello(TransportKind::WebSocket)])).await;
    assert!(matches!(wire.frames().await[0], Frame::Welcome(_)));
    assert!(host.live.move_session(id(), TransportKind::Sse, std::time::Duration::from_secs(7)));
    let asked = wire.frame(|frame| match frame {
        Frame::Move(ask) => Some((ask.transport, ask.within_ms)),
        _ => None,
    });
    assert_eq!(asked.await, (Some(TransportKind::Sse), 7_000));
    assert!(host.live.close(id(), CloseCode::from_word("kicked").unwrap(), "spam"));
    let code = wire.frame(|frame| match frame {
        Frame::Close(close) => Some(close.code.to_string()),
        _ => None,
    });
    assert_eq!(code.await, "kicked");
    assert!(!host.live.close(throughline::SessionId::from_bytes([9; 16]), CloseCode::Normal, ""));
}
