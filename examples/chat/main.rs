//! A chat: one room, whatever carries its members.
//!
//! ```text
//! cargo run --example chat                    # listens on 127.0.0.1:3000, or on its first argument
//! ```
//!
//! Then open the address that it prints, in two tabs. From a terminal, `examples/chat_client.rs` joins the same room.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use throughline::server::AnswerBody;
use throughline::{Body, Hub, Server, Socket};
use tokio::net::{TcpListener, TcpStream};

#[path = "../support/listening.rs"]
mod listening;

/// What is said, and who says it.
#[derive(Serialize)]
struct Line<'a> {
    from: &'a str,
    text: &'a str,
    /// Whatever its sender knows it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a str>,
}

/// What members send: `{"from": …, "text": …, "mark": …}`, or just a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Line { from: Option<String>, text: String, mark: Option<String> },
    Text(String),
}

/// Who says who comes and goes.
const CHAT: &str = "chat";

/// The page, and what it consists of besides the client that the service itself serves.
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

async fn chat(mut socket: Socket, hub: Hub) {
    let lobby = hub.room("lobby");
    let guest = format!("guest-{}", &socket.id().to_string()[..4]);
    let Ok(_member) = lobby.join(&socket).await else { return };
    tell(&lobby, CHAT, &format!("{guest} joined"), None).await;
    while let Ok(message) = socket.recv().await {
        match message.body.to() {
            Ok(Said::Line { from, text, mark }) => {
                // The name is anybody's choice here, but for the one by which the chat itself speaks.
                let from = from.filter(|from| from.trim() != CHAT);
                tell(&lobby, from.as_deref().unwrap_or(&guest), &text, mark.as_deref()).await;
            }
            Ok(Said::Text(text)) => tell(&lobby, &guest, &text, None).await,
            Err(_) => {
                let _ = socket.try_send("say a text, or {\"from\": …, \"text\": …}");
            }
        }
    }
    tell(&lobby, CHAT, &format!("{guest} left"), None).await;
}

async fn tell(lobby: &throughline::Room, from: &str, text: &str, mark: Option<&str>) {
    if let Ok(line) = Body::json(&Line { from, text, mark }) {
        let _ = lobby.publish(line).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let live = Server::builder().plain_websocket(true).serve(chat)?;
    let listener = TcpListener::bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        tokio::select! {
            stream = listening::accept(&listener) => {
                tokio::spawn(serve(stream, live.clone()));
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        }
    }
    println!("closing {} sessions", live.sessions());
    live.shutdown("the chat closes", Duration::from_secs(5)).await;
    Ok(())
}

async fn serve(stream: TcpStream, live: Server) {
    let service = service_fn(move |request| route(request, live.clone()));
    let mut http = http1::Builder::new();
    let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    // Connections break all the time: their sessions go on without them.
    let _ = connection.with_upgrades().await;
}

async fn route(
    request: Request<Incoming>,
    live: Server,
) -> Result<Response<Either<AnswerBody, Full<Bytes>>>, Infallible> {
    let (status, media, text) = match request.uri().path() {
        "/live" => {
            let answer = hyper::service::Service::call(&live.service(), request).await?;
            return Ok(answer.map(Either::Left));
        }
        "/" => (StatusCode::OK, "text/html; charset=utf-8", PAGE),
        "/page.css" => (StatusCode::OK, "text/css; charset=utf-8", STYLE),
        "/page.js" => (StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
        _ => (StatusCode::NOT_FOUND, "text/plain", "Nothing here: try /\n"),
    };
    let mut answer = Response::new(Either::Right(Full::new(Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(answer)
}
