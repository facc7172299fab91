//! Who is online: a server with a page, and a client in a terminal that shows who comes and goes.
//!
//! ```text
//! cargo run --example presence -- serve                   # listens on 127.0.0.1:3000, or on a second argument
//! cargo run --example presence -- as ada                  # and in other terminals: as bob, as ada again
//! ```
//!
//! Open the address that it prints in several tabs. Tabs and terminals of one name are one person: it goes when all have.
//! Reload a page or cut the network for less than the resume window (20 seconds, or a third argument), and nobody goes;
//! close a tab or kill a client, and it goes once the window has passed.

#[path = "../support/named.rs"]
mod named;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use throughline::client::rooms::Event;
use throughline::frame::Json;
use throughline::room::payload::{Change, Join, Notice, Who};
use throughline::server::{Attempt, Grant};
use throughline::{Hub, Rooms, Server, Socket};

const ROOM: &str = "everybody";

/// The page; the client and its rooms come from the service itself. It looks as the chat's does, and a little more.
const PAGE: &str = include_str!("page.html");
const STYLE: &str = concat!(include_str!("../chat/page.css"), include_str!("page.css"));
const SCRIPT: &str = include_str!("page.js");

/// The server: whoever says a name is believed, which is enough for an example.
pub fn server(window: Duration) -> Result<Server, throughline::server::ServeError> {
    let by_name = |attempt: &Attempt<'_>| {
        let name = named::said(attempt);
        async move { Ok(name.map_or_else(Grant::anonymous, Grant::to)) }
    };
    let handler = |socket: Socket, hub: Hub| async move {
        let mut live = hub.serve(socket);
        // Nobody says anything here but to the room.
        while live.recv().await.is_ok() {}
    };
    Server::builder().resume_window(window).authenticator(by_name).serve(handler)
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
    let rooms = Rooms::over(named::connect(url, name).await?);
    rooms.room(ROOM).join(Join { presence: true, ..Join::default() }).await?;
    Ok(rooms)
}

/// Tells the others what one is doing.
pub async fn tell(rooms: &Rooms, doing: &str) -> Result<(), Box<dyn std::error::Error>> {
    Ok(rooms.room(ROOM).update(Some(Json::of(doing)?)).await?)
}

async fn serve(address: &str, window: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let file = |media, text| get(move || async move { ([(CONTENT_TYPE, media)], text) });
    let app = axum::Router::new()
        .route("/", file("text/html; charset=utf-8", PAGE))
        .route("/page.css", file("text/css; charset=utf-8", STYLE))
        .route("/page.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route_service("/live", server(window)?.service());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (verb, what) = (arguments.next(), arguments.next());
    match (verb.as_deref(), what) {
        (Some("serve"), address) => {
            let address = address.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
            let seconds = arguments.next().map_or(Ok(20), |seconds| seconds.parse())?;
            serve(&address, Duration::from_secs(seconds)).await
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
        _ => Err("usage: presence serve [ADDRESS [SECONDS]] | as NAME [URL]".into()),
    }
}
