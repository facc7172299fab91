//! What the server offers, what a network taught, and what a session can tell of it.

use std::sync::Arc;
use std::time::Duration;

use throughline::client::{MemoryVerdicts, Verdicts};
use throughline::frame::TransportKind::{self, LongPolling, Sse, WebSocket};
use throughline::server::{Attempt, Offer};
use throughline::{Server, Socket, State};

use crate::host::{Host, Seen, client, echo, echo_handler, text, until, until_carried, watchdog};

/// The kinds and codes of a history.
fn told(socket: &Socket) -> Vec<(TransportKind, Option<String>)> {
    let history = socket.transport_history();
    history.iter().map(|p| (p.transport, p.ended.as_ref().map(|end| end.code.to_string()))).collect()
}

#[tokio::test]
async fn a_policy_forbids_and_reorders_for_whom_it_will() {
    let builder = Server::builder().policy(|attempt: &Attempt<'_>| {
        match attempt.headers().get("x-from").and_then(|from| from.to_str().ok()) {
            Some("office") => Offer::usual().forbid(WebSocket).because("the office cuts them"),
            Some("polls") => Offer::usual().prefer([LongPolling]),
            _ => Offer::usual(),
        }
    });
    let host = Host::serve(builder.serve(echo_handler).unwrap()).await;
    for (from, first, after) in
        [("home", WebSocket, WebSocket), ("office", Sse, Sse), ("polls", WebSocket, LongPolling)]
    {
        let mut socket = watchdog(client(host.addr()).header("x-from", from).connect()).await.unwrap();
        until(&socket, &State::Connected { transport: first }).await;
        if from == "office" {
            let history = socket.transport_history();
            let refused = history.first().and_then(|passage| passage.ended.as_ref()).unwrap();
            assert!(refused.text.contains("the office cuts them"), "{refused:?}");
        }
        // The order counts from the next time on.
        socket.cut();
        until_carried(&socket).await;
        until(&socket, &State::Connected { transport: after }).await;
        socket.send("hello").await.unwrap();
        assert_eq!(text(&mut socket).await, "hello");
    }
}

#[tokio::test]
async fn a_session_tells_what_carried_it_and_why_that_ended() {
    let host = Host::refusing(echo(), |seen| seen == Seen::Upgrade).await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    socket.send("hello").await.unwrap();
    assert_eq!(text(&mut socket).await, "hello");
    assert_eq!(told(&socket), [(WebSocket, Some("failed".into())), (Sse, None)]);
    socket.move_to(LongPolling);
    until(&socket, &State::Connected { transport: LongPolling }).await;
    let history = socket.transport_history();
    assert_eq!(
        told(&socket),
        [(WebSocket, Some("failed".into())), (Sse, Some("superseded".into())), (LongPolling, None)]
    );
    assert_eq!((history[1].sent.messages, history[1].received.messages), (1, 1));
    assert_eq!((history[1].sent.bytes, history[2].sent.bytes), (7, 0));
    assert!(history[1].proved_after.is_some());
}

#[tokio::test]
async fn what_one_session_learned_of_a_network_the_next_one_knows() {
    let host = Host::refusing(echo(), |seen| seen == Seen::Upgrade).await;
    let store: Arc<dyn Verdicts> = Arc::new(MemoryVerdicts::new());
    for (network, upgrades) in [("office", 1), ("office", 1), ("home", 2)] {
        let client = client(host.addr()).verdicts(Arc::clone(&store)).network(|| network.to_owned());
        let socket = watchdog(client.connect()).await.unwrap();
        assert_eq!(socket.state(), State::Connected { transport: Sse });
        assert_eq!(host.seen(Seen::Upgrade), upgrades, "{network}");
    }
}

#[tokio::test]
async fn on_a_changed_network_the_best_transport_is_tried_again_and_moved_to() {
    let refuses = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let box_refuses = Arc::clone(&refuses);
    let host = Host::refusing(echo(), move |seen| {
        seen == Seen::Upgrade && box_refuses.load(std::sync::atomic::Ordering::SeqCst)
    })
    .await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    assert_eq!(socket.state(), State::Connected { transport: Sse });
    refuses.store(false, std::sync::atomic::Ordering::SeqCst);
    socket.network_changed();
    until(&socket, &State::Connected { transport: WebSocket }).await;
    socket.send("hello").await.unwrap();
    assert_eq!(text(&mut socket).await, "hello");
}

#[tokio::test]
async fn where_nobody_answers_connect_fails_in_its_time() {
    let host = Host::refusing(echo(), |_| true).await;
    let begun = tokio::time::Instant::now();
    let connecting = client(host.addr()).give_up_after(Duration::from_millis(300)).connect();
    let error = watchdog(connecting).await.unwrap_err();
    assert!(matches!(error, throughline::ConnectError::Unreachable { .. }), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
}
