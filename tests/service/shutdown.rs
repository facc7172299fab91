//! The end of a server: nobody is let in, all are sent home, and whoever stays is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use throughline::Server;
use throughline::frame::{CloseCode, Frame, TransportKind};
use throughline::server::{Attempt, Grant};
use tokio::sync::Notify;

use crate::raw::{Host, WEBSOCKET, hello, text, watchdog};

#[tokio::test]
async fn shutdown_closes_sessions_and_refuses_new_ones() {
    let host = Host::echo(Server::builder()).await;
    let mut wire = host.websocket(WEBSOCKET).await;
    wire.say(&text(&[hello(TransportKind::WebSocket)])).await;
    assert!(matches!(wire.frames().await[0], Frame::Welcome(_)));
    let live = host.live.clone();
    let ending = tokio::spawn(async move { live.shutdown("bye", Duration::from_secs(10)).await });
    let code = wire.frame(|frame| match frame {
        Frame::Close(close) => Some(close.code.clone()),
        _ => None,
    });
    assert_eq!(code.await, CloseCode::GoingAway);
    let refused = host.post(&[hello(TransportKind::LongPolling)], "").await;
    assert_eq!(refused.close(), (503, "draining".into()));
    assert!(refused.header("retry-after").is_some());
    let health = host.ask("GET /live HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(health.status == 503 && health.header("retry-after").is_some());
    wire.say(&text(&[Frame::Close(throughline::Close::new(CloseCode::GoingAway, ""))])).await;
    assert_eq!(watchdog(ending).await.unwrap(), 0);
    assert_eq!(host.live.sessions(), 0);
}

#[tokio::test]
async fn who_is_judged_when_shutdown_begins_is_not_let_in() {
    let (judging, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, wait) = (Arc::clone(&judging), Arc::clone(&go_on));
    let slow = move |_: &Attempt<'_>| {
        let (begun, wait) = (Arc::clone(&begun), Arc::clone(&wait));
        async move {
            begun.notify_one();
            wait.notified().await;
            Ok(Grant::anonymous())
        }
    };
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = move |_socket, _hub| {
        counted.fetch_add(1, SeqCst);
        std::future::pending()
    };
    let host = Arc::new(Host::of(Server::builder().authenticator(slow).serve(handler).unwrap()).await);
    let asking = Arc::clone(&host);
    let refused =
        tokio::spawn(async move { asking.post(&[hello(TransportKind::LongPolling)], "").await.close() });
    watchdog(judging.notified()).await;
    watchdog(host.live.shutdown("bye", Duration::from_secs(1))).await;
    go_on.notify_one();
    assert_eq!(watchdog(refused).await.unwrap(), (503, "draining".into()));
    assert_eq!((runs.load(SeqCst), host.live.sessions()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn shutdown_cuts_what_does_not_end() {
    let live = Server::builder().serve(|_socket, _hub| std::future::pending()).unwrap();
    let host = Host::of(live).await;
    host.poller().await;
    assert_eq!(host.live.shutdown("bye", Duration::from_secs(1)).await, 1);
    assert_eq!(host.live.sessions(), 0);
}

/// A server whose one session never ends by itself.
async fn stubborn() -> Host {
    let host = Host::of(Server::builder().serve(|_socket, _hub| std::future::pending()).unwrap()).await;
    host.poller().await;
    host
}

#[tokio::test(start_paused = true)]
async fn of_two_shutdowns_the_earlier_time_holds_and_both_return() {
    for seconds in [[1, 3600], [3600, 1], [1, 1]] {
        let host = stubborn().await;
        let began = tokio::time::Instant::now();
        let [first, second] = seconds.map(|seconds| host.live.shutdown("bye", Duration::from_secs(seconds)));
        assert_eq!(tokio::join!(first, second), (1, 1), "both say how many were cut");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(host.live.sessions(), 0);
        // And one that comes late finds nothing to wait for.
        assert_eq!(host.live.shutdown("bye", Duration::from_secs(3600)).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_leaves_the_other_waiting_for_the_end() {
    let host = stubborn().await;
    let began = tokio::time::Instant::now();
    let (first, second) = (host.live.clone(), host.live.clone());
    let mut first = Box::pin(async move { first.shutdown("bye", Duration::from_secs(1)).await });
    let second = tokio::spawn(async move { second.shutdown("bye", Duration::from_secs(5)).await });
    let dropped = tokio::time::timeout(Duration::from_millis(500), &mut first).await;
    assert!(dropped.is_err());
    drop(first);
    assert_eq!(second.await.unwrap(), 1);
    assert_eq!(began.elapsed().as_secs(), 6);
}
