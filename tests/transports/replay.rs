//! Boxes on the way that send a client's bytes a second time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pair::{House, Lane, Pair, Setup};
use crate::support::{Wire, within};

async fn recorded(lane: Lane) -> Pair {
    let setup = Setup::new(lane);
    let mut house = House::new(setup.server.clone()).await;
    let wire = Wire::to(house.served.address).await;
    wire.record();
    let client = within(10, "connect", setup.client(wire.url()).connect()).await.unwrap();
    let server = house.socket().await;
    Pair { client, server, wire, house }
}

/// The requests on a connection: each with its body; of a WebSocket all from the upgrade on.
fn requests(connection: &[u8]) -> Vec<Vec<u8>> {
    let (mut requests, mut rest) = (Vec::new(), connection);
    while let Some(head) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
        let lower = String::from_utf8_lossy(&rest[..head]).to_ascii_lowercase();
        let length =
            lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
        let end = match length {
            Some(length) => (head + 4).saturating_add(length).min(rest.len()),
            None if lower.contains("upgrade: websocket") => rest.len(),
            None => head + 4,
        };
        requests.push(rest[..end].to_vec());
        rest = &rest[end..];
    }
    requests
}

/// Sends bytes on a connection of their own, and returns the beginning of the answer.
async fn replay(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = vec![0; 4096];
    // A poll may be held; then the answer does not matter here.
    let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut answer)).await;
    answer.truncate(read.map_or(0, |read| read.unwrap_or(0)));
    answer
}

pub(crate) async fn replayed_requests_change_nothing(lane: Lane) {
    let mut pair = recorded(lane).await;
    pair.talk(0, 20).await;
    let connections = pair.wire.recorded();
    let requests: Vec<Vec<u8>> = connections.iter().flat_map(|connection| requests(connection)).collect();
    assert!(!requests.is_empty());
    let address = pair.house.served.address;
    let mut number = 20;
    for request in &requests {
        let replays = async {
            // Twice at once, as boxes do.
            let (one, two) = tokio::join!(replay(address, request), replay(address, request));
            for answer in [one, two] {
                let answer = String::from_utf8_lossy(&answer).into_owned();
                assert!(!answer.contains("HTTP/1.1 5"), "{answer}");
            }
        };
        tokio::join!(replays, pair.talk(number, 5));
        number += 5;
    }
    // Whole connections, as they came, one behind the other.
    for connection in &connections {
        tokio::join!(replay(address, connection), pair.talk(number, 5));
        number += 5;
    }
    assert_eq!(pair.house.server.sessions(), 1);
    pair.end().await;
}

pub(crate) async fn a_replay_after_the_end_starts_nothing(lane: Lane) {
    let mut pair = recorded(lane).await;
    pair.talk(0, 5).await;
    let requests: Vec<Vec<u8>> =
        pair.wire.recorded().iter().flat_map(|connection| requests(connection)).collect();
    let (address, server, runs) =
        (pair.house.served.address, pair.house.server.clone(), std::sync::Arc::clone(&pair.house.runs));
    let Pair { mut client, server: mut socket, wire, house } = pair;
    client.close(throughline::CloseCode::Normal, "over");
    let ends = async { tokio::join!(client.recv(), socket.recv()) };
    let (of_client, of_server) = within(10, "both end", ends).await;
    assert!(of_client.is_err() && of_server.is_err());
    for request in &requests {
        replay(address, request).await;
    }
    assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), 1, "the handler ran again");
    assert_eq!(server.sessions(), 0);
    drop((wire, house));
}
