//! Ends that take slowly, or not at all: senders wait, memory is bounded, nothing is lost.

use std::time::Duration;

use throughline::frame::Window;
use throughline::socket::SendError;
use throughline::{Body, Sender, Socket};

use crate::pair::{Lane, Pair, Setup, body, recv_all, send_all, small};
use crate::support::within;

/// Sends until this many were accepted, trying again when there is no room; then there must be none.
async fn fill(sender: &Sender, most: u64, body: impl Fn(u64) -> Body) {
    let mut number = 0;
    let fill = async {
        while number < most {
            match sender.try_send(body(number)) {
                Ok(()) => number += 1,
                Err(SendError::Full) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(error) => panic!("message {number}: {error}"),
            }
        }
    };
    let filled = tokio::time::timeout(Duration::from_secs(20), fill).await;
    assert!(filled.is_ok(), "{number} messages were accepted instead of {most}");
    assert_eq!(sender.try_send(body(most)), Err(SendError::Full), "more is held than was agreed");
}

/// One end fills all there is, the other begins to take only then.
async fn hold_back(
    sender: &Socket,
    receiver: &mut Socket,
    (most, more): (u64, u64),
    body: impl Fn(u64) -> Body + Copy,
) {
    let sending = sender.sender();
    fill(&sending, most, body).await;
    // The other direction is not held up; and after a round trip there is still no room.
    within(5, "a receipt the other way", receiver.send_acked("still here")).await.unwrap();
    assert_eq!(sending.try_send(body(most)), Err(SendError::Full));
    let rest = async {
        for number in most..most + more {
            sending.send(body(number)).await.unwrap();
        }
    };
    let mut rest = std::pin::pin!(rest);
    let waits = tokio::time::timeout(Duration::from_millis(100), &mut rest).await;
    assert!(waits.is_err(), "nobody waits");
    let all = async { tokio::join!(rest, recv_all("receiver", receiver, (0..most + more).map(body))) };
    within(20, "everything arrives", all).await;
}

pub(crate) async fn a_sender_waits_for_who_does_not_receive(lane: Lane) {
    let setup = Setup::new(lane).bounds(|config| {
        config.window = Window { messages: 16, bytes: 1 << 20 };
        config.send_buffer = Window { messages: 40, bytes: 2 << 20 };
        config.push_retry = Duration::from_millis(20);
    });
    let Pair { mut client, mut server, wire, house } = Pair::with(setup).await;
    hold_back(&client, &mut server, (16 + 40, 200), small).await;
    recv_all("client", &mut client, std::iter::once(Body::from("still here"))).await;
    hold_back(&server, &mut client, (16 + 40, 200), small).await;
    recv_all("server", &mut server, std::iter::once(Body::from("still here"))).await;
    Pair { client, server, wire, house }.end().await;
}

pub(crate) async fn memory_is_bounded_by_bytes_too(lane: Lane) {
    let size = 100 << 10;
    let setup = Setup::new(lane).bounds(|config| {
        config.window = Window { messages: 1000, bytes: 6 * size };
        config.send_buffer = Window { messages: 1000, bytes: 8 * size };
        config.push_retry = Duration::from_millis(20);
    });
    let Pair { mut client, mut server, wire, house } = Pair::with(setup).await;
    let large = |number| body(number, size as usize, number % 2 == 1);
    hold_back(&client, &mut server, (6 + 8, 30), large).await;
    recv_all("client", &mut client, std::iter::once(Body::from("still here"))).await;
    hold_back(&server, &mut client, (6 + 8, 30), large).await;
    recv_all("server", &mut server, std::iter::once(Body::from("still here"))).await;
    Pair { client, server, wire, house }.end().await;
}

pub(crate) async fn a_slow_reader_gets_everything(lane: Lane) {
    let setup = Setup::new(lane).bounds(|config| {
        config.window = Window { messages: 8, bytes: 600 << 10 };
        config.push_retry = Duration::from_millis(20);
    });
    let mut pair = Pair::with(setup).await;
    let sizes = |number: u64| body(number, [10, 70_000, 0, 300][number as usize % 4], number % 3 == 0);
    let (up, down) = (pair.client.sender(), pair.server.sender());
    let slowly = async |who, socket: &mut Socket| {
        for number in 0..300 {
            if number % 5 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            recv_all(who, socket, std::iter::once(sizes(number))).await;
        }
    };
    let talk = async {
        tokio::join!(
            send_all(&up, (0..300).map(sizes)),
            send_all(&down, (0..300).map(sizes)),
            slowly("server", &mut pair.server),
            slowly("client", &mut pair.client),
        )
    };
    within(30, "slow readers get everything", talk).await;
    pair.end().await;
}
