//! HTTP over hyper: the requests of SSE and long-polling.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tower_service::Service;

use crate::transport::{BoxError, Exchange, ExchangeBody};

use super::connect::{Connector, Setup};
use super::link::{Forward, Stream};

/// How many idle connections are kept: a stream or poll and a push use two at once.
const POOLED: usize = 2;

/// A connection that was kept and closed meanwhile fails a request this soon. What takes longer was held and cut, and the
/// session is to learn of it.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// How long: less than the 30 s after which the most impatient of common boxes forget a connection, perhaps in silence.
const POOLED_FOR: Duration = Duration::from_secs(25);

/// The requests of one attachment.
///
/// Each attachment has a pool of its own: after a change of network no request goes to a dead connection of before.
#[derive(Debug)]
pub(super) struct HyperExchange {
    client: hyper_util::client::legacy::Client<Connections, Full<Bytes>>,
    /// The proxy that the requests are sent to whole, if there is one.
    forward: Option<Forward>,
    /// Whether there ever was an answer: then connections may be kept ones.
    answered: AtomicBool,
}

impl HyperExchange {
    /// Sends the first request on a connection that is open already, and makes others as they are needed.
    pub(super) fn new(first: Stream, others: Connector) -> Self {
        let forward = first.inner().forward().cloned();
        let connections = Connections { first: Arc::new(Mutex::new(Some(first))), others };
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(POOLED)
            .pool_idle_timeout(POOLED_FOR)
            .build(connections);
        Self { client, forward, answered: AtomicBool::new(false) }
    }

    /// Sends a request, and again where the connection that was kept for it turns out to be closed: some boxes close after
    /// each answer without saying so. No request of the protocol does anything twice.
    async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        for _ in 0..POOLED {
            let begun = Instant::now();
            match self.client.request(request.clone()).await {
                Err(error)
                    if !error.is_connect()
                        && begun.elapsed() < STALE_WITHIN
                        && self.answered.load(Ordering::Relaxed) =>
                {
                    tracing::trace!(%error, "asking again on another connection");
                }
                answered => return answered,
            }
        }
        self.client.request(request).await
    }
}

#[async_trait]
impl Exchange for HyperExchange {
    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        if let Some(authorization) = self.forward.as_ref().and_then(|forward| forward.authorization.as_ref())
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let response = self.request(request).await?;
        self.answered.store(true, Ordering::Relaxed);
        if let (Some(forward), StatusCode::PROXY_AUTHENTICATION_REQUIRED) = (&self.forward, response.status())
        {
            let (proxy, presented) = (Arc::clone(&forward.proxy), forward.authorization.is_some());
            return Err(Setup::proxy_auth(proxy, response.headers(), presented).into());
        }
        Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}

/// Gives the connection that is there, and then new ones.
#[derive(Clone, Debug)]
struct Connections {
    first: Arc<Mutex<Option<Stream>>>,
    others: Connector,
}

impl Service<Uri> for Connections {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.others.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stream) = first {
            return Box::pin(std::future::ready(Ok(stream)));
        }
        self.others.call(uri)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::client::patience::Patience;
    use crate::client::proxy::Proxies;
    use crate::client::tls::Settings;

    /// Reads a request without a body.
    async fn read_head(stream: &mut TcpStream) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        Some(())
    }

    /// Answers so many requests on each connection, and closes it when the next has come. Counts connections.
    async fn serve(listener: TcpListener, answers: usize, connections: Arc<Mutex<usize>>) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *connections.lock().unwrap() += 1;
            for _ in 0..answers {
                let Some(()) = read_head(&mut stream).await else { break };
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
            let _ = read_head(&mut stream).await;
        }
    }

    async fn ask(answers: usize, times: usize) -> (Vec<bool>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let connections = Arc::new(Mutex::new(0));
        let server = tokio::spawn(serve(listener, answers, Arc::clone(&connections)));
        let connector =
            Connector::new(Proxies::default(), &Settings::default(), Patience::new(Duration::from_secs(5)))
                .unwrap();
        let first = connector.connect(&uri, crate::client::connect::Purpose::Requests).await.unwrap();
        let exchange = HyperExchange::new(first, connector);
        let mut answered = Vec::new();
        for _ in 0..times {
            let request = Request::get(uri.clone()).body(Full::default()).unwrap();
            answered.push(exchange.exchange(request).await.is_ok());
        }
        server.abort();
        let connections = *connections.lock().unwrap();
        (answered, connections)
    }

    #[tokio::test]
    async fn a_request_that_meets_a_connection_closed_meanwhile_is_sent_on_another() {
        assert_eq!(ask(1, 3).await, (vec![true; 3], 3));
    }

    #[tokio::test]
    async fn a_request_that_a_new_connection_does_not_answer_has_failed() {
        assert_eq!(ask(0, 1).await, (vec![false], 1));
    }
}
