//! Moves that the application or the server asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use throughline::frame::TransportKind;
use throughline::server::{Attempt, Grant};
use throughline::{Server, State};

use crate::host::{Host, Seen, client, echo, echo_handler, text, until, until_carried, watchdog};

#[tokio::test]
async fn a_move_that_fails_leaves_the_session_where_it_is() {
    let host = Host::refusing(echo(), |seen| seen == Seen::Stream).await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    socket.move_to(TransportKind::Sse);
    watchdog(async {
        while host.seen(Seen::Stream) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..10 {
        socket.send("still here").await.unwrap();
        assert_eq!(text(&mut socket).await, "still here");
    }
    assert_eq!(socket.state(), State::Connected { transport: TransportKind::WebSocket });
}

#[tokio::test]
async fn the_server_can_ask_for_a_move() {
    let server = Server::builder().serve(echo_handler).unwrap();
    let host = Host::serve(server.clone()).await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    assert!(server.move_session(socket.id(), TransportKind::LongPolling, Duration::from_millis(100)));
    until(&socket, &State::Connected { transport: TransportKind::LongPolling }).await;
    socket.send("hello").await.unwrap();
    assert_eq!(text(&mut socket).await, "hello");
    // What was moved to is what it comes back by.
    socket.cut();
    until_carried(&socket).await;
    assert_eq!(socket.state(), State::Connected { transport: TransportKind::LongPolling });
}

/// A server, and how often a `hello` came to it.
fn counting() -> (Server, Arc<AtomicUsize>) {
    let hellos = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&hellos);
    let builder = Server::builder().authenticator(move |_: &Attempt<'_>| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(Grant::to("anybody")))
    });
    (builder.serve(echo_handler).unwrap(), hellos)
}

#[tokio::test]
async fn a_move_to_the_kind_that_carries_opens_a_fresh_one_with_nothing_lost() {
    for kind in TransportKind::ALL {
        for by_server in [false, true] {
            let (server, hellos) = counting();
            let host = Host::serve(server.clone()).await;
            let mut socket = watchdog(client(host.addr()).transports([kind]).connect()).await.unwrap();
            if by_server {
                assert!(server.move_session(socket.id(), None, Duration::ZERO));
            } else {
                socket.move_to(kind);
            }
            let talk = async {
                let mut number = 0_u32;
                while hellos.load(Ordering::SeqCst) < 2 || number < 100 {
                    socket.send(number.to_string().as_str()).await.unwrap();
                    assert_eq!(text(&mut socket).await, number.to_string(), "{kind}");
                    number += 1;
                }
            };
            watchdog(talk).await;
            assert_eq!(socket.state(), State::Connected { transport: kind });
        }
    }
}
