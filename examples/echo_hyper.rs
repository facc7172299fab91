//! Echo on bare hyper, without a router: every path is the session URL.
//!
//! ```text
//! cargo run --example echo_hyper              # listens on 127.0.0.1:3000, or on its first argument
//! websocat 'ws://127.0.0.1:3000/?plain'       # each line comes back
//! ```
//!
//! Pages of the origins that stand behind the address are let in as well.

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use throughline::frame::MessageKind;
use throughline::{Hub, Server, Socket};
use tokio::net::TcpListener;

#[path = "support/listening.rs"]
mod listening;

async fn echo(mut socket: Socket, _hub: Hub) {
    while let Ok(message) = socket.recv().await {
        let echoed = match message.kind {
            MessageKind::Request => socket.reply(&message, message.body.clone()).await,
            _ => socket.send(message.body).await,
        };
        if echoed.is_err() {
            break;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let builder = Server::builder().plain_websocket(true);
    let builder = std::env::args().skip(2).fold(builder, |builder, origin| builder.allow_origin(origin));
    let live = builder.serve(echo)?;
    let listener = TcpListener::bind(&address).await?;
    println!("echo on {}", listener.local_addr()?);
    loop {
        let stream = listening::accept(&listener).await;
        let service = live.service();
        tokio::spawn(async move {
            // `with_upgrades` is what lets WebSockets through.
            let mut http = http1::Builder::new();
            let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.with_upgrades().await {
                eprintln!("connection: {error}");
            }
        });
    }
}
