//! Sessions that are moved, cut and held up at random, all the time, from both ends and in between.

use std::time::Duration;

use throughline::frame::Encoding;
use throughline::{CloseCode, Server, Socket, TransportKind};
use tokio::sync::mpsc;

use crate::pair::{House, Lane, Setup, body, recv_all, send_all};
use crate::run::mix;
use crate::support::{Wire, within};

/// How many messages go each way.
const MESSAGES: u64 = 400;

/// How often something is done to a run; then it must come to its end.
const TROUBLES: u64 = 60;

/// What is asked of one end.
enum Wish {
    Move(TransportKind),
    Cut,
}

/// A generator that depends on nothing but its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % bound
    }
}

/// Makes one run; everything but the timing follows from the seed.
pub(crate) async fn chaos(seed: u64) {
    let encoding = if seed % 2 == 0 { Encoding::Json } else { Encoding::Binary };
    let mut dice = Dice(mix(seed));
    let mut transports = TransportKind::ALL.to_vec();
    transports.rotate_left(dice.below(3) as usize);
    let mut setup = Setup::new(Lane { kind: transports[0], encoding });
    setup.server = Server::builder().transports(transports.iter().rev().copied());
    setup.transports = transports;
    let mut house = House::new(setup.server.clone()).await;
    let wire = Wire::to(house.served.address).await;
    let mut client = setup.client(wire.url()).start().unwrap();
    let mut server = house.socket().await;
    let body = |number: u64| {
        let mixed = mix(seed ^ (number << 16));
        body(number, [0, 3, 40, 300, 5000][mixed as usize % 5], mixed & 64 == 0)
    };
    let (up, down) = (client.sender(), server.sender());
    let (at_client, client_wishes) = mpsc::unbounded_channel();
    let (at_server, server_wishes) = mpsc::unbounded_channel();
    let slowly = async |who: &str, socket: &mut Socket, mut wishes: mpsc::UnboundedReceiver<Wish>| {
        let who = format!("seed {seed}: {who}");
        for number in 0..MESSAGES {
            loop {
                tokio::select! {
                    () = recv_all(&who, socket, std::iter::once(body(number))) => break,
                    Some(wish) = wishes.recv() => match wish {
                        Wish::Move(kind) => socket.move_to(kind),
                        Wish::Cut => socket.cut(),
                    }
                }
            }
            if number % 8 == 0 {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
    };
    let talk = async {
        tokio::join!(
            send_all(&up, (0..MESSAGES).map(body)),
            send_all(&down, (0..MESSAGES).map(body)),
            slowly("server", &mut server, server_wishes),
            slowly("client", &mut client, client_wishes),
        )
    };
    let trouble = async {
        for _ in 0..TROUBLES {
            let kind = TransportKind::ALL[dice.below(3) as usize];
            match dice.below(9) {
                0 | 1 => drop(at_client.send(Wish::Move(kind))),
                2 => drop(at_server.send(Wish::Move(kind))),
                3 => drop(at_client.send(Wish::Cut)),
                4 => drop(at_server.send(Wish::Cut)),
                5 => wire.cut(),
                6 => wire.cut_after_up(dice.below(20_000)),
                7 => wire.cut_after_down(dice.below(20_000)),
                _ => {
                    wire.stall(dice.below(2) == 0, dice.below(2) == 0);
                    tokio::time::sleep(Duration::from_millis(dice.below(30))).await;
                    wire.stall(false, false);
                }
            }
            // Mostly soon, and now and then only after it has had the time to settle.
            let pause = if dice.below(3) == 0 { 250 } else { 15 };
            tokio::time::sleep(Duration::from_millis(dice.below(pause))).await;
        }
    };
    let arrived = async {
        let mut talk = std::pin::pin!(talk);
        tokio::select! {
            _ = &mut talk => return,
            () = trouble => {}
        }
        talk.await;
    };
    within(60, &format!("seed {seed}: everything arrives"), arrived).await;
    wire.stall(false, false);
    client.close(CloseCode::Normal, "enough");
    let end = within(20, &format!("seed {seed}: the close"), server.recv()).await;
    assert_eq!(end.expect_err("one message too many").close().reason, "enough", "seed {seed}");
    let end = within(20, &format!("seed {seed}: its answer"), client.recv()).await;
    assert!(end.is_err(), "seed {seed}: one message too many");
    assert_eq!(house.runs(), 1, "seed {seed}: the handler ran once");
}
