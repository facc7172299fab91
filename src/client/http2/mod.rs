//! WebSockets over HTTP/2: extended CONNECT (RFC 8441).
//!
//! Requests need nothing of this: hyper's client speaks HTTP/2 on a link that has agreed on it.

mod preface;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http2;
use hyper::ext::Protocol as Extended;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use crate::transport::BoxError;

use super::link::{Link, Protocol, Stream};
use preface::Preface;

/// The most of a refusal that is read.
const MAX_REFUSAL: usize = 64 << 10;

/// What came of a wish for a WebSocket.
#[derive(Debug)]
pub(super) enum Asked {
    /// A byte stream on which the opening handshake is done.
    Opened(Link),
    /// The server answered something else.
    Refused(Response<Option<Vec<u8>>>),
    /// The server's settings do not allow it.
    NotAllowed,
}

/// The tasks of a connection. With the last owner they end.
pub(super) type Tasks = Arc<Mutex<JoinSet<()>>>;

/// Runs the tasks of a connection for as long as somebody owns them.
#[derive(Clone)]
struct Executor(Weak<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }
}

/// Asks for a WebSocket on a fresh connection, with a `CONNECT` to the URL of the session.
pub(super) async fn ask_websocket(stream: Stream, mut request: Request<()>) -> Result<Asked, BoxError> {
    let tasks = Tasks::default();
    let executor = Executor(Arc::downgrade(&tasks));
    let (preface, settled) = Preface::new(stream);
    let (mut sender, connection) = http2::handshake(executor.clone(), preface).await?;
    settled.await.map_err(|_| "the connection ended before the server's settings came")?;
    if !connection.is_extended_connect_protocol_enabled() {
        return Ok(Asked::NotAllowed);
    }
    hyper::rt::Executor::execute(&executor, async {
        // Whoever asks on it hears the same.
        let _ = connection.await;
    });
    request.extensions_mut().insert(Extended::from_static("websocket"));
    let mut answer = sender.send_request(request.map(|()| Empty::<Bytes>::new())).await?;
    if answer.status() == http::StatusCode::OK {
        let upgraded = hyper::upgrade::on(&mut answer).await?;
        let link = Link::new(TokioIo::new(upgraded), Protocol::Http2).owning(tasks);
        return Ok(Asked::Opened(link));
    }
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_REFUSAL).collect().await.ok();
    Ok(Asked::Refused(Response::from_parts(head, body.map(|body| body.to_bytes().to_vec()))))
}
