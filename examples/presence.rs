//! Who is online: a server, and a client in a terminal that shows who comes and goes.
//!
//! ```text
//! cargo run --example presence -- serve                   # listens on 127.0.0.1:3000, or on a second argument
//! cargo run --example presence -- as ada                  # and in other terminals: as bob, as ada again
//! ```
//!
//! Two terminals of one name are one person: it goes when both have. Cut the network for less than two minutes, and
//! nobody goes; kill a client, and it goes once its resume window has passed.

use std::collections::BTreeMap;

use throughline::client::rooms::Event;
use throughline::frame::Json;
use throughline::room::payload::{Change, Join, Notice, Who};
use throughline::server::{Attempt, Grant};
use throughline::{Client, Hub, Rooms, Server, Socket};

const ROOM: &str = "everybody";

/// The server: whoever says a name is believed, which is enough for an example.
pub fn server() -> Result<Server, throughline::server::ServeError> {
    let by_name = |attempt: &Attempt<'_>| {
        let name = attempt.auth().and_then(|token| token.to::<String>().ok());
        async move { Ok(name.map_or_else(Grant::anonymous, Grant::to)) }
    };
    let handler = |socket: Socket, hub: Hub| async move {
        let mut live = hub.serve(socket);
        // Nobody says anything here but to the room.
        while live.recv().await.is_ok() {}
    };
    Server::builder().authenticator(by_name).serve(handler)
}

/// Who is online, by what a room tells.
#[derive(Debug, Default)]
pub struct Online {
    people: BTreeMap<Who, String>,
}

impl Online {
    /// Takes in what the room tells. True: somebody came, went, or does something else.
    pub fn take(&mut self, notice: Notice) -> bool {
        match notice {
            Notice::Present(list) => {
                if list.first {
                    self.people.clear();
                }
                self.people.extend(list.members.into_iter().map(|member| (member.who, doing(member.meta))));
                list.last
            }
            Notice::Change(Change::Joined { member, .. } | Change::Updated { member, .. }) => {
                self.people.insert(member.who, doing(member.meta));
                true
            }
            Notice::Change(Change::Gone { who, .. }) => self.people.remove(&who).is_some(),
            _ => false,
        }
    }

    /// One line about all.
    pub fn line(&self) -> String {
        let people = self.people.iter().map(|(who, doing)| match who {
            Who::Principal(name) => format!("{name} ({doing})"),
            Who::Session(id) => format!("someone {id} ({doing})"),
        });
        people.collect::<Vec<_>>().join(", ")
    }
}

fn doing(meta: Option<Json>) -> String {
    meta.and_then(|meta| meta.to().ok()).unwrap_or_else(|| "here".to_owned())
}

/// Connects under a name, and is seen.
pub async fn appear(url: &str, name: &str) -> Result<Rooms, Box<dyn std::error::Error>> {
    let token = Json::of(name)?;
    let client = Client::builder(url).token(move |_| {
        let token = token.clone();
        async move { Ok(token) }
    });
    let rooms = Rooms::over(client.connect().await?);
    rooms.room(ROOM).join(Join { presence: true, ..Join::default() }).await?;
    Ok(rooms)
}

/// Tells the others what one is doing.
pub async fn tell(rooms: &Rooms, doing: &str) -> Result<(), Box<dyn std::error::Error>> {
    Ok(rooms.room(ROOM).update(Some(Json::of(doing)?)).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (verb, what) = (arguments.next(), arguments.next());
    match (verb.as_deref(), what) {
        (Some("serve"), address) => {
            let address = address.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
            let app = axum::Router::new().route_service("/live", server()?.service());
            Ok(axum::serve(tokio::net::TcpListener::bind(address).await?, app).await?)
        }
        (Some("as"), Some(name)) => {
            let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:3000/live".to_owned());
            let mut rooms = appear(&url, &name).await?;
            let mut online = Online::default();
            loop {
                if let Event::Room(notice) = rooms.recv().await? {
                    if online.take(notice) {
                        println!("{}", online.line());
                    }
                }
            }
        }
        _ => Err("usage: presence serve [ADDRESS] | as NAME [URL]".into()),
    }
}
