//! A network that holds back: a relay in front of a server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use throughline::frame::{CloseCode, TransportKind, Window};
use throughline::session::Config;
use throughline::socket::SendError;
use throughline::{Server, Socket};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::host::{Host, client, echo_handler, text, watchdog};

/// What does not pass on the first connection: all that comes behind a head of HTTP.
#[derive(Clone)]
enum Held {
    /// What the client says.
    Up,
    /// What the server says, until the network is told to let it pass.
    Down(Arc<Notify>),
}

/// Relays connections to a server.
async fn relay(listener: TcpListener, server: SocketAddr, held: Held) {
    let (mut relays, mut held) = (JoinSet::new(), Some(held));
    while let Ok((mut client, _)) = listener.accept().await {
        let held = held.take();
        relays.spawn(async move {
            let mut server = TcpStream::connect(server).await.unwrap();
            // An end that is gone ends the connection.
            let _ = match held {
                None => copy_bidirectional(&mut client, &mut server).await.map(drop),
                Some(held) => hold_back(&mut client, &mut server, held).await,
            };
        });
    }
}

async fn hold_back(client: &mut TcpStream, server: &mut TcpStream, held: Held) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    match held {
        Held::Up => {
            pass_head(&mut from_client, &mut to_server).await?;
            copy(&mut from_server, &mut to_client).await?;
        }
        Held::Down(released) => {
            let down = async {
                pass_head(&mut from_server, &mut to_client).await?;
                released.notified().await;
                copy(&mut from_server, &mut to_client).await
            };
            tokio::try_join!(down, copy(&mut from_client, &mut to_server))?;
        }
    }
    Ok(())
}

async fn pass_head(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await?);
    }
    to.write_all(&head).await
}

/// A network in front of a server, and its address; dropping it ends all connections.
async fn network(server: SocketAddr, held: Held) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, mut network) = (listener.local_addr().unwrap(), JoinSet::new());
    network.spawn(relay(listener, server, held));
    (addr, network)
}

#[tokio::test]
async fn a_network_that_holds_a_hello_back_ends_no_session() {
    let deadline = Duration::from_millis(50);
    let server = Server::builder().hello_deadline(deadline).body_deadline(deadline);
    let host = Host::serve(server.serve(echo_handler).unwrap()).await;
    for kind in TransportKind::ALL {
        let (addr, _network) = network(host.addr(), Held::Up).await;
        let mut socket = client(addr).transports([kind]).start().unwrap();
        let id = socket.id();
        // It goes behind the hello that does not get through.
        socket.send("early").await.unwrap();
        assert_eq!(text(&mut socket).await, "early", "{kind}");
        assert_eq!(socket.id(), id, "{kind}: the session is the same");
    }
}

#[tokio::test]
async fn a_client_that_ends_before_its_welcome_tells_the_server() {
    for kind in TransportKind::ALL {
        let (tell, mut told) = mpsc::channel(1);
        let handler = move |mut socket: Socket, _hub| {
            let tell = tell.clone();
            async move {
                tell.send(None).await.unwrap();
                while socket.recv().await.is_ok() {}
                tell.send(Some(socket.closed().await.code.clone())).await.unwrap();
            }
        };
        let host = Host::serve(Server::builder().serve(handler).unwrap()).await;
        let released = Arc::new(Notify::new());
        let (addr, _network) = network(host.addr(), Held::Down(Arc::clone(&released))).await;
        let mut session = Config::default();
        session.send_buffer = Window { messages: 2, bytes: 1 << 20 };
        let client =
            client(addr).transports([kind]).session(session).send_patience(Duration::from_millis(20));
        let socket = client.start().unwrap();
        socket.send("one").await.unwrap();
        socket.send("two").await.unwrap();
        assert_eq!(watchdog(told.recv()).await, Some(None), "{kind}: the server has heard hello");
        // It has room only once the server has told what it received, and gives up.
        assert_eq!(watchdog(socket.send("three")).await, Err(SendError::SlowConsumer), "{kind}");
        assert_eq!(watchdog(socket.closed()).await.code, CloseCode::SlowConsumer);
        released.notify_one();
        assert_eq!(
            watchdog(told.recv()).await,
            Some(Some(CloseCode::SlowConsumer)),
            "{kind}: and hears the end"
        );
    }
}
