//! HTTP over hyper: the requests of SSE and long-polling.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::transport::{BoxError, Exchange, ExchangeBody};

/// A connection to a server.
pub(super) type Stream = TokioIo<TcpStream>;

/// How many idle connections are kept: a stream or poll and a push use two at once.
const POOLED: usize = 2;

/// The requests of one attachment.
///
/// Each attachment has a pool of its own: after a change of network no request goes to a dead connection of before.
#[derive(Debug)]
pub(super) struct HyperExchange {
    client: hyper_util::client::legacy::Client<Connector, Full<Bytes>>,
}

impl HyperExchange {
    /// Sends the first request on a connection that is open already, and makes others as they are needed.
    pub(super) fn new(first: Stream, others: HttpConnector) -> Self {
        let connector = Connector { first: Arc::new(Mutex::new(Some(first))), others };
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(POOLED)
            .build(connector);
        Self { client }
    }
}

#[async_trait]
impl Exchange for HyperExchange {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        let response = self.client.request(request).await?;
        Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}

/// Gives the connection that is there, and then new ones.
#[derive(Clone, Debug)]
struct Connector {
    first: Arc<Mutex<Option<Stream>>>,
    others: HttpConnector,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.others.poll_ready(cx).map_err(BoxError::from)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stream) = first {
            return Box::pin(std::future::ready(Ok(stream)));
        }
        let connecting = self.others.call(uri);
        Box::pin(async move { connecting.await.map_err(BoxError::from) })
    }
}
