//! Notifications that wait for who is away: in memory, or in PostgreSQL, where they outlive the server and several servers
//! share them.
//!
//! ```text
//! cargo run --example notifications -- serve              # listens on 127.0.0.1:3000
//! cargo run --example notifications -- tell ada bob "lunch?"
//! cargo run --example notifications -- listen bob         # before that or after it
//! cargo run --example notifications --features postgres -- serve postgres://user:password@localhost/database
//! ```

#[path = "support/named.rs"]
mod named;

use serde::{Deserialize, Serialize};
use throughline::client::rooms::Event;
use throughline::frame::Json;
use throughline::hub::{Delivery, InboxError};
use throughline::server::{Attempt, Grant};
use throughline::socket::TypedRequestError;
use throughline::{Hub, Principal, Rooms, Server, Socket};

pub(crate) use named::connect;

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// To tell somebody something.
    Notify {
        /// The name that it connects under.
        whom: String,
        /// What to tell.
        text: String,
    },
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is on its way.
    Sent,
    /// It waits.
    Kept,
}

/// What is told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Who tells it.
    pub from: String,
    /// What it is.
    pub text: String,
}

/// A hub that keeps what is for those who are away: there, or in memory.
pub async fn hub(database: Option<&str>) -> Result<Hub, InboxError> {
    match database {
        Some(url) => in_database(url).await,
        None => Ok(Hub::builder().inbox(throughline::hub::MemoryInbox::new(Default::default())?).build()),
    }
}

#[cfg(feature = "postgres")]
async fn in_database(url: &str) -> Result<Hub, InboxError> {
    let inbox = throughline::hub::PostgresInbox::builder(url).connect().await?;
    Ok(Hub::builder().inbox(inbox).build())
}

#[cfg(not(feature = "postgres"))]
async fn in_database(_: &str) -> Result<Hub, InboxError> {
    Err(InboxError::Unavailable("this is built without the feature postgres".into()))
}

/// The server: whoever says a name is believed, which is enough for an example.
pub fn server(hub: Hub) -> Result<Server, throughline::server::ServeError> {
    let by_name = |attempt: &Attempt<'_>| {
        let name = named::said(attempt);
        async move { Ok(name.map_or_else(Grant::anonymous, Grant::to)) }
    };
    Server::builder().hub(hub).authenticator(by_name).serve(handle)
}

async fn handle(socket: Socket, hub: Hub) {
    let from = socket.principal().map_or("somebody", |principal| principal.as_str()).to_owned();
    let mut live = hub.serve(socket).typed::<Ask, Notification>();
    while let Ok(asked) = live.recv().await {
        let Ask::Notify { whom, text } = &asked.value;
        let notification = Notification { from: from.clone(), text: text.clone() };
        let Ok(body) = Json::of(&notification) else { continue };
        let _ = match hub.deliver(&Principal::new(whom.as_str()), body).await {
            Ok(Delivery::Sent(_)) => live.reply(&asked, &Fate::Sent).await.is_ok(),
            Ok(_) => live.reply(&asked, &Fate::Kept).await.is_ok(),
            Err(error) => live.fail(&asked, "not_kept", &error.to_string()).await.is_ok(),
        };
    }
}

/// Tells somebody something.
pub async fn tell(socket: Socket, whom: &str, text: &str) -> Result<Fate, TypedRequestError> {
    let socket = socket.typed::<Notification, Ask>();
    socket.request(&Ask::Notify { whom: whom.to_owned(), text: text.to_owned() }).await
}

/// The next notification, whether it waited or not.
pub async fn next(rooms: &mut Rooms) -> Result<Notification, Box<dyn std::error::Error>> {
    loop {
        match rooms.recv().await? {
            Event::Kept(body) => return Ok(body.to()?),
            Event::Message(message) => return Ok(message.body.to()?),
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    const URL: &str = "http://127.0.0.1:3000/live";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", ref database @ ..] => {
            let server = server(hub(database.first().copied()).await?)?;
            let app = axum::Router::new().route_service("/live", server.service());
            Ok(axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?)
        }
        ["tell", name, whom, text] => {
            println!("{:?}", tell(connect(URL, name).await?, whom, text).await?);
            Ok(())
        }
        ["listen", name] => {
            let mut rooms = Rooms::over(connect(URL, name).await?);
            loop {
                let Notification { from, text } = next(&mut rooms).await?;
                println!("{from}: {text}");
            }
        }
        _ => Err("usage: notifications serve [DATABASE] | tell NAME WHOM TEXT | listen NAME".into()),
    }
}
