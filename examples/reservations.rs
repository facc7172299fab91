//! Seats of a hall, reserved by a typed protocol: what a client may ask and what it is answered are two enums, what does not
//! fit them is refused before the application sees it, and what fits and is not possible fails with a code.
//!
//! ```text
//! cargo run --example reservations -- serve               # listens on 127.0.0.1:3000, or on a second argument
//! cargo run --example reservations -- as ada watch        # shows each change
//! cargo run --example reservations -- as bob reserve 7 8
//! cargo run --example reservations -- as bob release 7
//! cargo run --example reservations --features ts -- types > examples/reservations.ts
//! ```
//!
//! The last makes the types of the protocol for pages, as `connect<Tell, Ask>("/live")` wants them.

#[path = "support/named.rs"]
mod named;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use throughline::client::rooms::Event;
use throughline::hub::ReadOnly;
use throughline::room::payload::{Join, Notice};
use throughline::server::{Attempt, Denied, Grant};
use throughline::socket::Typed;
use throughline::{Body, Hub, Live, Rooms, Server, Socket};

pub(crate) use named::connect;

const ROOM: &str = "hall";

/// How many seats there are.
pub const SEATS: u8 = 50;

/// How many one may ask for at once.
pub const AT_ONCE: usize = 4;

/// A seat that there is: no other number is ever a `Seat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(throughline::ts::TS), ts(crate = "throughline::ts::ts_rs"))]
#[serde(try_from = "u8")]
pub struct Seat(u8);

impl TryFrom<u8> for Seat {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        if (1..=SEATS).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("there is no seat {number}"))
        }
    }
}

/// One to four different seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(throughline::ts::TS), ts(crate = "throughline::ts::ts_rs"))]
#[serde(try_from = "Vec<Seat>")]
pub struct Party(BTreeSet<Seat>);

impl TryFrom<Vec<Seat>> for Party {
    type Error = String;

    fn try_from(seats: Vec<Seat>) -> Result<Self, String> {
        let count = seats.len();
        let seats: BTreeSet<_> = seats.into_iter().collect();
        match seats.len() {
            different if different < count => Err("a seat is named twice".into()),
            1..=AT_ONCE => Ok(Self(seats)),
            _ => Err(format!("one may ask for 1 to {AT_ONCE} seats")),
        }
    }
}

/// What a client asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(throughline::ts::TS), ts(crate = "throughline::ts::ts_rs"))]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Which seats are free.
    Free,
    /// All of these, or none.
    Reserve {
        /// Which.
        seats: Party,
    },
    /// To give some of one's own back.
    Release {
        /// Which.
        seats: Party,
    },
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(throughline::ts::TS), ts(crate = "throughline::ts::ts_rs"))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Tell {
    /// These are free.
    Free {
        /// In order.
        seats: Vec<Seat>,
    },
    /// These are one's own now.
    Reserved {
        /// As asked.
        seats: Party,
    },
    /// These are given back.
    Released {
        /// As asked.
        seats: Party,
    },
}

/// What is said to all who watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(throughline::ts::TS), ts(crate = "throughline::ts::ts_rs"))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Change {
    /// They are somebody's now.
    Taken {
        /// Which.
        seats: Party,
    },
    /// They are nobody's any more.
    Freed {
        /// Which.
        seats: Party,
    },
}

/// Why something that fits is not done: the code of the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// Somebody has one of them.
    Taken,
    /// One of them is not the one's who asks.
    NotYours,
}

impl NotDone {
    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::NotYours => "not_yours",
        }
    }
}

/// Who has which seat.
#[derive(Debug, Default)]
struct Hall(BTreeMap<Seat, String>);

impl Hall {
    fn perform(&mut self, who: &str, ask: Ask) -> Result<(Tell, Option<Change>), NotDone> {
        match ask {
            Ask::Free => {
                let seats = (1..=SEATS).map(Seat).filter(|seat| !self.0.contains_key(seat)).collect();
                Ok((Tell::Free { seats }, None))
            }
            Ask::Reserve { seats } if seats.0.iter().any(|seat| self.0.contains_key(seat)) => {
                Err(NotDone::Taken)
            }
            Ask::Reserve { seats } => {
                self.0.extend(seats.0.iter().map(|seat| (*seat, who.to_owned())));
                Ok((Tell::Reserved { seats: seats.clone() }, Some(Change::Taken { seats })))
            }
            Ask::Release { seats }
                if seats.0.iter().any(|seat| self.0.get(seat).is_none_or(|owner| owner != who)) =>
            {
                Err(NotDone::NotYours)
            }
            Ask::Release { seats } => {
                self.0.retain(|seat, _| !seats.0.contains(seat));
                Ok((Tell::Released { seats: seats.clone() }, Some(Change::Freed { seats })))
            }
        }
    }
}

/// The server: whoever says a name is believed, which is enough for an example; who says none is not let in.
pub fn server() -> Result<Server, throughline::server::ServeError> {
    let by_name = |attempt: &Attempt<'_>| {
        let name = named::said(attempt);
        async move { name.map(Grant::to).ok_or(Denied::Unauthorized("say who you are".into())) }
    };
    let hall = Arc::new(Mutex::new(Hall::default()));
    let handler = move |socket: Socket, hub: Hub| {
        let hall = Arc::clone(&hall);
        async move {
            let live = hub.serve(socket).typed();
            serve(live, &hub, &hall).await;
        }
    };
    // What is taken and freed is said by the server alone.
    let hub = Hub::builder().authorize(ReadOnly).build();
    Server::builder().hub(hub).authenticator(by_name).serve(handler)
}

async fn serve(mut live: Typed<Ask, Tell, Live>, hub: &Hub, hall: &Mutex<Hall>) {
    let who = live.socket().principal().map_or("", |principal| principal.as_str()).to_owned();
    while let Ok(asked) = live.recv().await {
        let done = hall.lock().unwrap_or_else(PoisonError::into_inner).perform(&who, asked.value.clone());
        match done {
            Ok((tell, change)) => {
                let _ = live.reply(&asked, &tell).await;
                if let Some(change) = change.and_then(|change| Body::json(&change).ok()) {
                    let _ = hub.room(ROOM).publish(change).await;
                }
            }
            Err(why) => {
                let _ = live.fail(&asked, why.code(), "this is not possible").await;
            }
        }
    }
}

/// Begins to watch.
pub async fn watch(socket: Socket) -> Result<Rooms, Box<dyn std::error::Error>> {
    let rooms = Rooms::over(socket);
    rooms.room(ROOM).join(Join::default()).await?;
    Ok(rooms)
}

/// The next change.
pub async fn change(rooms: &mut Rooms) -> Result<Change, Box<dyn std::error::Error>> {
    loop {
        if let Event::Room(Notice::Said(said)) = rooms.recv().await? {
            return Ok(said.body.to()?);
        }
    }
}

/// Seats as they are typed in.
fn party(numbers: &[&str]) -> Result<Party, Box<dyn std::error::Error>> {
    let mut seats = Vec::new();
    for number in numbers {
        seats.push(Seat::try_from(number.parse::<u8>()?)?);
    }
    Ok(Party::try_from(seats)?)
}

/// The protocol in TypeScript.
#[cfg(feature = "ts")]
pub fn types() -> Result<String, throughline::ts::TsError> {
    throughline::ts::Declarations::new().with::<Ask>().with::<Tell>().with::<Change>().file()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    const URL: &str = "http://127.0.0.1:3000/live";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, ask) = match arguments[..] {
        ["serve", ref address @ ..] => {
            let app = axum::Router::new().route_service("/live", server()?.service());
            let address = address.first().unwrap_or(&"127.0.0.1:3000");
            return Ok(axum::serve(tokio::net::TcpListener::bind(address).await?, app).await?);
        }
        #[cfg(feature = "ts")]
        ["types"] => {
            print!("{}", types()?);
            return Ok(());
        }
        ["as", name, "watch"] => {
            let mut rooms = watch(connect(URL, name).await?).await?;
            loop {
                println!("{:?}", change(&mut rooms).await?);
            }
        }
        ["as", name, "free"] => (name, Ask::Free),
        ["as", name, "reserve", ref seats @ ..] => (name, Ask::Reserve { seats: party(seats)? }),
        ["as", name, "release", ref seats @ ..] => (name, Ask::Release { seats: party(seats)? }),
        _ => {
            return Err(
                "usage: reservations serve [ADDRESS] | as NAME watch|free|reserve|release [SEAT…]".into()
            );
        }
    };
    let socket = connect(URL, name).await?.typed::<Tell, Ask>();
    println!("{:?}", socket.request::<Tell>(&ask).await?);
    Ok(())
}
