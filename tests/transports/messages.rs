//! Messages, requests and receipts on a wire that works.

use throughline::frame::MessageKind;
use throughline::socket::RequestError;
use throughline::{Body, Socket};

use crate::pair::{Lane, Pair, body, recv_all, send_all, small};
use crate::support::within;

pub(crate) async fn echoes_come_back_in_order(lane: Lane) {
    let Pair { mut client, mut server, wire, house } = Pair::new(lane).await;
    let echo = tokio::spawn(async move {
        while let Ok(message) = server.recv().await {
            server.send(message.body).await.unwrap();
        }
        server
    });
    let up = client.sender();
    let talk = async {
        tokio::join!(send_all(&up, (0..100).map(small)), recv_all("client", &mut client, (0..100).map(small)))
    };
    within(20, "a hundred echoes", talk).await;
    // One at a time as well: each waits for the other end.
    for number in 100..120 {
        client.send(small(number)).await.unwrap();
        let one = recv_all("client", &mut client, std::iter::once(small(number)));
        within(10, "an echo", one).await;
    }
    client.close(throughline::CloseCode::Normal, "");
    let server = within(10, "the echo ends", echo).await.unwrap();
    assert_eq!(house.runs(), 1);
    drop((server, wire));
}

pub(crate) async fn a_thousand_messages_pass_each_way(lane: Lane) {
    let mut pair = Pair::new(lane).await;
    pair.talk(0, 1000).await;
    let mixed = |number: u64| body(number, [24, 0, 3000, 1, 700][number as usize % 5], number % 3 > 0);
    let (up, down) = (pair.client.sender(), pair.server.sender());
    let talk = async {
        tokio::join!(
            send_all(&up, (0..1000).map(mixed)),
            send_all(&down, (0..1000).map(mixed)),
            recv_all("server", &mut pair.server, (0..1000).map(mixed)),
            recv_all("client", &mut pair.client, (0..1000).map(mixed)),
        )
    };
    within(30, "a thousand messages each way", talk).await;
    pair.end().await;
}

pub(crate) async fn requests_are_answered_both_ways(lane: Lane) {
    let Pair { mut client, mut server, wire, house } = Pair::new(lane).await;
    within(20, "requests of the client", ask(&client, &mut server)).await;
    within(20, "requests of the server", ask(&server, &mut client)).await;
    drop((wire, house));
}

/// Three requests at once, answered the other way round, one of them by a failure.
async fn ask(asker: &Socket, other: &mut Socket) {
    let answer = async {
        let mut requests = Vec::new();
        while requests.len() < 3 {
            let message = other.recv().await.unwrap();
            assert_eq!(message.kind, MessageKind::Request);
            requests.push(message);
        }
        for request in requests.iter().rev() {
            match request.body.to::<u64>().unwrap() {
                2 => other.fail(request, "odd", "two is not odd").await.unwrap(),
                number => other.reply(request, Body::json(&(number * 10)).unwrap()).await.unwrap(),
            }
        }
    };
    let (one, two, three, ()) = tokio::join!(
        asker.request(Body::json(&1).unwrap()),
        asker.request(Body::json(&2).unwrap()),
        asker.request(Body::json(&3).unwrap()),
        answer
    );
    assert_eq!(one.unwrap().to::<u64>().unwrap(), 10);
    let failed = RequestError::Failed { code: "odd".into(), message: "two is not odd".into() };
    assert_eq!(two.unwrap_err(), failed);
    assert_eq!(three.unwrap().to::<u64>().unwrap(), 30);
}

pub(crate) async fn a_receipt_means_that_it_was_received(lane: Lane) {
    let mut pair = Pair::new(lane).await;
    // Nobody takes anything: receipts do not wait for the application.
    for number in 0..5 {
        within(5, "a receipt of the server", pair.client.send_acked(small(number))).await.unwrap();
        within(5, "a receipt of the client", pair.server.send_acked(small(number))).await.unwrap();
    }
    let received = async {
        recv_all("server", &mut pair.server, (0..5).map(small)).await;
        recv_all("client", &mut pair.client, (0..5).map(small)).await;
    };
    within(1, "what was received is there", received).await;
    pair.end().await;
}
