//! Two drivers over in-memory transports, in paused time.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::frame::{Body, CloseCode, Epoch, Frame, SessionId, TransportKind};
use crate::session::{Intent, Session};
use crate::transport::{Pipe, Received, Transport, TransportError, pipe};

use super::ends::{Ends, TestSupervisor, client_session, config, ends, first_frame, now, run};
use super::*;

async fn text(socket: &mut Socket) -> String {
    socket.recv().await.unwrap().body.to::<String>().unwrap()
}

#[tokio::test(start_paused = true)]
async fn messages_pass_both_ways_in_order() {
    let mut ends = ends();
    for number in 0..200 {
        ends.client.send(format!("up {number}")).await.unwrap();
    }
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    for number in 0..200 {
        assert_eq!(text(&mut ends.server).await, format!("up {number}"));
        ends.server.send(format!("down {number}")).await.unwrap();
    }
    for number in 0..200 {
        assert_eq!(text(&mut ends.client).await, format!("down {number}"));
    }
    assert_eq!(ends.at_server.attached(), [false]);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_nothing_carries_arrives_once_afterwards() {
    let mut ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.connected(TransportKind::WebSocket).await;
    ends.client.send("one").await.unwrap();
    assert_eq!(text(&mut ends.server).await, "one");
    ends.client.cut();
    let mut watch = ends.client.watch();
    while !matches!(watch.changed().await, State::Reconnecting { .. }) {}
    ends.client.send("two").await.unwrap();
    ends.server.send("three").await.unwrap();
    ends.dial(TransportKind::Sse, Intent::Attach).await;
    assert_eq!(text(&mut ends.server).await, "two");
    assert_eq!(text(&mut ends.client).await, "three");
    assert_eq!(ends.at_server.attached().last(), Some(&true));
    assert_eq!(ends.client.state(), State::Connected { transport: TransportKind::Sse });
}

#[tokio::test(start_paused = true)]
async fn a_candidate_takes_over_while_messages_flow() {
    let mut ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.connected(TransportKind::WebSocket).await;
    for number in 0..50 {
        ends.client.send(number.to_string()).await.unwrap();
        if number == 20 {
            ends.dial(TransportKind::Sse, Intent::Candidate).await;
        }
    }
    for number in 0..50 {
        assert_eq!(text(&mut ends.server).await, number.to_string());
    }
    ends.connected(TransportKind::Sse).await;
    ends.server.send("on the new path").await.unwrap();
    assert_eq!(text(&mut ends.client).await, "on the new path");
    assert_eq!(ends.at_client.attached().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn both_ends_tell_what_carried_the_session() {
    let mut ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.client.send("up").await.unwrap();
    assert_eq!(text(&mut ends.server).await, "up");
    ends.dial(TransportKind::Sse, Intent::Candidate).await;
    ends.connected(TransportKind::Sse).await;
    for socket in [&ends.client, &ends.server] {
        let [old, new] = &socket.transport_history()[..] else { panic!("two transports") };
        assert_eq!(old.ended.as_ref().map(|end| &*end.code), Some("superseded"));
        assert_eq!((old.transport, new.transport), (TransportKind::WebSocket, TransportKind::Sse));
        assert_eq!(old.sent.messages + old.received.messages, 1);
        assert_eq!(new.ended, None);
    }
    ends.client.close(CloseCode::Normal, "enough");
    ends.client.closed().await;
    let last = ends.client.transport_history().pop().and_then(|last| last.ended);
    assert_eq!(last.map(|end| end.code.to_string()), Some("normal".into()));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_by_its_own_reply() {
    let mut ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    let asker = ends.client.sender();
    let (first, second) = (asker.request("first"), asker.request("second"));
    let serve = async {
        let one = ends.server.recv().await.unwrap();
        let two = ends.server.recv().await.unwrap();
        ends.server.reply(&two, "2").await.unwrap();
        ends.server.fail(&one, "busy", "later").await.unwrap();
    };
    let (first, second, ()) = tokio::join!(first, second, serve);
    assert_eq!(first, Err(RequestError::Failed { code: "busy".into(), message: "later".into() }));
    assert_eq!(second.unwrap(), Body::from("2"));
}

#[tokio::test(start_paused = true)]
async fn send_acked_waits_for_the_receipt() {
    let ends = ends();
    let sender = ends.client.sender();
    let acked = tokio::spawn(async move { sender.send_acked("x").await });
    tokio::task::yield_now().await;
    assert!(!acked.is_finished());
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    assert_eq!(acked.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_close_arrives_after_all_messages_and_is_answered() {
    let mut ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.server.send("last words").await.unwrap();
    ends.server.close(CloseCode::from_word("kicked").unwrap(), "be nice");
    assert_eq!(text(&mut ends.client).await, "last words");
    let error = ends.client.recv().await.unwrap_err();
    assert_eq!(error.close().code.as_str(), "kicked");
    assert_eq!(error.close().reason, "be nice");
    assert_eq!(ends.server.closed().await.code.as_str(), "kicked");
    assert_eq!(ends.client.send("too late").await, Err(SendError::Closed));
    while !(ends.client_link.is_finished() && ends.server_link.is_finished()) {
        tokio::time::advance(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_socket_closes_in_order() {
    let Ends { mut client, server, client_link, server_link, at_client, at_server } = ends();
    let ends = Ends {
        client: client_link.socket(),
        server: server_link.socket(),
        client_link,
        server_link,
        at_client,
        at_server,
    };
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    server.send("bye").await.unwrap();
    drop(server);
    assert_eq!(text(&mut client).await, "bye");
    assert_eq!(client.recv().await.unwrap_err().close().code, CloseCode::Normal);
}

#[tokio::test(start_paused = true)]
async fn each_message_that_is_taken_opens_the_window_at_once() {
    let mut ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.connected(TransportKind::WebSocket).await;
    // The window of 256 messages is full, and all wait in the hands of the server's socket.
    for number in 0..256 {
        ends.client.send_acked(number.to_string()).await.unwrap();
    }
    for number in 0..3 {
        // Each takes one; nobody asks for the next meanwhile.
        assert_eq!(text(&mut ends.server).await, number.to_string());
        tokio::time::timeout(Duration::from_secs(1), ends.client.send_acked("more")).await.unwrap().unwrap();
    }
    // And the last one of all counts as well.
    for _ in 3..256 + 3 {
        text(&mut ends.server).await;
    }
    for number in 0..256 {
        let sent = ends.client.send_acked(number.to_string());
        tokio::time::timeout(Duration::from_secs(1), sent).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_is_closed_after_the_patience_and_nobody_waits_for_ever() {
    let ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    let mut sent = 0;
    let error = loop {
        match ends.server.send("x".repeat(10_000)).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, SendError::SlowConsumer);
    assert!(sent * 10_000 <= 4 << 20, "{sent} messages were accepted");
    assert_eq!(ends.server.closed().await.code, CloseCode::SlowConsumer);
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_is_reported_with_what_is_unknown_and_followed_by_a_new_one() {
    let mut ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.connected(TransportKind::WebSocket).await;
    ends.client.send_acked("known").await.unwrap();
    ends.client.cut();
    let mut watch = ends.client.watch();
    while !matches!(watch.changed().await, State::Reconnecting { .. }) {}
    let asked = ends.client.sender();
    let waits = tokio::spawn(async move { asked.send_acked("goes over").await });
    tokio::task::yield_now().await;
    ends.at_client.0.lock().unwrap().renew = Some(client_session(2));
    // The server has forgotten: its answer to hello is a close.
    let (near, mut far) = pipe(TransportKind::WebSocket);
    let introduce = Command::Introduce { transport: Box::new(near), intent: Intent::Attach, auth: None };
    ends.client_link.deposit(introduce).unwrap();
    assert!(matches!(first_frame(&mut far).await, Frame::Hello(hello) if hello.epoch.is_some()));
    poll_fn(|cx| far.poll_ready(cx)).await.unwrap();
    far.start_send(&Frame::Close(Close::new(CloseCode::UnknownSession, "")));
    poll_fn(|cx| far.poll_flush(cx)).await.unwrap();
    let RecvError::Lost(lost) = ends.client.recv().await.unwrap_err() else { panic!("expected a loss") };
    assert_eq!(lost.close.code, CloseCode::UnknownSession);
    // It was put behind the refused hello, so nobody knows.
    assert_eq!(lost.undelivered.len(), 1);
    assert_eq!(waits.await.unwrap(), Err(AckError::Lost { unknown: true }));
    // The new session works.
    assert_eq!(ends.client.id(), SessionId::from_bytes([2; 16]));
    let fresh = Session::server(config(), ends.client.id(), Epoch::from_bytes([2; 8]), now());
    let (link, at_server) = run(fresh, None);
    (ends.server, ends.server_link, ends.at_server) = (link.socket(), link, at_server);
    ends.client.send("again").await.unwrap();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    assert_eq!(text(&mut ends.server).await, "again");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_lost_session_does_not_disturb_the_next() {
    let mut ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.connected(TransportKind::WebSocket).await;
    let asking = ends.server.sender();
    let asked = tokio::spawn(async move { asking.request("what").await });
    let request = ends.client.recv().await.unwrap();
    for number in 0..200 {
        ends.server.send_acked(number.to_string()).await.unwrap();
    }
    ends.client.cut();
    ends.client.reply(&request, "never on a transport").await.unwrap();
    ends.at_client.0.lock().unwrap().renew = Some(client_session(2));
    let _ = ends.client_link.deposit(Command::Abort(Close::new(CloseCode::UnknownSession, "")));
    while ends.client.id() != SessionId::from_bytes([2; 16]) {
        tokio::task::yield_now().await;
    }
    let fresh = Session::server(config(), SessionId::from_bytes([2; 16]), Epoch::from_bytes([2; 8]), now());
    let (link, at_server) = run(fresh, None);
    (ends.server, ends.server_link, ends.at_server) = (link.socket(), link, at_server);
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.connected(TransportKind::WebSocket).await;
    assert_eq!(asked.await.unwrap(), Err(RequestError::Lost));
    for number in 0..256 {
        ends.server.send_acked(number.to_string()).await.unwrap();
    }
    for number in 0..200 {
        assert_eq!(text(&mut ends.client).await, number.to_string());
    }
    let more = ends.server.send_acked("more");
    let waits = tokio::time::timeout(Duration::from_secs(5), more).await;
    assert!(waits.is_err(), "the window was opened by messages of another session");
    let RecvError::Lost(lost) = ends.client.recv().await.unwrap_err() else { panic!("expected a loss") };
    assert_eq!(lost.undelivered.len(), 1);
    // An answer that comes too late goes unheard, and breaks nothing.
    let late = Message { seq: crate::frame::Seq::new(5000).unwrap(), ..request };
    ends.client.reply(&late, "too late").await.unwrap();
    assert_eq!(text(&mut ends.client).await, "0");
    ends.client.send("still here").await.unwrap();
    assert_eq!(text(&mut ends.server).await, "still here");
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_sleeps_between_heartbeats() {
    let ends = ends();
    ends.dial(TransportKind::WebSocket, Intent::Attach).await;
    ends.connected(TransportKind::WebSocket).await;
    let begun = tokio::time::Instant::now();
    // Paused time jumps from timer to timer: were a deadline met by nothing, this would spin for ever.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(3600));
    assert_eq!(ends.client.state(), State::Connected { transport: TransportKind::WebSocket });
}

#[tokio::test(start_paused = true)]
async fn what_stood_for_longer_than_silence_may_last_goes_on_as_before() {
    for kind in [TransportKind::WebSocket, TransportKind::Sse] {
        let mut ends = ends();
        ends.dial(kind, Intent::Attach).await;
        ends.connected(kind).await;
        // Nothing ran in between, at either end.
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        for socket in [&ends.client, &ends.server] {
            assert!(socket.transport_history().iter().all(|passage| passage.ended.is_none()), "{kind}");
        }
        ends.server.send("still there").await.unwrap();
        assert_eq!(text(&mut ends.client).await, "still there");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_driver_leaves_nobody_waiting() {
    let supervisor = TestSupervisor::default();
    let launch_it = Launch { session: client_session(3), identity: Identity::default(), patience: None };
    let (shared, driver) = launch(launch_it, |_| Box::new(supervisor));
    let mut socket = shared.socket();
    let task = tokio::spawn(driver);
    let sender = socket.sender();
    let waits = tokio::spawn(async move { sender.send_acked("x").await });
    tokio::task::yield_now().await;
    task.abort();
    assert!(waits.await.unwrap().is_err());
    assert_eq!(socket.recv().await.unwrap_err().close().code, CloseCode::InternalError);
}

/// A transport whose reads may only be asked for again after `shrink`, as the trait has it: it wakes nobody itself then.
#[derive(Debug)]
struct Watched {
    inner: Pipe,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// How often it was told to shrink, and whether it was read since.
    shrunk: (usize, bool),
    /// What came is not given out meanwhile, and nobody is woken for it.
    withheld: bool,
}

impl Transport for Watched {
    fn kind(&self) -> TransportKind {
        self.inner.kind()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        let mut seen = self.seen.lock().unwrap();
        seen.shrunk.1 = true;
        if seen.withheld { Poll::Pending } else { self.inner.poll_recv(cx) }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.inner.poll_ready(cx)
    }

    fn start_send(&mut self, frame: &Frame) {
        self.inner.start_send(frame);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.inner.poll_close(cx)
    }

    fn shrink(&mut self) {
        let mut seen = self.seen.lock().unwrap();
        seen.shrunk = (seen.shrunk.0 + 1, false);
    }
}

/// Two ends whose server reads by a transport that is watched.
async fn watched() -> (Ends, Arc<Mutex<Seen>>) {
    let ends = ends();
    let (near, mut far) = pipe(TransportKind::WebSocket);
    let introduce = Command::Introduce { transport: Box::new(near), intent: Intent::Attach, auth: None };
    ends.client_link.deposit(introduce).unwrap();
    let Frame::Hello(hello) = first_frame(&mut far).await else { panic!("expected hello") };
    let seen = Arc::new(Mutex::new(Seen::default()));
    let transport = Box::new(Watched { inner: far, seen: Arc::clone(&seen) });
    let command = Command::Hello { hello, transport, behind: Vec::new(), expires: None, offer: None };
    ends.server_link.deposit(command).unwrap();
    ends.connected(TransportKind::WebSocket).await;
    (ends, seen)
}

#[tokio::test(start_paused = true)]
async fn a_transport_gives_its_room_back_after_a_large_message_and_is_read_again() {
    let (ends, seen) = watched().await;
    let mut server = ends.server;
    // The first time is after the greeting.
    for (size, shrunk) in [(8 << 10, 1), ((8 << 10) + 1, 2), (100, 2), (64 << 10, 3)] {
        ends.client.send(vec![1; size]).await.unwrap();
        assert_eq!(server.recv().await.unwrap().body.len(), size);
        // The drivers come to rest.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(seen.lock().unwrap().shrunk, (shrunk, true), "after {size} bytes");
    }
}

/// How long the server takes a client for alive of whom it reads nothing for so long.
async fn alive_for(withheld: Duration) -> Option<Duration> {
    let (ends, seen) = watched().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    seen.lock().unwrap().withheld = true;
    let begun = tokio::time::Instant::now();
    let mut watch = ends.server.watch();
    let gives_up = async {
        while matches!(watch.changed().await, State::Connected { .. }) {}
        begun.elapsed()
    };
    let gives_up = tokio::time::timeout(Duration::from_secs(300), gives_up);
    let comes = async {
        tokio::time::sleep(withheld).await;
        seen.lock().unwrap().withheld = false;
    };
    tokio::join!(gives_up, comes).0.ok()
}

#[tokio::test(start_paused = true)]
async fn silence_is_judged_after_what_has_come_was_read() {
    let silent = alive_for(Duration::from_secs(600)).await.expect("silence is found out");
    // The pings were answered; nothing wakes the server before it would find them missing.
    assert_eq!(alive_for(silent.saturating_sub(Duration::from_millis(1))).await, None);
}
