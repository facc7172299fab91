//! Authenticators that refuse, hang and fail, and principals that are not who they were.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use throughline::frame::{Frame, Json};
use throughline::server::{Attempt, Denied, Grant};
use tokio::time::Instant;

use super::DELIBERATE;
use super::me::{Me, encode, message};
use super::peer::{End, Peer, Way};
use super::stage::{Set, Stage, play};

const AUTH_DEADLINE: Duration = Duration::from_secs(4);

/// Does what the token says. `asked` counts how often it was.
fn obedient(asked: Arc<AtomicUsize>) -> Set {
    Set::with(|builder| {
        builder.auth_deadline(AUTH_DEADLINE).authenticator(move |attempt: &Attempt<'_>| {
            let token = attempt.auth().and_then(|auth| auth.to::<String>().ok()).unwrap_or_default();
            asked.fetch_add(1, SeqCst);
            async move {
                match token.as_str() {
                    "refuse" => Err(Denied::Unauthorized("not you".into())),
                    "forbid" => Err(Denied::Forbidden("you may not".into())),
                    "busy" => Err(Denied::Unavailable("the oracle is out".into())),
                    "hang" => pending().await,
                    "panic" => std::panic::panic_any(DELIBERATE),
                    "" => Ok(Grant::anonymous()),
                    name => Ok(Grant::to(name)),
                }
            }
        })
    })
}

async fn refused(stage: &Stage, way: Way, me: Me) -> End {
    // What comes behind a refused hello is dropped.
    let frames = [me.hello_frame(way.kind()), message(1, "panic")];
    Peer::knock(stage, way, me, &frames).await.err().expect("a close")
}

#[test]
fn what_the_authenticator_says_is_answered_typed_and_makes_no_session() {
    let table = [
        ("refuse", "unauthorized", 401),
        ("forbid", "forbidden", 403),
        ("busy", "overloaded", 429),
        ("hang", "overloaded", 429),
        ("panic", "overloaded", 429),
    ];
    for way in Way::ALL {
        play(obedient(Arc::default()), async move |stage| {
            for (token, code, status) in table {
                let began = Instant::now();
                let me = Me { token: Some(token), ..Me::new() };
                let end = refused(stage, way, me.clone()).await;
                assert_eq!((end.code(), end.status), (code, status), "{way:?} {token}");
                assert_eq!(began.elapsed(), if token == "hang" { AUTH_DEADLINE } else { Duration::ZERO });
                // The id was not burnt by it.
                let mut peer = Peer::enter_as(stage, way, Me { token: Some("alice"), ..me }).await;
                peer.check(stage).await;
            }
            assert_eq!(stage.started(), table.len());
        });
    }
}

#[test]
fn whoever_asks_while_the_authenticator_hangs_holds_a_place_until_it_is_given_up() {
    play(Set { places: 3, ..obedient(Arc::default()) }, async |stage| {
        let mut waiting = Vec::new();
        for way in [Way::ALL[0], Way::ALL[2], Way::ALL[5]] {
            let me = Me { token: Some("hang"), ..Me::new() };
            let mut wire = stage.wire().await;
            if let Way::WebSocket(encoding) = way {
                let mut ws = super::ws::Ws::open(wire, encoding).await;
                ws.say(&[me.hello_frame(way.kind())]).await;
                wire = ws.wire;
            } else {
                wire.write(&way.ask(encode(way.encoding(), &[me.hello_frame(way.kind())])).bytes()).await;
            }
            waiting.push(wire);
        }
        let hello = Me::new().hello_frame(Way::Events.kind());
        assert_eq!(stage.ask(&Way::Events.ask(encode(Way::Events.encoding(), &[hello]))).await.status(), 429);
        stage.check_bystander().await;
        tokio::time::sleep(AUTH_DEADLINE).await;
        Peer::enter(stage, Way::Events).await.check(stage).await;
    });
}

#[test]
fn who_hangs_up_while_the_authenticator_hangs_leaves_nothing() {
    for way in [Way::ALL[0], Way::ALL[2], Way::ALL[5]] {
        play(obedient(Arc::default()), async move |stage| {
            for _ in 0..20 {
                let me = Me { token: Some("hang"), ..Me::new() };
                let mut wire = stage.wire().await;
                if let Way::WebSocket(encoding) = way {
                    let mut ws = super::ws::Ws::open(wire, encoding).await;
                    ws.say(&[me.hello_frame(way.kind())]).await;
                    // The place is held until the authenticator is given up: nobody reads meanwhile.
                    drop(ws);
                    tokio::time::sleep(AUTH_DEADLINE).await;
                    continue;
                }
                wire.write(&way.ask(encode(way.encoding(), &[me.hello_frame(way.kind())])).bytes()).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(stage.sessions(), 0);
        });
    }
}

#[test]
fn a_principal_that_changes_between_attaches_is_forbidden_and_the_session_unharmed() {
    for way in Way::ALL {
        play(obedient(Arc::default()), async move |stage| {
            let mut peer = Peer::enter_as(stage, way, Me { token: Some("alice"), ..Me::new() }).await;
            for other in [Some("mallory"), Some("Alice"), None] {
                for back in Way::ALL {
                    let me = Me { token: other, attachment: 7, ..peer.me.clone() };
                    let end = refused(stage, back, me).await;
                    assert_eq!((end.code(), end.status), ("forbidden", 403), "{back:?} {other:?}");
                }
            }
            peer.check(stage).await;
            let mut peer = peer.resume(stage, way).await;
            peer.check(stage).await;
            assert_eq!(stage.started(), 1);
        });
    }
}

#[test]
fn a_refused_hello_of_a_session_fences_nothing() {
    for way in Way::ALL {
        play(obedient(Arc::default()), async move |stage| {
            let mut peer = Peer::enter_as(stage, way, Me { token: Some("alice"), ..Me::new() }).await;
            for token in ["refuse", "forbid", "busy", "panic"] {
                refused(stage, way, Me { token: Some(token), attachment: 9, ..peer.me.clone() }).await;
            }
            peer.check(stage).await;
            assert_eq!(stage.sessions(), 1);
        });
    }
}

fn auth(token: &str) -> Frame {
    Frame::Auth(Json::of(token).unwrap())
}

#[test]
fn a_fresh_token_is_judged_and_a_bad_one_ends_the_session() {
    let table = [("refuse", "unauthorized"), ("forbid", "forbidden"), ("mallory", "forbidden")];
    for way in Way::ALL {
        play(obedient(Arc::default()), async move |stage| {
            for (token, code) in table {
                let mut peer = Peer::enter_as(stage, way, Me { token: Some("alice"), ..Me::new() }).await;
                peer.say(stage, &[auth("alice")]).await;
                peer.check(stage).await;
                peer.say(stage, &[auth(token)]).await;
                assert_eq!(peer.end(stage).await.code(), code, "{way:?} {token}");
            }
        });
    }
}

#[test]
fn a_fresh_token_that_cannot_be_judged_now_changes_nothing() {
    for way in Way::ALL {
        play(obedient(Arc::default()), async move |stage| {
            let mut peer = Peer::enter_as(stage, way, Me { token: Some("alice"), ..Me::new() }).await;
            for token in ["busy", "hang", "panic"] {
                peer.say(stage, &[auth(token)]).await;
                tokio::time::sleep(AUTH_DEADLINE).await;
                peer.check(stage).await;
            }
        });
    }
}

#[test]
fn a_flood_of_tokens_asks_the_authenticator_a_few_times() {
    for way in Way::ALL {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        play(obedient(asked), async move |stage| {
            let mut peer = Peer::enter_as(stage, way, Me { token: Some("alice"), ..Me::new() }).await;
            let before = count.load(SeqCst);
            let flood: Vec<_> = (0..1000).map(|_| auth("alice")).collect();
            peer.say(stage, &flood).await;
            peer.check(stage).await;
            let asked = count.load(SeqCst) - before;
            assert!((1..=10).contains(&asked), "{way:?}: {asked} times");
        });
    }
}
