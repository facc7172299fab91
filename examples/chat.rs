//! A chat: one room, whatever carries its members.
//!
//! ```text
//! cargo run --example chat                    # listens on 127.0.0.1:3000, or on its first argument
//! ```
//!
//! Then open the address it prints, which says how to join.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use throughline::server::AnswerBody;
use throughline::{Body, Hub, Server, Socket};
use tokio::net::{TcpListener, TcpStream};

/// What is said, and who says it.
#[derive(Serialize)]
struct Line<'a> {
    from: &'a str,
    text: &'a str,
}

/// What members send: `{"from": …, "text": …}`, or just a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Line { from: Option<String>, text: String },
    Text(String),
}

async fn chat(mut socket: Socket, hub: Hub) {
    let lobby = hub.room("lobby");
    let guest = format!("guest-{}", &socket.id().to_string()[..4]);
    let Ok(_member) = lobby.join(&socket).await else { return };
    tell(&lobby, "chat", &format!("{guest} joined")).await;
    while let Ok(message) = socket.recv().await {
        match message.body.to() {
            Ok(Said::Line { from, text }) => tell(&lobby, from.as_deref().unwrap_or(&guest), &text).await,
            Ok(Said::Text(text)) => tell(&lobby, &guest, &text).await,
            Err(_) => {
                let _ = socket.try_send("say a text, or {\"from\": …, \"text\": …}");
            }
        }
    }
    tell(&lobby, "chat", &format!("{guest} left")).await;
}

async fn tell(lobby: &throughline::Room, from: &str, text: &str) {
    if let Ok(line) = Body::json(&Line { from, text }) {
        let _ = lobby.publish(line).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let live = Server::builder().plain_websocket(true).serve(chat)?;
    let listener = TcpListener::bind(&address).await?;
    let address = listener.local_addr()?.to_string();
    println!("http://{address}");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                tokio::spawn(serve(accepted?.0, live.clone(), address.clone()));
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

async fn serve(stream: TcpStream, live: Server, address: String) {
    let service = service_fn(move |request| route(request, live.clone(), address.clone()));
    let mut http = http1::Builder::new();
    let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    // Connections break all the time: their sessions go on without them.
    let _ = connection.with_upgrades().await;
}

async fn route(
    request: Request<Incoming>,
    live: Server,
    address: String,
) -> Result<Response<Either<AnswerBody, Full<Bytes>>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/live" => {
            let answer = hyper::service::Service::call(&live.service(), request).await?;
            return Ok(answer.map(Either::Left));
        }
        "/" => (StatusCode::OK, page(&address)),
        _ => (StatusCode::NOT_FOUND, "Nothing here: try /\n".to_owned()),
    };
    let mut answer = Response::new(Either::Right(Full::new(Bytes::from(text))));
    *answer.status_mut() = status;
    Ok(answer)
}

fn page(address: &str) -> String {
    format!(
        "This is a chat. Its one room is at http://{address}/live, over whatever gets through:\n\
         WebSocket, server-sent events or long-polling.\n\
         \n\
         Join it from a terminal:\n\
         \n\
         \tcargo run --example chat_client http://{address}/live\n\
         \n\
         Read along:\n\
         \n\
         \tcurl -N -H 'Accept: text/event-stream' http://{address}/live\n\
         \n\
         Join without a library:\n\
         \n\
         \twebsocat 'ws://{address}/live?plain'\n"
    )
}
