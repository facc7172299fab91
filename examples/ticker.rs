//! A thousand prices a second, to readers of any speed: each gets the latest price of each share as fast as it reads, and
//! nobody keeps the others waiting.
//!
//! ```text
//! cargo run --example ticker -- serve                     # listens on 127.0.0.1:3000, or on a second argument
//! cargo run --example ticker -- read                      # every price
//! cargo run --example ticker -- read 100                  # a reader that takes 100 ms over each
//! ```

use std::time::Duration;

use throughline::client::rooms::Event;
use throughline::frame::Window;
use throughline::hub::{PublishError, ReadOnly, RoomConfig, Slow};
use throughline::room::payload::{Join, Notice};
use throughline::session::Config;
use throughline::{Body, Client, Hub, Rooms, Server, Socket};

const ROOM: &str = "prices";

/// How many shares there are.
pub const SHARES: u64 = 50;

/// A hub in whose rooms only the server speaks, and that keep only the latest value of each key for whoever reads slowly.
pub fn hub() -> Hub {
    let shape = |_: &str| {
        let mut config = RoomConfig::default();
        config.slow = Slow::Conflate;
        config
    };
    Hub::builder().authorize(ReadOnly).rooms(shape).build()
}

/// The server. What waits to be sent to one reader is short, so that what it reads next is not old.
pub fn server(hub: Hub) -> Result<Server, throughline::server::ServeError> {
    let handler = |socket: Socket, hub: Hub| async move {
        let mut live = hub.serve(socket);
        while live.recv().await.is_ok() {}
    };
    let mut session = Config::default();
    session.send_buffer.messages = 2 * SHARES as u32;
    Server::builder().session(session).hub(hub).serve(handler)
}

/// Says the price of a share at a tick of the clock. It never waits.
pub async fn say(hub: &Hub, tick: u64) -> Result<(), PublishError> {
    let share = format!("S{}", tick % SHARES);
    let price = format!("{share} {}", tick / SHARES);
    hub.room(ROOM).publish_keyed(share, Body::from(price)).await.map(|_| ())
}

/// A reader, which lets little wait on its own side.
pub async fn reader(url: &str) -> Result<Rooms, Box<dyn std::error::Error>> {
    let mut session = Config::default();
    session.window = Window { messages: SHARES as u32, bytes: 1 << 20 };
    let rooms = Rooms::over(Client::builder(url).session(session).connect().await?);
    rooms.room(ROOM).join(Join::default()).await?;
    Ok(rooms)
}

/// The next price, and how many were left out before it.
pub async fn price(rooms: &mut Rooms) -> Result<(String, u64), Box<dyn std::error::Error>> {
    let mut missed = 0;
    loop {
        match rooms.recv().await? {
            Event::Room(Notice::Said(said)) => return Ok((said.body.to()?, missed)),
            Event::Room(Notice::Missed(left_out)) => missed += left_out.count,
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (verb, what) = (arguments.next(), arguments.next());
    match verb.as_deref() {
        Some("serve") => {
            let hub = hub();
            let app = axum::Router::new().route_service("/live", server(hub.clone())?.service());
            let listener = tokio::net::TcpListener::bind(what.as_deref().unwrap_or("127.0.0.1:3000")).await?;
            let ticking = async {
                let mut clock = tokio::time::interval(Duration::from_millis(1));
                for tick in 0.. {
                    clock.tick().await;
                    say(&hub, tick).await?;
                }
                Ok::<(), PublishError>(())
            };
            tokio::select! {
                served = async { axum::serve(listener, app).await } => Ok(served?),
                ticked = ticking => Ok(ticked?),
            }
        }
        Some("read") => {
            let pause = Duration::from_millis(what.unwrap_or_default().parse().unwrap_or(0));
            let mut rooms = reader("http://127.0.0.1:3000/live").await?;
            loop {
                let (price, missed) = price(&mut rooms).await?;
                println!("{price} ({missed} left out)");
                tokio::time::sleep(pause).await;
            }
        }
        _ => Err("usage: ticker serve [ADDRESS] | read [MILLISECONDS]".into()),
    }
}
