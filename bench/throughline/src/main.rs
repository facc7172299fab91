//! The library under test, doing the jobs of the other peers over all its transports, on 127.0.0.1:$PORT:
//!   /echo  every message goes back to its sender; a request is answered with what it said
//!   /sub   receives everything published; what it says itself comes back, too
//!   /pub   every message received here goes to all of /sub
//! `--features mimalloc` or `jemalloc` sets the allocator.
//! `RT=current` selects tokio's current-thread runtime, `EVENT_INTERVAL` (default 1024) how many tasks have their turn before
//! sockets are asked for news, as for the other Rust peers, whose default is tokio's.

use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use throughline::frame::MessageKind;
use throughline::{Hub, Server, Socket};
use tokio::net::TcpSocket;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROOM: &str = "room";

async fn echo(mut socket: Socket, _hub: Hub) {
    while let Ok(message) = socket.recv().await {
        let sent = match message.kind {
            MessageKind::Request => socket.reply(&message, message.body.clone()).await,
            _ => socket.send(message.body).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn subscribe(socket: Socket, hub: Hub) {
    let Ok(_member) = hub.room(ROOM).join(&socket).await else { return };
    echo(socket, hub).await;
}

async fn publish(mut socket: Socket, hub: Hub) {
    let room = hub.room(ROOM);
    while let Ok(message) = socket.recv().await {
        if room.publish(message.body).await.is_err() {
            return;
        }
    }
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let hub = Hub::new();
    let server = || Server::builder().hub(hub.clone());
    let (echoes, subscribers, publishers) =
        (server().serve(echo)?, server().serve(subscribe)?, server().serve(publish)?);
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(9000);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(4096)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left: some will be given back.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let services = [("/echo", &echoes), ("/sub", &subscribers), ("/pub", &publishers)]
            .map(|(path, server)| (path, server.service()));
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let path = request.uri().path();
            let [echo, ..] = &services;
            let (_, service) = services.iter().find(|(known, _)| *known == path).unwrap_or(echo);
            service.call(request)
        });
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            // A client that is gone is no failure of the server's.
            let _ = connection.with_upgrades().await;
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let current = std::env::var("RT").is_ok_and(|runtime| runtime == "current");
    let mut runtime = if current {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    // So that sockets are asked for news only when all who are ready have had their turn: see `throughline::server::Server`.
    let turns = std::env::var("EVENT_INTERVAL").ok().and_then(|turns| turns.parse().ok()).unwrap_or(1024);
    runtime.event_interval(turns);
    runtime.enable_all().build()?.block_on(serve())
}
