//! A network that holds back: a relay in front of a server.

use std::time::Duration;

use throughline::Server;
use throughline::frame::TransportKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::host::{Host, client, echo_handler, text};

/// Relays connections. On the first one nothing of the client's passes that comes behind a head of HTTP.
async fn hold_back_once(listener: TcpListener, server: std::net::SocketAddr) {
    let mut relays = JoinSet::new();
    let mut held = true;
    while let Ok((client, _)) = listener.accept().await {
        relays.spawn(relay(client, server, std::mem::take(&mut held)));
    }
}

async fn relay(mut client: TcpStream, server: std::net::SocketAddr, held: bool) {
    let mut server = TcpStream::connect(server).await.unwrap();
    if !held {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from_client.read_u8().await.unwrap());
    }
    to_server.write_all(&head).await.unwrap();
    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
}

#[tokio::test]
async fn a_network_that_holds_a_hello_back_ends_no_session() {
    let deadline = Duration::from_millis(50);
    let server = Server::builder().hello_deadline(deadline).body_deadline(deadline);
    let host = Host::serve(server.serve(echo_handler).unwrap()).await;
    for kind in TransportKind::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut network = JoinSet::new();
        network.spawn(hold_back_once(listener, host.addr()));
        let mut socket = client(addr).transports([kind]).start().unwrap();
        let id = socket.id();
        // It goes behind the hello that does not get through.
        socket.send("early").await.unwrap();
        assert_eq!(text(&mut socket).await, "early", "{kind}");
        assert_eq!(socket.id(), id, "{kind}: the session is the same");
    }
}
