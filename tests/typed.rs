//! Messages as values: what fits arrives, and what does not is refused without harm.

#![expect(clippy::unwrap_used, reason = "tests say what they expect by panicking")]

#[path = "support/mod.rs"]
mod support;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{Served, within};
use throughline::frame::Body;
use throughline::socket::{Conversation, MISFIT, RequestError, Typed, TypedRequestError};
use throughline::{Client, Hub, Server, Socket};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Ask {
    Reserve { seat: u8 },
    Count,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tell {
    Reserved { seat: u8 },
    Misfits { count: u64 },
}

/// Reserves any seat but the last, and tells how many messages did not fit.
async fn seats<S: Conversation>(mut socket: Typed<Ask, Tell, S>) {
    while let Ok(asked) = socket.recv().await {
        let _ = match asked.value {
            Ask::Reserve { seat: u8::MAX } => {
                let _ = socket.fail(&asked, "no_seat", "there is no such seat").await;
                continue;
            }
            Ask::Reserve { seat } if asked.is_request() => {
                socket.reply(&asked, &Tell::Reserved { seat }).await
            }
            Ask::Reserve { seat: 9 } => socket.try_send(&Tell::Reserved { seat: 9 }),
            Ask::Reserve { seat } => socket.send(&Tell::Reserved { seat }).await,
            Ask::Count => socket.reply(&asked, &Tell::Misfits { count: socket.misfits() }).await,
        };
    }
}

#[tokio::test]
async fn what_fits_is_a_value_at_both_ends_and_what_does_not_is_refused_without_harm() {
    let handler = |socket: Socket, _: Hub| seats(socket.typed());
    converse(&Server::builder().serve(handler).unwrap()).await;
}

#[tokio::test]
async fn so_it_is_where_a_hub_serves_which_counts_what_does_not_fit() {
    let hub = Hub::new();
    let handler = |socket: Socket, hub: Hub| seats(hub.serve(socket).typed());
    converse(&Server::builder().hub(hub.clone()).serve(handler).unwrap()).await;
    assert_eq!(hub.stats().misfits, 10);
}

async fn converse(server: &Server) {
    let served = Served::new(server).await;
    let socket = within(10, "connects", Client::connect(served.url())).await.unwrap();
    let mut socket = socket.typed::<Tell, Ask>();
    let reply = within(10, "answers", socket.request::<Tell>(&Ask::Reserve { seat: 7 })).await.unwrap();
    assert_eq!(reply, Tell::Reserved { seat: 7 });
    socket.send(&Ask::Reserve { seat: 8 }).await.unwrap();
    assert_eq!(within(10, "tells", socket.recv()).await.unwrap().value, Tell::Reserved { seat: 8 });
    within(10, "is acknowledged", socket.send_acked(&Ask::Reserve { seat: 9 })).await.unwrap();
    assert_eq!(within(10, "tells", socket.recv()).await.unwrap().value, Tell::Reserved { seat: 9 });

    let refused = within(10, "refuses", socket.request::<Tell>(&Ask::Reserve { seat: 255 })).await;
    let Err(TypedRequestError::Request(RequestError::Failed { code, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code, "no_seat");
    let other = within(10, "answers", socket.request::<Vec<u8>>(&Ask::Count)).await;
    assert!(matches!(other, Err(TypedRequestError::Misfit(_))), "{other:?}");

    let mut watch = socket.watch_misfits();
    let misfits = [
        Body::json(&json!({ "type": "reserve", "seat": 256 })).unwrap(),
        Body::json(&json!({ "type": "reserve", "seat": 1, "row": 2 })).unwrap(),
        Body::json(&json!({ "type": "dance" })).unwrap(),
        Body::from("reserve"),
        Body::from(vec![1, 2, 3]),
    ];
    for misfit in misfits {
        socket.socket().send(misfit.clone()).await.unwrap();
        let refused = within(10, "refuses", socket.socket().request(misfit)).await;
        assert!(matches!(&refused, Err(RequestError::Failed { code, .. }) if code == MISFIT), "{refused:?}");
    }
    let count = within(10, "answers", socket.request::<Tell>(&Ask::Count)).await.unwrap();
    assert_eq!(count, Tell::Misfits { count: 10 });
    // Of the plain ones some are told at once, and within a second of how many.
    let mut told = 0;
    while told < 5 {
        let misfit = within(10, "tells of misfits", watch.next()).await.unwrap();
        assert!(!misfit.reason.is_empty() && misfit.session == socket.id());
        told += misfit.count;
    }
    assert_eq!(told, 5);
}

/// Says what does not fit its client, and then how much of that there was.
async fn babble<S: Conversation>(socket: Typed<Ask, Value, S>) {
    let mut told = socket.watch_misfits();
    let _ = socket.send(&json!("babble")).await;
    while let Some(misfit) = told.next().await {
        let _ = socket.send(&json!([misfit.count])).await;
    }
}

#[tokio::test]
async fn a_server_too_is_told_that_what_it_says_does_not_fit() {
    let alone = Server::builder().serve(|socket: Socket, _: Hub| babble(socket.typed())).unwrap();
    let by_a_hub =
        Server::builder().serve(|socket: Socket, hub: Hub| babble(hub.serve(socket).typed())).unwrap();
    for server in [alone, by_a_hub] {
        let served = Served::new(&server).await;
        let socket = within(10, "connects", Client::connect(served.url())).await.unwrap();
        let mut socket = socket.typed::<Vec<u64>, Ask>();
        let counted = within(10, "tells what it was told", socket.recv()).await.unwrap();
        assert_eq!((counted.value, socket.misfits()), (vec![1], 1));
    }
}
