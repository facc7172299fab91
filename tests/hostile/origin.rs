//! Pages of origins that are not let in, at every entry.

use throughline::frame::{Encoding, Frame};

use super::http::Ask;
use super::me::{Me, encode, message};
use super::peer::{Peer, Way};
use super::stage::{Set, play};
use super::ws::upgrade;

const WRONG: [&str; 19] = [
    "null",
    "",
    "*",
    "http://evil.example",
    "http://live.example.evil",
    "http://evil-live.example",
    "http://live.example:81",
    "http://live.example@evil.example",
    "http://live.example/",
    "http://live.example evil.example",
    "http://live.example, http://evil.example",
    "http://live.example\\.evil.example",
    "//live.example",
    "live.example",
    "file://live.example",
    "http://app.example",
    "https://app.example:444",
    "https://sub.app.example",
    "https://app.example.evil",
];

/// Everything that a page can ask for, in the name of somebody.
fn entries(me: &Me) -> Vec<(&'static str, Ask)> {
    let way = Way::ALL[5];
    let fresh = Me::new();
    let push = [Frame::Push(Box::new(me.push())), message(1, "foreign")];
    vec![
        ("upgrade", upgrade()),
        ("upgrade ?plain", upgrade().target("/live?plain").without("sec-websocket-protocol")),
        ("hello by long-polling", way.ask(encode(Encoding::Json, &[fresh.hello_frame(way.kind())]))),
        ("hello by sse", Way::Events.ask(encode(Encoding::Json, &[fresh.hello_frame(Way::Events.kind())]))),
        ("poll", way.ask(encode(Encoding::Json, &[Frame::Poll(Box::new(me.poll(0)))]))),
        ("push", way.ask(encode(Encoding::Json, &push))),
        ("events", Ask::new("GET").header("accept", "text/event-stream")),
        ("preflight", Ask::new("OPTIONS").header("access-control-request-method", "POST")),
        ("discovery", Ask::new("GET")),
    ]
}

#[test]
fn pages_of_other_origins_are_refused_at_every_entry() {
    let set = Set::with(|builder| builder.allow_origin("https://app.example").plain_websocket(true));
    play(set, async |stage| {
        let mut victim = Peer::enter(stage, Way::ALL[5]).await;
        for origin in WRONG {
            for (name, ask) in entries(&victim.me) {
                let answer = stage.ask(&ask.header("origin", origin)).await;
                assert_eq!(answer.status(), 403, "{name} by {origin:?}: {}", answer.text());
                assert_eq!(answer.close().unwrap().code.as_str(), "forbidden");
                assert_eq!(answer.head.get("access-control-allow-origin"), None);
                assert_eq!(answer.head.get("vary"), Some("origin"));
            }
        }
        for (name, mut ask) in entries(&victim.me) {
            ask.headers.push(("origin".to_owned(), "http://live.example".to_owned()));
            ask.headers.push(("origin".to_owned(), "http://live.example".to_owned()));
            assert_eq!(stage.ask(&ask).await.status(), 403, "{name} by two origins");
        }
        assert_eq!((stage.sessions(), stage.started()), (1, 1));
        // Nothing of it came through: the first message is still to come.
        victim.check(stage).await;
    });
}

#[test]
fn what_foreign_pages_ask_without_an_origin_opens_nothing() {
    play(Set::with(|builder| builder.plain_websocket(true)), async |stage| {
        let mut victim = Peer::enter(stage, Way::ALL[5]).await;
        for site in ["cross-site", "same-site", "anything else"] {
            for (name, ask) in entries(&victim.me) {
                let answer = stage.ask(&ask.header("sec-fetch-site", site)).await;
                match name {
                    "preflight" | "discovery" => assert!(answer.status() < 300, "{name}"),
                    _ => assert_eq!(answer.status(), 403, "{name}: {}", answer.text()),
                }
                assert_eq!(answer.head.get("access-control-allow-origin"), None);
            }
        }
        assert_eq!(stage.sessions(), 1);
        victim.check(stage).await;
    });
}

#[test]
fn pages_of_allowed_origins_may_read_the_answers_and_no_others() {
    let set = Set::with(|builder| builder.allow_origin("https://app.example"));
    play(set, async |stage| {
        for (origin, shared) in [
            ("https://app.example", Some("https://app.example")),
            ("https://APP.example:443", Some("https://APP.example:443")),
            ("http://live.example", None),
            ("https://live.example", None),
        ] {
            for way in [Way::ALL[5], Way::ALL[6]] {
                let me = Me::new();
                let hello = way.ask(encode(way.encoding(), &[me.hello_frame(way.kind())]));
                let answer = stage.ask(&hello.header("origin", origin)).await;
                assert_eq!((answer.status(), answer.head.get("access-control-allow-origin")), (200, shared));
                // A refusal can be read as well.
                let mut gone = me.clone();
                gone.epoch = Some(throughline::frame::Epoch::from_bytes([0; 8]));
                let poll = way.ask(encode(way.encoding(), &[Frame::Poll(Box::new(gone.poll(0)))]));
                let answer = stage.ask(&poll.header("origin", origin)).await;
                assert_eq!((answer.status(), answer.head.get("access-control-allow-origin")), (404, shared));
            }
        }
    });
}
