//! The client against the server over real sockets: connecting, falling back, coming back, moving, ending.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they expect by panicking")]

mod host;
mod moving;
mod negotiation;
mod network;
#[path = "../support/serving.rs"]
mod serving;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::{Host, Seen, client, echo, text, until_carried, watchdog};
use serde_json::json;
use throughline::frame::{CloseCode, Encoding, Json, TransportKind};
use throughline::server::{Attempt, Grant};
use throughline::socket::RecvError;
use throughline::{Freshness, Server, Socket, State};
use tokio::sync::mpsc;

#[tokio::test]
async fn it_connects_over_each_transport_in_each_encoding() {
    let host = Host::serve(echo()).await;
    for kind in TransportKind::ALL {
        for encoding in [Encoding::Json, Encoding::Binary] {
            let client = client(host.addr()).transports([kind]).encoding(encoding);
            let mut socket = watchdog(client.connect()).await.unwrap();
            assert_eq!(socket.state(), State::Connected { transport: kind });
            socket.send("hello").await.unwrap();
            assert_eq!(text(&mut socket).await, "hello");
            socket.send(vec![0, 1, 255]).await.unwrap();
            let message = watchdog(socket.recv()).await.unwrap();
            assert_eq!(message.body.as_bytes()[..], [0, 1, 255]);
        }
    }
}

#[tokio::test]
async fn it_falls_back_where_the_upgrade_is_refused_and_remembers() {
    let host = Host::refusing(echo(), |seen| seen == Seen::Upgrade).await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    assert_eq!(socket.state(), State::Connected { transport: TransportKind::Sse });
    socket.cut();
    until_carried(&socket).await;
    socket.send("hello").await.unwrap();
    assert_eq!(text(&mut socket).await, "hello");
    assert_eq!(host.seen(Seen::Upgrade), 1, "what failed where another works is tried last");
}

#[tokio::test]
async fn it_falls_back_to_long_polling_where_nothing_else_passes() {
    let host = Host::refusing(echo(), |seen| seen != Seen::Batch).await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    assert_eq!(socket.state(), State::Connected { transport: TransportKind::LongPolling });
    socket.send("hello").await.unwrap();
    assert_eq!(text(&mut socket).await, "hello");
}

#[tokio::test]
async fn what_the_server_does_not_offer_is_passed_over() {
    let server =
        Server::builder().transports([TransportKind::LongPolling]).serve(host::echo_handler).unwrap();
    let host = Host::serve(server).await;
    let socket = watchdog(client(host.addr()).connect()).await.unwrap();
    assert_eq!(socket.state(), State::Connected { transport: TransportKind::LongPolling });
}

#[tokio::test]
async fn after_each_cut_it_comes_back_with_nothing_lost() {
    let host = Host::serve(echo()).await;
    for kind in TransportKind::ALL {
        let mut socket = watchdog(client(host.addr()).transports([kind]).connect()).await.unwrap();
        let id = socket.id();
        for number in 0..200_u32 {
            socket.send(number.to_string().as_str()).await.unwrap();
            if number % 40 == 20 {
                socket.cut();
            }
        }
        for number in 0..200_u32 {
            assert_eq!(text(&mut socket).await, number.to_string(), "{kind}");
        }
        assert_eq!(socket.id(), id, "{kind}: the session is the same");
    }
}

#[tokio::test]
async fn what_is_sent_while_no_server_is_there_arrives_when_one_is() {
    for kind in TransportKind::ALL {
        let addr = host::free_addr().await;
        let mut socket = client(addr).transports([kind]).start().unwrap();
        assert_eq!(socket.state(), State::Connecting);
        for number in 0..10_u32 {
            socket.send(number.to_string().as_str()).await.unwrap();
        }
        watchdog(async {
            let mut watch = socket.watch();
            while !matches!(watch.state(), State::Reconnecting { .. }) {
                watch.changed().await;
            }
        })
        .await;
        let _host = Host::at(addr, echo()).await;
        for number in 0..10_u32 {
            assert_eq!(text(&mut socket).await, number.to_string(), "{kind}");
        }
    }
}

/// Sends numbers for as long as it is let, and says how many.
async fn pump(sender: throughline::Sender, stop: Arc<AtomicUsize>) -> u32 {
    let mut number = 0_u32;
    while stop.load(Ordering::Relaxed) == 0 {
        sender.send(number.to_string().as_str()).await.unwrap();
        number += 1;
        if number % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    sender.send("end").await.unwrap();
    number
}

/// Receives numbers up to the end: each must be the next.
async fn drain(socket: &mut Socket, mut at: impl FnMut(u32, &Socket)) -> u32 {
    let mut next = 0_u32;
    loop {
        let text = text(socket).await;
        if text == "end" {
            return next;
        }
        assert_eq!(text, next.to_string());
        next += 1;
        at(next, socket);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_moves_over_all_transports_under_load_with_nothing_lost_repeated_or_reordered() {
    use TransportKind::{LongPolling, Sse, WebSocket};
    let stop = Arc::new(AtomicUsize::new(0));
    let (tell, mut told) = mpsc::channel(1);
    let stopped = Arc::clone(&stop);
    let handler = move |mut socket: Socket, _hub| {
        let (stop, tell) = (Arc::clone(&stopped), tell.clone());
        async move {
            let sent = tokio::spawn(pump(socket.sender(), stop));
            let received = drain(&mut socket, |_, _| {}).await;
            tell.send((sent.await.unwrap(), received)).await.unwrap();
            socket.closed().await;
        }
    };
    let host = Host::serve(Server::builder().serve(handler).unwrap()).await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    let sending = tokio::spawn(pump(socket.sender(), Arc::clone(&stop)));
    let mut route = [Sse, LongPolling, WebSocket, LongPolling, Sse, WebSocket].into_iter();
    let mut wanted = WebSocket;
    let received = watchdog(drain(&mut socket, |count, socket| {
        if count % 200 == 0 && socket.state() == (State::Connected { transport: wanted }) {
            match route.next() {
                Some(kind) => {
                    wanted = kind;
                    socket.move_to(kind);
                }
                None => stop.store(1, Ordering::Relaxed),
            }
        }
    }))
    .await;
    let sent = watchdog(sending).await.unwrap();
    assert_eq!(watchdog(told.recv()).await, Some((received, sent)));
}

#[tokio::test]
async fn a_server_that_died_and_came_back_is_told_as_one_loss_and_it_goes_on() {
    for kind in TransportKind::ALL {
        let host = Host::apart(None);
        let addr = host.addr();
        let mut socket = watchdog(client(addr).transports([kind]).connect()).await.unwrap();
        socket.send("before").await.unwrap();
        assert_eq!(text(&mut socket).await, "before");
        let id = socket.id();
        host.kill();
        let _host = Host::apart(Some(addr));
        let lost = watchdog(socket.recv()).await.unwrap_err();
        let RecvError::Lost(ended) = lost else { panic!("{kind}: {lost:?}") };
        assert_eq!(ended.close.code, CloseCode::UnknownSession);
        socket.send("after").await.unwrap();
        assert_eq!(text(&mut socket).await, "after", "{kind}");
        assert_ne!(socket.id(), id);
    }
}

/// A server that lets in whoever bears a number, for a time if one is given, and notes the numbers.
fn guarded(expires: Option<Duration>) -> (Server, Arc<Mutex<Vec<u64>>>) {
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let numbers = Arc::clone(&seen);
    let keeper = move |attempt: &Attempt<'_>| {
        let token = attempt.auth().unwrap().to::<serde_json::Value>().unwrap();
        numbers.lock().unwrap().push(token["number"].as_u64().unwrap());
        let grant = Grant::to("somebody");
        std::future::ready(Ok(match expires {
            Some(expires) => grant.expires_in(expires),
            None => grant,
        }))
    };
    (Server::builder().authenticator(keeper).serve(host::echo_handler).unwrap(), seen)
}

type Token = Result<Json, throughline::transport::BoxError>;

/// A source of numbered tokens that fails when it is told to, and what was asked of it.
fn tokens(
    fails: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> (impl Fn(Freshness) -> std::future::Ready<Token>, Arc<Mutex<Vec<Freshness>>>) {
    let asked: Arc<Mutex<Vec<Freshness>>> = Arc::default();
    let calls = Arc::clone(&asked);
    let source = move |freshness| {
        let mut calls = calls.lock().unwrap();
        calls.push(freshness);
        let number = calls.len();
        let token: Token = if fails(number) {
            Err("none".into())
        } else {
            Ok(Json::of(&json!({ "number": number })).unwrap())
        };
        std::future::ready(token)
    };
    (source, asked)
}

#[tokio::test]
async fn each_attachment_bears_a_token_of_its_own() {
    let (server, seen) = guarded(None);
    let host = Host::serve(server).await;
    let (source, asked) = tokens(|_| false);
    let mut socket = watchdog(client(host.addr()).token(source).connect()).await.unwrap();
    socket.cut();
    until_carried(&socket).await;
    socket.move_to(TransportKind::Sse);
    host::until(&socket, &State::Connected { transport: TransportKind::Sse }).await;
    socket.send("hello").await.unwrap();
    assert_eq!(text(&mut socket).await, "hello");
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
    assert_eq!(*asked.lock().unwrap(), [Freshness::Any; 3]);
}

/// Sends and receives until the server has seen so many tokens.
async fn chat_until(socket: &mut Socket, seen: &Mutex<Vec<u64>>, tokens: usize) {
    let mut number = 0_u32;
    while seen.lock().unwrap().len() < tokens {
        socket.send(number.to_string().as_str()).await.unwrap();
        assert_eq!(text(socket).await, number.to_string());
        number += 1;
    }
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires_while_the_same_transport_carries_on() {
    for kind in TransportKind::ALL {
        // A quarter of it is left for the fresh one, on a busy machine too.
        let (server, seen) = guarded(Some(Duration::from_millis(1500)));
        let host = Host::serve(server).await;
        let (source, asked) = tokens(|_| false);
        let mut socket =
            watchdog(client(host.addr()).transports([kind]).token(source).connect()).await.unwrap();
        let mut watch = socket.watch();
        watchdog(chat_until(&mut socket, &seen, 3)).await;
        tokio::select! {
            biased;
            state = watch.changed() => panic!("{kind}: {state:?}"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(asked.lock().unwrap()[..2], [Freshness::Any, Freshness::Fresh], "{kind}");
    }
}

#[tokio::test]
async fn a_token_that_could_not_be_replaced_in_time_is_once_it_has_expired() {
    for kind in TransportKind::ALL {
        let (server, seen) = guarded(Some(Duration::from_millis(200)));
        let host = Host::serve(server).await;
        let (source, asked) = tokens(|number| number == 2);
        let mut socket =
            watchdog(client(host.addr()).transports([kind]).token(source).connect()).await.unwrap();
        watchdog(chat_until(&mut socket, &seen, 2)).await;
        assert_eq!(*seen.lock().unwrap(), [1, 3], "{kind}");
        assert_eq!(*asked.lock().unwrap(), [Freshness::Any, Freshness::Fresh, Freshness::Fresh], "{kind}");
    }
}

#[tokio::test]
async fn a_close_is_delivered_after_all_messages_and_answered() {
    for kind in TransportKind::ALL {
        let (tell, mut told) = mpsc::channel(300);
        let handler = move |mut socket: Socket, _hub| {
            let tell = tell.clone();
            async move {
                loop {
                    match socket.recv().await {
                        Ok(message) => tell.send(message.body.to().unwrap()).await.unwrap(),
                        Err(error) => return tell.send(error.close().to_string()).await.unwrap(),
                    }
                }
            }
        };
        let host = Host::serve(Server::builder().serve(handler).unwrap()).await;
        let socket = watchdog(client(host.addr()).transports([kind]).connect()).await.unwrap();
        for number in 0..100_u32 {
            socket.send(number.to_string().as_str()).await.unwrap();
        }
        socket.close(CloseCode::Normal, "enough");
        let close = watchdog(socket.closed()).await;
        assert_eq!((close.code.clone(), close.reason.as_ref()), (CloseCode::Normal, "enough"), "{kind}");
        for number in 0..100_u32 {
            assert_eq!(watchdog(told.recv()).await, Some(number.to_string()), "{kind}");
        }
        assert_eq!(watchdog(told.recv()).await.as_deref(), Some("normal: enough"), "{kind}");
    }
}

#[tokio::test]
async fn the_servers_close_is_final_where_its_code_says_so() {
    let server = Server::builder().serve(host::echo_handler).unwrap();
    let host = Host::serve(server.clone()).await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    assert!(server.close(socket.id(), CloseCode::from_word("kicked").unwrap(), "go away"));
    let ended = watchdog(socket.recv()).await.unwrap_err();
    assert!(matches!(ended, RecvError::Ended(_)), "{ended:?}");
    assert_eq!(ended.close().code.as_str(), "kicked");
    assert!(matches!(socket.state(), State::Closed { .. }));
}
