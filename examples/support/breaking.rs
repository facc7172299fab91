//! A server whose connections are meant to break.

use std::net::SocketAddr;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use throughline::Server;
use tokio::net::TcpListener;

/// Serves on a free port of this machine, and says which.
pub(crate) async fn serve(server: Server) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = server.service();
            tokio::spawn(async move {
                let mut http = http1::Builder::new();
                let connection =
                    http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                let _ = connection.with_upgrades().await;
            });
        }
    });
    Ok(address)
}
