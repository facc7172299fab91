//! What examples with a listener of their own have in common.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// The next connection, which sends small things at once. One that breaks while it is accepted, or too many open files, end
/// nothing.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
