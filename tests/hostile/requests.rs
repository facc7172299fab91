//! Requests that are none, or not ours: what hyper must refuse, and what the service must.

use throughline::frame::{Encoding, Frame};

use super::http::Ask;
use super::me::{Me, encode, message};
use super::peer::{Peer, Way};
use super::stage::{Set, play, within};
use super::ws::{Ws, upgrade};

/// Bytes that two HTTP parsers could read in two ways. `BODY` is a hello that would make a session.
const SMUGGLED: [(&str, &str); 17] = [
    ("two lengths", "POST /live HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nBODY"),
    ("a list of lengths", "POST /live HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nBODY"),
    ("a signed length", "POST /live HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nBODY"),
    ("a negative length", "POST /live HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\nBODY"),
    (
        "a length beyond 64 bits",
        "POST /live HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nBODY",
    ),
    ("a length in hex", "POST /live HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nBODY"),
    ("an unknown coding", "POST /live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked not last",
        "POST /live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "a folded header",
        "POST /live HTTP/1.1\r\nhost: a\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a space before the colon", "POST /live HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\nBODY"),
    ("no chunk size", "POST /live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n;\r\n\r\n"),
    (
        "a chunk size that overflows",
        "POST /live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nBODY",
    ),
    ("a NUL in a header", "POST /live HTTP/1.1\r\nhost: a\r\nx: \0\r\ncontent-length: 5\r\n\r\nBODY"),
    ("a carriage return alone", "POST /live HTTP/1.1\r\nhost: a\rcontent-length: 5\r\n\r\nBODY"),
    ("no version", "POST /live\r\n\r\nBODY"),
    ("another version", "POST /live HTTP/3.7\r\nhost: a\r\n\r\nBODY"),
    ("HTTP/2 at once", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
];

fn hello() -> String {
    let me = Me::new();
    String::from_utf8(encode(Encoding::Json, &[me.hello_frame(Way::ALL[5].kind())]).to_vec()).unwrap()
}

#[test]
fn bytes_that_can_be_read_in_two_ways_are_read_in_none() {
    play(Set::default(), async |stage| {
        for (name, bytes) in SMUGGLED {
            let mut wire = stage.wire().await;
            wire.write(bytes.replace("BODY", &hello()).as_bytes()).await;
            let answer = within(name, wire.answer()).await;
            if let Some(answer) = answer {
                assert!((400..=501).contains(&answer.status()), "{name}: {}", answer.text());
            }
            within(name, wire.ends()).await;
            assert_eq!(stage.sessions(), 0, "{name}");
        }
    });
}

#[test]
fn a_length_beside_chunks_counts_for_nothing_and_nothing_is_read_behind() {
    play(Set::default(), async |stage| {
        // RFC 9112, section 6.3: Transfer-Encoding overrides, and the connection is closed afterwards; or 400.
        let hidden = format!("POST /live HTTP/1.1\r\nhost: a\r\ncontent-length: 500\r\n\r\n{}", hello());
        let head =
            "POST /live HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut wire = stage.wire().await;
        wire.write(format!("{head}0\r\n\r\n{hidden}").as_bytes()).await;
        let answer = within("an answer", wire.answer()).await.expect("an answer");
        assert_eq!(answer.status(), 400, "{}", answer.text());
        drop(wire);
        assert_eq!(stage.sessions(), 0);
    });
}

#[test]
fn requests_behind_each_other_on_one_connection_are_answered_in_order() {
    play(Set::default(), async |stage| {
        let way = Way::ALL[5];
        let peer = Peer::enter(stage, way).await;
        let asks = [
            way.ask(encode(Encoding::Json, &[Frame::Push(Box::new(peer.me.push())), message(1, "a")])),
            Ask::new("GET"),
            way.ask("[]".into()),
            Ask::new("DELETE"),
        ];
        let mut wire = stage.wire().await;
        wire.write(&asks.iter().flat_map(Ask::bytes).collect::<Vec<_>>()).await;
        for status in [200, 200, 400, 405] {
            assert_eq!(within("an answer", wire.answer()).await.unwrap().status(), status);
        }
    });
}

#[test]
fn methods_that_are_not_ours_are_refused_and_say_which_are() {
    play(Set::default(), async |stage| {
        for method in ["PUT", "DELETE", "PATCH", "TRACE", "BREW", "get"] {
            let answer = stage.ask(&Ask::new(method)).await;
            assert_eq!(
                (answer.status(), answer.head.get("allow")),
                (405, Some("GET, HEAD, POST, OPTIONS")),
                "{method}"
            );
        }
    });
}

#[test]
fn bodies_of_other_types_are_refused() {
    play(Set::default(), async |stage| {
        let types = [
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/html",
            "text/plainer",
            "application/vnd.throughline+json",
            "text/plain, application/json",
            "*/*",
        ];
        for media in types {
            let ask = Ask::post(Encoding::Json, hello().into()).header("content-type", media);
            let answer = stage.ask(&ask).await;
            assert_eq!(
                (answer.status(), answer.close().unwrap().code.as_str()),
                (406, "not_acceptable"),
                "{media}"
            );
        }
        // JSON said to be binary, and binary said to be JSON.
        for (said, is) in [(Encoding::Binary, Encoding::Json), (Encoding::Json, Encoding::Binary)] {
            let me = Me::new();
            let answer = stage.ask(&Ask::post(said, encode(is, &[me.hello_frame(Way::ALL[5].kind())]))).await;
            assert!(matches!(answer.status(), 400 | 413), "{}", answer.text());
        }
        assert_eq!(stage.sessions(), 0);
    });
}

#[test]
fn a_stream_in_no_form_of_ours_is_refused() {
    play(Set::default(), async |stage| {
        let me = Me::new();
        for accept in ["image/png", "text/event-stream;q=0", "application/json", ""] {
            let ask = Way::Events.ask(encode(Encoding::Json, &[me.hello_frame(Way::Events.kind())]));
            let answer = stage.ask(&ask.header("accept", accept)).await;
            assert_eq!(answer.status(), 406, "{accept:?}: {}", answer.text());
        }
        assert_eq!(stage.sessions(), 0);
    });
}

#[test]
fn the_query_must_name_the_session_of_the_body() {
    for way in Way::ALL {
        play(Set::default(), async move |stage| {
            let (me, other) = (Me::new(), Me::new());
            let hello = encode(way.encoding(), &[me.hello_frame(way.kind())]);
            let wrong = [
                other.id.to_string(),
                "x".to_owned(),
                String::new(),
                format!("{}A", me.id),
                "%41".to_owned(),
            ];
            for named in wrong {
                let target = format!("/live?session={named}");
                let Way::WebSocket(encoding) = way else {
                    let answer = stage.ask(&way.ask(hello.clone()).target(target)).await;
                    assert_eq!(
                        (answer.status(), answer.close().unwrap().code.as_str()),
                        (400, "protocol_error")
                    );
                    continue;
                };
                match Ws::try_open(stage.wire().await, &upgrade().target(target), encoding).await {
                    Err(head) => assert_eq!(head.status, 400),
                    Ok(mut ws) => {
                        ws.batch(&hello).await;
                        assert_eq!(within("the end", ws.ended()).await.code, Some(4400));
                    }
                }
            }
            assert_eq!(stage.sessions(), 0);
        });
    }
    play(Set::default(), async |stage| {
        let way = Way::ALL[5];
        let mut peer = Peer::enter(stage, way).await;
        for frame in [Frame::Poll(Box::new(peer.me.poll(0))), Frame::Push(Box::new(peer.me.push()))] {
            let ask = way.ask(encode(Encoding::Json, &[frame]));
            let target = |id| format!("/live?x&session={id}&y=1");
            assert_eq!(stage.ask(&ask.clone().target(target(Me::new().id))).await.status(), 400);
            assert_eq!(stage.ask(&ask.target(target(peer.me.id))).await.status(), 200);
        }
        peer.check(stage).await;
    });
}

#[test]
fn openings_that_are_no_websocket_of_ours_are_refused() {
    play(Set::default(), async |stage| {
        let table = [
            (upgrade().without("upgrade"), 426, "upgrade stripped"),
            (upgrade().header("connection", "close"), 426, "upgrade stripped"),
            (upgrade().header("sec-websocket-version", "8"), 426, "another version"),
            (upgrade().without("sec-websocket-version"), 426, "no version"),
            (upgrade().without("sec-websocket-protocol"), 400, "no subprotocol"),
            (upgrade().header("sec-websocket-protocol", "throughline.v2, chat"), 400, "another subprotocol"),
            (upgrade().header("sec-websocket-key", "short"), 400, "no key"),
            (upgrade().header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"), 400, "a key without padding"),
            (upgrade().target("/live?plain").without("sec-websocket-protocol"), 406, "plain, which is off"),
        ];
        for (ask, status, name) in table {
            let answer = stage.ask(&ask).await;
            assert_eq!(answer.status(), status, "{name}: {}", answer.text());
        }
        // An upgrade whose host is HTTP/1.0 is none.
        let mut wire = stage.wire().await;
        let old = String::from_utf8(upgrade().bytes()).unwrap().replace("HTTP/1.1", "HTTP/1.0");
        wire.write(old.as_bytes()).await;
        let answer = within("an answer", wire.answer()).await.expect("an answer");
        assert_eq!(answer.status(), 426, "{}", answer.text());
    });
}
