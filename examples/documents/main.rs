//! A text that several people edit at once, with or without a network: Yjs in the pages, yrs here.
//!
//! ```text
//! (cd js && npm ci && node build.mjs --documents)         # makes the script of the page, target/documents.js
//! cargo run --example documents                           # listens on 127.0.0.1:3000, or on its first argument
//! ```
//!
//! Then open the address that it prints, in two tabs. What is typed while there is no network is merged later.
//!
//! Updates of Yjs commute and may come twice, so little is asked of the layer below. A page sends each of its updates as a
//! message of its own; the server takes it into its document and says it in the room. A page that begins to listen, or
//! has missed something, asks with what it knows (its state vector), is answered what it lacks, together with what the
//! server knows, and sends what that lacks. So a server that starts anew gets the text back from its pages.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use throughline::frame::MessageKind;
use throughline::hub::ReadOnly;
use throughline::{Body, Hub, Server, Socket};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Doc, ReadTxn, StateVector, Transact, Update};

const ROOM: &str = "document";

const PAGE: &str = include_str!("page.html");
const STYLE: &str = concat!(include_str!("../chat/page.css"), include_str!("page.css"));

/// The one document of this server.
#[derive(Clone, Default)]
struct Document(Arc<Mutex<Doc>>);

/// What is not of Yjs.
struct Malformed;

impl Document {
    /// Takes in what somebody has written.
    fn take(&self, update: &[u8]) -> Result<(), Malformed> {
        let update = Update::decode_v1(update).map_err(|_| Malformed)?;
        let doc = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doc.transact_mut().apply_update(update).map_err(|_| Malformed)
    }

    /// What is known here, behind its length, and what somebody lacks who knows so much.
    fn answer(&self, known: &[u8]) -> Result<Vec<u8>, Malformed> {
        let known = StateVector::decode_v1(known).map_err(|_| Malformed)?;
        let doc = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = doc.transact();
        let own = transaction.state_vector().encode_v1();
        let length = u32::try_from(own.len()).map_err(|_| Malformed)?;
        Ok([&length.to_be_bytes()[..], &own, &transaction.encode_diff_v1(&known)].concat())
    }
}

async fn edit(socket: Socket, hub: Hub, document: Document) {
    let room = hub.room(ROOM);
    let mut live = hub.serve(socket);
    while let Ok(message) = live.recv().await {
        let Body::Binary(bytes) = &message.body else { continue };
        if message.kind == MessageKind::Request {
            let _ = match document.answer(bytes) {
                Ok(answer) => live.reply(&message, answer).await,
                Err(Malformed) => live.fail(&message, "malformed", "not a state vector").await,
            };
        } else if document.take(bytes).is_ok() {
            let _ = room.publish(bytes.clone()).await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/documents.js");
    let script = std::fs::read_to_string(path).map_err(|error| {
        format!("{path}: {error}; (cd js && npm ci && node build.mjs --documents) makes it")
    })?;
    let script: &'static str = script.leak();
    let document = Document::default();
    // Pages say what they write to the handler, which looks at it before it tells the others.
    let hub = Hub::builder().authorize(ReadOnly).build();
    let live = Server::builder().hub(hub).serve(move |socket, hub| edit(socket, hub, document.clone()))?;
    let file = |media, text| get(move || async move { ([(CONTENT_TYPE, media)], text) });
    let app = axum::Router::new()
        .route("/", file("text/html; charset=utf-8", PAGE))
        .route("/page.css", file("text/css; charset=utf-8", STYLE))
        .route("/page.js", file("text/javascript; charset=utf-8", script))
        .route_service("/live", live.service());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
