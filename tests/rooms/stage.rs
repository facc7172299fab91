//! A server whose handler serves rooms and echoes, behind a wire, and clients with rooms.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use throughline::client::rooms::Event;
use throughline::client::{self, Backoff};
use throughline::frame::{Json, MessageKind, TransportKind};
use throughline::hub::{Action, Authorize, Hub, Visitor};
use throughline::room::payload::{Notice, Said};
use throughline::server::{Attempt, Grant};
use throughline::{Client, Rooms, Server, Socket};

use crate::support::{Served, Wire, within};

/// Rights that a test changes: everything but what is refused.
#[derive(Clone, Default)]
pub(crate) struct Rights(Arc<Mutex<HashSet<(String, Action)>>>);

impl Rights {
    pub(crate) fn refuse(&self, name: &str, action: Action) {
        self.0.lock().unwrap().insert((name.to_owned(), action));
    }

    pub(crate) fn allow(&self, name: &str, action: Action) {
        self.0.lock().unwrap().remove(&(name.to_owned(), action));
    }
}

#[async_trait]
impl Authorize for Rights {
    async fn allow(&self, visitor: &Visitor, _room: &str, action: Action) -> bool {
        tokio::task::yield_now().await;
        let name = visitor.principal.as_ref().map_or("", |principal| principal.as_str());
        !self.0.lock().unwrap().contains(&(name.to_owned(), action))
    }
}

/// A server, the hub, and the way to it.
pub(crate) struct Stage {
    pub(crate) hub: Hub,
    pub(crate) wire: Wire,
    server: Server,
    served: Option<Served>,
    never: Arc<AtomicUsize>,
    drops: bool,
}

impl Stage {
    pub(crate) async fn new(hub: Hub) -> Self {
        Self::with(hub, false).await
    }

    /// With a handler that drops its `recv` at each turn.
    pub(crate) async fn dropping(hub: Hub) -> Self {
        Self::with(hub, true).await
    }

    async fn with(hub: Hub, drops: bool) -> Self {
        let never = Arc::new(AtomicUsize::new(0));
        let server = serve(hub.clone(), drops, Arc::clone(&never));
        let served = Served::new(&server).await;
        let wire = Wire::to(served.address).await;
        Self { hub, wire, server, served: Some(served), never, drops }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// How many requests the handler leaves unanswered.
    pub(crate) fn never(&self) -> usize {
        self.never.load(SeqCst)
    }

    /// Another server takes the place of this one, which knows none of its sessions.
    pub(crate) async fn restart(&mut self, hub: Hub) {
        let address = self.served.take().unwrap().address;
        self.server = serve(hub.clone(), self.drops, Arc::clone(&self.never));
        self.hub = hub;
        let listening = async {
            loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = within(5, "the address is free", listening).await;
        self.served = Some(Served::on(listener, &self.server));
        self.wire.cut();
    }

    pub(crate) async fn connect(&self, name: &str, kinds: impl IntoIterator<Item = TransportKind>) -> Rooms {
        let connecting = client(&self.wire, name, kinds).connect();
        Rooms::over(within(10, "the client connects", connecting).await.unwrap())
    }
}

/// A client of this name.
pub(crate) fn client(
    wire: &Wire,
    name: &str,
    kinds: impl IntoIterator<Item = TransportKind>,
) -> client::Builder {
    let token = Json::of(name).unwrap();
    let backoff = Backoff::default().base(Duration::from_millis(20)).cap(Duration::from_millis(200));
    Client::builder(wire.url()).transports(kinds).backoff(backoff).token(move |_| {
        let token = token.clone();
        async move { Ok(token) }
    })
}

fn serve(hub: Hub, drops: bool, never: Arc<AtomicUsize>) -> Server {
    let handler = move |socket: Socket, hub: Hub| handle(socket, hub, drops, Arc::clone(&never));
    let by_name = |attempt: &Attempt<'_>| {
        let name = attempt.auth().and_then(|token| token.to::<String>().ok()).unwrap_or_default();
        async move { Ok(Grant::to(name)) }
    };
    Server::builder().hub(hub).authenticator(by_name).serve(handler).unwrap()
}

async fn handle(mut socket: Socket, hub: Hub, drops: bool, never: Arc<AtomicUsize>) {
    if socket.principal().is_some_and(|principal| principal.as_str() == "plain") {
        let _member = hub.room("open").join(&socket).await.unwrap();
        let _ = socket.recv().await;
        return;
    }
    let mut live = hub.serve(socket);
    loop {
        let received = if drops {
            // One poll, and away with it.
            let once = std::future::poll_fn(|cx| {
                let recv = std::pin::pin!(live.recv());
                std::task::Poll::Ready(recv.poll(cx))
            });
            match once.await {
                std::task::Poll::Ready(received) => received,
                std::task::Poll::Pending => {
                    tokio::task::yield_now().await;
                    continue;
                }
            }
        } else {
            live.recv().await
        };
        let Ok(message) = received else { return };
        if message.body == "never".into() {
            never.fetch_add(1, SeqCst);
        } else if message.kind == MessageKind::Request {
            let _ = live.reply(&message, message.body.clone()).await;
        } else {
            let _ = live.sender().send(message.body).await;
        }
    }
}

/// What a room tells, if it does.
pub(crate) fn kind(event: &Event) -> Option<&Notice> {
    match event {
        Event::Room(notice) => Some(notice),
        _ => None,
    }
}

/// Receives until something holds.
pub(crate) async fn until(rooms: &mut Rooms, holds: impl Fn(&Event) -> bool) -> Event {
    let wait = async {
        loop {
            let event = rooms.recv().await.unwrap();
            if holds(&event) {
                return event;
            }
        }
    };
    within(20, "it comes", wait).await
}

/// What a room tells next.
pub(crate) async fn next(rooms: &mut Rooms) -> Notice {
    match within(20, "a notice", rooms.recv()).await.unwrap() {
        Event::Room(notice) => notice,
        other => panic!("{other:?}"),
    }
}

/// What is said next.
pub(crate) async fn said(rooms: &mut Rooms) -> Said {
    match next(rooms).await {
        Notice::Said(said) => said,
        other => panic!("{other:?}"),
    }
}
