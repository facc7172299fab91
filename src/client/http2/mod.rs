//! WebSockets over HTTP/2: extended CONNECT (RFC 8441).
//!
//! Requests need nothing of this: hyper's client speaks HTTP/2 on a link that has agreed on it.

mod preface;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_PROTOCOL;
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
    // A box may have a page for everything: whoever opens a WebSocket names what is spoken on it.
    if answer.status() == http::StatusCode::OK && answer.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
        let upgraded = hyper::upgrade::on(&mut answer).await?;
        let link = Link::new(TokioIo::new(upgraded), Protocol::Http2).owning(tasks);
        return Ok(Asked::Opened(link));
    }
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_REFUSAL).collect().await.ok();
    Ok(Asked::Refused(Response::from_parts(head, body.map(|body| body.to_bytes().to_vec()))))
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use std::convert::Infallible;

    use http::Method;
    use http_body_util::Full;
    use hyper_util::rt::TokioExecutor;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_page_for_everything_is_no_websocket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let page = hyper::service::service_fn(async |_| {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"welcome to the hotel"))))
            });
            let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = http.enable_connect_protocol().serve_connection(TokioIo::new(stream), page).await;
        });
        let link = Link::tcp(TcpStream::connect(address).await.unwrap());
        let request = Request::builder().method(Method::CONNECT).uri(format!("http://{address}/live"));
        let asked = ask_websocket(TokioIo::new(link), request.body(()).unwrap()).await.unwrap();
        let Asked::Refused(answer) = asked else { panic!("{asked:?}") };
        assert_eq!(answer.status(), http::StatusCode::OK);
        server.abort();
    }
}
