//! Makes the byte stream to a server: directly or through a proxy, with or without TLS.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::PROXY_AUTHENTICATE;
use http::uri::Scheme;
use http::{HeaderMap, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tower_service::Service;

use crate::frame::CloseCode;
use crate::transport::BoxError;

use super::ConnectError;
use super::link::{Link, LinkSource, Stream};
use super::patience::Patience;
use super::proxy::Proxies;
use super::tls::{Settings, Tls};

/// What a connection is for, which decides how it may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Requests and their answers. A proxy may be sent them whole.
    Requests,
    /// A WebSocket: through a proxy it needs a tunnel (RFC 6455, section 4.1).
    WebSocket,
    /// The same, where HTTP/2 is of no use.
    WebSocketByUpgrade,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// Nobody is reached.
    #[error(transparent)]
    Unreached(BoxError),
    /// A proxy will not make this connection. Whole requests it may pass on.
    #[error("the proxy {proxy} does not connect to {target}: {status}")]
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "only proxies need it"))]
    TunnelRefused { proxy: String, target: String, status: StatusCode },
    /// Nothing will work before somebody changes the setup.
    #[error(transparent)]
    #[cfg_attr(
        not(any(test, feature = "proxy", feature = "tls")),
        expect(dead_code, reason = "only proxies and TLS need it")
    )]
    Setup(Setup),
}

/// What somebody must change before a server can be reached through this network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Setup {
    /// A proxy wants to know who asks.
    #[error("the proxy {proxy} {} (it offers: {offered})", advice(offered, *.presented))]
    ProxyAuth {
        /// Its host and port.
        proxy: Arc<str>,
        /// The schemes that it names.
        offered: Arc<str>,
        /// Whether it was told any.
        presented: bool,
    },
    /// A certificate is not trusted.
    #[error(
        "the certificate of {host} is not trusted: {reason} (where a company's own authority signs, or TLS is \
         inspected on the way, name that authority's certificate by `ca_file`)"
    )]
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS has certificates"))]
    Untrusted {
        /// Who presented it.
        host: Arc<str>,
        /// What is wrong with it.
        reason: Arc<str>,
    },
}

/// What a proxy wants, and what to do about it.
fn advice(offered: &str, presented: bool) -> &'static str {
    let offered = offered.to_ascii_lowercase();
    let speaks = ["basic", "password", "nothing"].iter().any(|known| offered.contains(known));
    match (speaks, presented) {
        (false, _) => {
            "knows its users in no way that this client speaks: a helper such as cntlm can stand between"
        }
        (true, false) => {
            "asks for a user and password: put them into its URL, http://user:password@host:port"
        }
        (true, true) => "refused the user and password of its URL",
    }
}

impl Setup {
    /// What to make of a proxy's `407`.
    pub(super) fn proxy_auth(proxy: Arc<str>, headers: &HeaderMap, presented: bool) -> Self {
        let challenges = headers.get_all(PROXY_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let schemes: Vec<_> = challenges.filter_map(|text| text.split_whitespace().next()).collect();
        let offered = if schemes.is_empty() { "nothing".into() } else { schemes.join(", ").into() };
        Self::ProxyAuth { proxy, offered, presented }
    }

    /// What was found behind an error, if that is what stood in the way.
    pub(super) fn behind(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut at = Some(error);
        while let Some(error) = at {
            if let Some(setup) = error.downcast_ref::<Self>() {
                return Some(setup.clone());
            }
            if let Some(LinkError::Setup(setup)) = error.downcast_ref() {
                return Some(setup.clone());
            }
            at = error.source();
        }
        None
    }

    /// What a session that comes to nothing for this is closed with. It is said to nobody else.
    pub(super) fn code(&self) -> CloseCode {
        let word = match self {
            Self::ProxyAuth { .. } => "proxy_auth_required",
            Self::Untrusted { .. } => "certificate_untrusted",
        };
        CloseCode::from_word(word).unwrap_or(CloseCode::TimedOut)
    }

    pub(super) fn into_error(self) -> ConnectError {
        let reason = self.to_string().into();
        match self {
            Self::ProxyAuth { proxy, .. } => ConnectError::ProxyAuthentication { proxy, reason },
            Self::Untrusted { host, .. } => ConnectError::Untrusted { host, reason },
        }
    }
}

/// What it takes to connect to anybody.
#[derive(Clone)]
pub(super) struct Connector {
    /// What is asked for byte streams, if it is not TCP.
    links: Option<LinkSource>,
    proxies: Arc<Proxies>,
    tls: Arc<Tls>,
    /// Bounds the connection to each address, and each handshake.
    patience: Patience,
}

impl Connector {
    /// # Errors
    /// When a proxy's URL, or the file of roots, is of no use.
    pub(super) fn new(proxies: Proxies, tls: &Settings, patience: Patience) -> Result<Self, ConnectError> {
        Ok(Self { links: None, proxies: Arc::new(proxies), tls: Arc::new(Tls::new(tls)?), patience })
    }

    /// The same, with links of another make than TCP's.
    pub(super) fn linked_by(mut self, links: Option<LinkSource>) -> Self {
        self.links = links;
        self
    }

    /// Connects to the server of a URL.
    pub(super) async fn connect(&self, target: &Uri, purpose: Purpose) -> Result<Stream, LinkError> {
        let link = match &self.links {
            Some(links) => links.connect().await.map_err(|error| LinkError::Unreached(error.into()))?,
            None => self.proxies.reach(self, target, purpose).await?,
        };
        let secure = target.scheme() == Some(&Scheme::HTTPS);
        let link = if secure { self.wrap(link, target, purpose).await? } else { link };
        Ok(TokioIo::new(link))
    }

    /// Bounds a future by the patience for one step.
    pub(super) async fn in_time<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        timeout(self.patience.get(), step).await.ok()
    }

    /// Speaks TLS on a link, with the host of a URL.
    pub(super) async fn wrap(&self, link: Link, host: &Uri, purpose: Purpose) -> Result<Link, LinkError> {
        self.tls.wrap(link, host, purpose).await
    }

    pub(super) fn http(&self) -> HttpConnector {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.patience.get()));
        connector
    }

    /// Connects to the host of a URL, without anything between.
    pub(super) async fn tcp(&self, uri: &Uri) -> Result<Link, LinkError> {
        let mut connector = self.http();
        let ready = poll_fn(|cx| connector.poll_ready(cx)).await;
        ready.map_err(|error| LinkError::Unreached(error.into()))?;
        let connected = connector.call(uri.clone()).await;
        connected.map(|io| Link::tcp(io.into_inner())).map_err(|error| LinkError::Unreached(error.into()))
    }
}

/// Connections for requests, as hyper's client wants them.
impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let connecting = connector.connect(&uri, Purpose::Requests);
            match connector.in_time(connecting).await {
                Some(connected) => Ok(connected?),
                None => Err("no connection in time".into()),
            }
        })
    }
}

/// Proxies may bear passwords, so they are not shown.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// The host of a URL, and the port it names or its scheme means.
#[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "only proxies need it"))]
pub(super) fn host_and_port(uri: &Uri) -> (&str, u16) {
    let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(challenges: &[&str], presented: bool) -> String {
        let headers = challenges.iter().map(|text| (PROXY_AUTHENTICATE, text.parse().unwrap()));
        Setup::proxy_auth("proxy:3128".into(), &headers.collect(), presented).to_string()
    }

    #[test]
    fn a_proxy_that_wants_a_user_says_what_to_do() {
        for (challenges, presented, says) in [
            (&["Basic realm=\"x\""][..], false, "http://user:password@"),
            (&["Negotiate", "BASIC realm=x"], true, "refused"),
            (&["NTLM", "Negotiate"], false, "cntlm"),
            (&["NTLM"], true, "cntlm"),
            (&[], false, "http://user:password@"),
        ] {
            let text = asked(challenges, presented);
            assert!(text.contains(says) && text.contains("proxy:3128"), "{challenges:?}: {text}");
        }
        assert!(asked(&["NTLM", "Negotiate abc"], false).ends_with("(it offers: NTLM, Negotiate)"));
    }

    #[test]
    fn what_must_be_changed_is_found_behind_other_errors() {
        let setup = Setup::proxy_auth("proxy:3128".into(), &HeaderMap::new(), false);
        let error = crate::transport::TransportError::Network(LinkError::Setup(setup.clone()).into());
        assert_eq!(Setup::behind(&error), Some(setup));
        assert_eq!(Setup::behind(&LinkError::Unreached("gone".into())), None);
    }
}
