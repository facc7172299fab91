//! HTTP over hyper: the requests of SSE and long-polling.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use crate::transport::{BoxError, Exchange, ExchangeBody};

use super::connect::{Connector, Setup};
use super::link::{Forward, Stream};

/// How many idle connections are kept: a stream or poll and a push use two at once.
const POOLED: usize = 2;

/// The requests of one attachment.
///
/// Each attachment has a pool of its own: after a change of network no request goes to a dead connection of before.
#[derive(Debug)]
pub(super) struct HyperExchange {
    client: hyper_util::client::legacy::Client<Connections, Full<Bytes>>,
    /// The proxy that the requests are sent to whole, if there is one.
    forward: Option<Forward>,
}

impl HyperExchange {
    /// Sends the first request on a connection that is open already, and makes others as they are needed.
    pub(super) fn new(first: Stream, others: Connector) -> Self {
        let forward = first.inner().forward().cloned();
        let connections = Connections { first: Arc::new(Mutex::new(Some(first))), others };
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(POOLED)
            .build(connections);
        Self { client, forward }
    }
}

#[async_trait]
impl Exchange for HyperExchange {
    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        if let Some(authorization) = self.forward.as_ref().and_then(|forward| forward.authorization.as_ref())
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let response = self.client.request(request).await?;
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
