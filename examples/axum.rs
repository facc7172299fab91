//! A live URL in an axum router, beside other routes. What faces the internet without a proxy before it wants more: see
//! `hardened.rs`.
//!
//! ```text
//! cargo run --example axum                    # listens on 127.0.0.1:3000, or on its first argument
//! curl -N -H 'Accept: text/event-stream' http://127.0.0.1:3000/live
//! curl http://127.0.0.1:3000/ring             # rings the bell: curl above shows it
//! ```

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use throughline::{Hub, Server, Socket};

/// Everybody hears the bell, and may ring it by any message.
async fn bell(mut socket: Socket, hub: Hub) {
    let tower = hub.room("tower");
    let Ok(_member) = tower.join(&socket).await else { return };
    while socket.recv().await.is_ok() {
        let _ = tower.publish("ding").await;
    }
}

async fn ring(State(hub): State<Hub>) -> String {
    match hub.room("tower").publish("dong").await {
        Ok(heard) => format!("{heard} heard it\n"),
        Err(error) => format!("{error}\n"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let live = Server::builder().serve(bell)?;
    let app = Router::new()
        .route("/ring", get(ring))
        .with_state(live.hub().clone())
        .route_service("/live", live.service());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    // Small messages leave at once.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    // Streams and polls would keep axum waiting: sessions end first.
    let end = async move {
        let _ = tokio::signal::ctrl_c().await;
        live.shutdown("the bell is taken down", Duration::from_secs(5)).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(end).await?;
    Ok(())
}
