//! HTTP/2: a WebSocket by extended CONNECT, and streams, polls and pushes side by side on one connection; with the
//! library's client, and by hand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect by panicking")]

mod by_hand;
#[path = "../support/secure.rs"]
mod secure;
#[path = "../support/mod.rs"]
mod support;

use hyper::{Method, Version};
use throughline::frame::Encoding;
use throughline::{Client, Socket, State, TransportKind};

use secure::{Secure, certificate};
use support::within;

const BOTH: &[&str] = &["h2", "http/1.1"];

async fn connect(server: &Secure, kind: TransportKind, encoding: Encoding) -> Socket {
    let builder = Client::builder(server.url()).ca_file(certificate("authority.pem"));
    let connecting = builder.transports([kind]).encoding(encoding).connect();
    let socket =
        within(20, "the client connects", connecting).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
    assert_eq!(socket.state(), State::Connected { transport: kind });
    socket
}

/// Sends texts of all sizes, and takes them back: each once and in order.
async fn converse(socket: &mut Socket) {
    let text = |number: usize| format!("{number} {}", "x".repeat(number % 30 * 2_000));
    let sender = socket.sender();
    let sending = tokio::spawn(async move {
        for number in 0..60 {
            sender.send(text(number).as_str()).await.unwrap();
        }
    });
    for number in 0..60 {
        let message = within(20, "the echo comes", socket.recv()).await.unwrap();
        assert_eq!(message.body.to::<String>().unwrap(), text(number));
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn every_transport_goes_over_one_connection() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        for kind in TransportKind::ALL {
            let server = Secure::new("server", BOTH, true).await;
            let mut socket = connect(&server, kind, encoding).await;
            converse(&mut socket).await;
            assert_eq!(server.connections(), 1, "{kind}");
            let requests = server.requests();
            assert!(requests.iter().all(|(_, version)| *version == Version::HTTP_2), "{requests:?}");
            let method = if kind == TransportKind::WebSocket { Method::CONNECT } else { Method::POST };
            assert_eq!(requests[0].0, method);
        }
    }
}

#[tokio::test]
async fn where_extended_connect_is_not_allowed_a_websocket_has_a_connection_of_its_own() {
    let server = Secure::new("server", BOTH, false).await;
    let mut socket = connect(&server, TransportKind::WebSocket, Encoding::Json).await;
    converse(&mut socket).await;
    assert_eq!(server.requests(), [(Method::GET, Version::HTTP_11)]);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn where_http2_is_not_agreed_on_nothing_changes() {
    for alpn in [&["http/1.1"][..], &[]] {
        for kind in TransportKind::ALL {
            let server = Secure::new("server", alpn, true).await;
            converse(&mut connect(&server, kind, Encoding::Json).await).await;
            assert!(server.requests().iter().all(|(_, version)| *version == Version::HTTP_11));
        }
    }
}

#[tokio::test]
async fn a_closed_socket_leaves_no_connection_behind() {
    let server = Secure::new("server", BOTH, true).await;
    for kind in TransportKind::ALL {
        let socket = connect(&server, kind, Encoding::Json).await;
        socket.close(throughline::CloseCode::Normal, "done");
        within(20, "it closes", socket.closed()).await;
        drop(socket);
        within(20, "the connection ends", server.alone()).await;
    }
}
