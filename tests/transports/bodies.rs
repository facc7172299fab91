//! Bodies of every size, up to the largest and beyond.

use throughline::socket::SendError;

use crate::pair::{Lane, MAX_MESSAGE, Pair, body, recv_all, send_all};
use crate::support::within;

pub(crate) async fn every_size_passes_both_ways(lane: Lane) {
    let mut pair = Pair::new(lane).await;
    let sizes = [0, 1, 2, 1 << 10, 100 << 10, MAX_MESSAGE - 1, MAX_MESSAGE, 1, MAX_MESSAGE, MAX_MESSAGE, 0];
    for binary in [true, false] {
        let bodies = || sizes.iter().zip(0..).map(move |(size, number)| body(number, *size, binary));
        let (up, down) = (pair.client.sender(), pair.server.sender());
        let talk = async {
            tokio::join!(
                send_all(&up, bodies()),
                send_all(&down, bodies()),
                recv_all("server", &mut pair.server, bodies()),
                recv_all("client", &mut pair.client, bodies()),
            )
        };
        within(30, "every size", talk).await;
    }
    pair.end().await;
}

pub(crate) async fn a_byte_too_many_is_refused_and_nothing_breaks(lane: Lane) {
    let mut pair = Pair::new(lane).await;
    let limit = MAX_MESSAGE as u64;
    for binary in [true, false] {
        let large = body(0, MAX_MESSAGE + 1, binary);
        assert_eq!(pair.client.send(large.clone()).await, Err(SendError::TooLarge { limit }));
        assert_eq!(pair.server.send(large).await, Err(SendError::TooLarge { limit }));
    }
    pair.talk(0, 3).await;
    pair.end().await;
}
