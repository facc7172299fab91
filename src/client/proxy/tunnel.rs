//! Tunnels: `CONNECT` (RFC 9110, section 9.3.6), over hyper.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::client::connect::{LinkError, Setup, host_and_port};
use crate::client::link::Link;
use crate::transport::BoxError;

/// Asks a proxy for a tunnel to the host of a URL.
pub(super) async fn dig(
    link: Link,
    proxy: &Uri,
    authorization: Option<&HeaderValue>,
    target: &Uri,
) -> Result<Link, LinkError> {
    let (host, port) = host_and_port(target);
    let to = format!("{host}:{port}");
    let request = request(&to, authorization).map_err(|error| LinkError::Unreached(error.into()))?;
    let unreached = |error: hyper::Error| LinkError::Unreached(error.into());
    let (mut sender, connection) =
        http1::Builder::new().handshake(TokioIo::new(link)).await.map_err(unreached)?;
    let asking = async {
        let mut answer = sender.send_request(request).await.map_err(unreached)?;
        match answer.status() {
            status if status.is_success() => hyper::upgrade::on(&mut answer).await.map_err(unreached),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let (proxy, presented) = (super::shown(proxy).into(), authorization.is_some());
                Err(LinkError::Setup(Setup::proxy_auth(proxy, answer.headers(), presented)))
            }
            status => {
                Err(LinkError::TunnelRefused { proxy: super::shown(proxy), target: to.clone(), status })
            }
        }
    };
    let upgraded = beside(connection.with_upgrades(), asking).await?;
    let parts = upgraded.downcast::<TokioIo<Link>>().map_err(|_| lost("it is of another kind"))?;
    if parts.read_buf.is_empty() {
        Ok(parts.io.into_inner())
    } else {
        // Both TLS and HTTP begin with the client.
        Err(lost("the other end speaks first"))
    }
}

fn request(to: &str, authorization: Option<&HeaderValue>) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::builder().method(Method::CONNECT).uri(to).header(HOST, to);
    if let Some(authorization) = authorization {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    request.body(Empty::new())
}

fn lost(reason: &'static str) -> LinkError {
    LinkError::Unreached(BoxError::from(format!("the tunnel is of no use: {reason}")))
}

/// Runs a connection for as long as something is asked over it.
async fn beside<T>(connection: impl Future, asking: impl Future<Output = T>) -> T {
    let (mut connection, mut asking) = (pin!(connection), pin!(asking));
    let mut over = false;
    poll_fn(|cx| {
        if !over {
            over = connection.as_mut().poll(cx).is_ready();
        }
        Pin::as_mut(&mut asking).poll(cx)
    })
    .await
}
