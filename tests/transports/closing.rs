//! How sessions end, and what the other end hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use throughline::socket::RecvError;
use throughline::{CloseCode, Hub, Server, Socket};

use crate::pair::{Lane, Pair, Setup, recv_all, send_all, small};
use crate::support::{Served, within};

pub(crate) async fn the_servers_close_comes_after_all_messages(lane: Lane) {
    let Pair { mut client, server, wire, house } = Pair::new(lane).await;
    let code = CloseCode::from_word("game_over").unwrap();
    send_all(&server.sender(), (0..200).map(small)).await;
    server.close(code.clone(), "you have won");
    drop(server);
    let heard = async {
        recv_all("client", &mut client, (0..200).map(small)).await;
        client.recv().await
    };
    let end = within(15, "the close", heard).await.unwrap_err();
    let RecvError::Ended(ended) = end else { panic!("{end}") };
    assert_eq!((ended.close.code.clone(), ended.close.reason.as_ref()), (code, "you have won"));
    assert!(ended.undelivered.is_empty());
    assert_eq!(house.runs(), 1);
    drop(wire);
}

pub(crate) async fn the_clients_close_comes_after_all_messages(lane: Lane) {
    let Pair { client, mut server, wire, house } = Pair::new(lane).await;
    let code = CloseCode::from_word("left").unwrap();
    send_all(&client.sender(), (0..200).map(small)).await;
    client.close(code.clone(), "good night");
    drop(client);
    let heard = async {
        recv_all("server", &mut server, (0..200).map(small)).await;
        server.recv().await
    };
    let end = within(15, "the close", heard).await.unwrap_err();
    let RecvError::Ended(ended) = end else { panic!("{end}") };
    assert_eq!((ended.close.code.clone(), ended.close.reason.as_ref()), (code, "good night"));
    assert!(ended.undelivered.is_empty());
    assert_eq!(house.runs(), 1);
    drop(wire);
}

pub(crate) async fn a_handler_that_returns_closes(lane: Lane) {
    let server = Server::builder().serve(|socket: Socket, _: Hub| async move {
        socket.send("last words").await.unwrap();
    });
    let served = Served::new(&server.unwrap()).await;
    let mut client = within(10, "connect", Setup::new(lane).client(served.url()).connect()).await.unwrap();
    let message = within(10, "the last words", client.recv()).await.unwrap();
    assert_eq!(message.body.to::<String>().unwrap(), "last words");
    let end = within(10, "the end", client.recv()).await.unwrap_err();
    assert!(matches!(&end, RecvError::Ended(ended) if ended.close.code == CloseCode::Normal), "{end}");
}

pub(crate) async fn a_panic_is_an_internal_error(lane: Lane) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let server = Server::builder().serve(move |mut socket: Socket, _: Hub| {
        let run = counted.fetch_add(1, SeqCst);
        async move {
            socket.send(format!("run {run}")).await.unwrap();
            let message = socket.recv().await;
            assert!(run > 0, "this panic is part of the test: {message:?}");
            let _ = socket.recv().await;
        }
    });
    let server = server.unwrap();
    let served = Served::new(&server).await;
    let mut client = within(10, "connect", Setup::new(lane).client(served.url()).connect()).await.unwrap();
    let heard =
        async |client: &mut Socket| client.recv().await.map(|message| message.body.to::<String>().unwrap());
    assert_eq!(within(10, "the first run", heard(&mut client)).await.unwrap(), "run 0");
    client.send("panic").await.unwrap();
    // A server that failed may do better with a new session.
    let end = within(10, "the panic", heard(&mut client)).await.unwrap_err();
    assert!(matches!(&end, RecvError::Lost(ended) if ended.close.code == CloseCode::InternalError), "{end}");
    assert_eq!(within(10, "the second run", heard(&mut client)).await.unwrap(), "run 1");
    assert_eq!(runs.load(SeqCst), 2);
}

pub(crate) async fn both_ends_may_close_at_once(lane: Lane) {
    let mut pair = Pair::new(lane).await;
    pair.talk(0, 10).await;
    let code = |word| CloseCode::from_word(word).unwrap();
    send_all(&pair.client.sender(), (0..3).map(small)).await;
    send_all(&pair.server.sender(), (0..3).map(small)).await;
    pair.client.close(code("from_client"), "");
    pair.server.close(code("from_server"), "");
    let ends = async { tokio::join!(pair.client.closed(), pair.server.closed()) };
    // Well under the close timeout of 10 s: nobody waits in vain.
    let (of_client, of_server) = within(5, "both ends end", ends).await;
    for close in [of_client, of_server] {
        assert!([code("from_client"), code("from_server")].contains(&close.code), "{close}");
    }
    assert_eq!(pair.house.runs(), 1);
}
