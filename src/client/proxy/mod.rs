//! Proxies: which stands before which server, and how to get through.
//!
//! - `http://` and `https://` proxies are asked for a tunnel (`CONNECT`, RFC 9110, section 9.3.6) to whatever is spoken
//!   over TLS, and for WebSockets (RFC 6455, section 4.1).
//! - Requests to `http://` servers are sent to them whole, in absolute form (RFC 9112, section 3.2.2), as browsers do:
//!   many proxies grant tunnels to port 443 only, Squid's defaults among them.
//! - `socks5://` resolves names here, `socks5h://` leaves that to the proxy (RFC 1928, RFC 1929).

mod environment;
mod exempt;
mod socks;
mod tunnel;

use std::fmt;
use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::ConnectError;
use super::connect::{Connector, LinkError, Purpose, host_and_port};
use super::link::{Forward, Link};
use environment::Environment;

/// What a builder says about proxies.
#[derive(Debug, Default)]
pub(super) enum Choice {
    /// What the environment says counts.
    #[default]
    Environment,
    /// All goes through this one.
    Through(Secret),
    /// There is none.
    None,
}

/// A URL that may hold a password, so it is not shown.
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Choice {
    /// Looks at the environment if that is what counts.
    ///
    /// # Errors
    /// When a URL is not one of a proxy.
    pub(super) fn settle(&self) -> Result<Proxies, ConnectError> {
        match self {
            Self::None => Ok(Proxies::default()),
            Self::Through(url) => {
                let proxy = Arc::new(Proxy::parse(&url.0, "proxy")?);
                Ok(Proxies { http: Some(Arc::clone(&proxy)), https: Some(proxy), ..Proxies::default() })
            }
            Self::Environment => Environment::of_process().proxies(),
        }
    }
}

/// Which proxy stands before which server.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    exempt: exempt::Exempt,
}

impl Proxies {
    /// Makes a link to a server, or to a proxy that is sent whole requests for it.
    pub(super) async fn reach(
        &self,
        connector: &Connector,
        target: &Uri,
        purpose: Purpose,
    ) -> Result<Link, LinkError> {
        let secure = target.scheme() == Some(&Scheme::HTTPS);
        match self.before(target) {
            None => connector.tcp(target).await,
            Some(Proxy { uri, way: Way::Socks { names, user } }) => {
                let link = connector.tcp(uri).await?;
                socks::ask(link, uri, *names, user.as_ref(), target).await
            }
            Some(Proxy { uri, way: Way::Http { authorization } }) => {
                let link = connector.tcp(uri).await?;
                let link = match uri.scheme() == Some(&Scheme::HTTPS) {
                    true => connector.wrap(link, uri, Purpose::WebSocketByUpgrade).await?,
                    false => link,
                };
                if !secure && purpose == Purpose::Requests {
                    let proxy = shown(uri).into();
                    return Ok(link.forwarding(Forward { proxy, authorization: authorization.clone() }));
                }
                tunnel::dig(link, uri, authorization.as_ref(), target).await
            }
        }
    }

    fn before(&self, target: &Uri) -> Option<&Proxy> {
        let proxy = if target.scheme() == Some(&Scheme::HTTPS) { &self.https } else { &self.http };
        let (host, port) = host_and_port(target);
        proxy.as_deref().filter(|_| !self.exempt.covers(host, port))
    }
}

/// A proxy. Its URL's credentials are not in its `uri`, and not shown.
struct Proxy {
    uri: Uri,
    way: Way,
}

enum Way {
    Http { authorization: Option<HeaderValue> },
    Socks { names: Names, user: Option<User> },
}

/// Who a SOCKS proxy's user is.
struct User {
    name: String,
    password: String,
}

/// Who resolves names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Here,
    AtTheProxy,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Reads a proxy's URL: `[scheme://][user:password@]host[:port]`, where a URL without a scheme is one of HTTP.
    fn parse(url: &str, named: &'static str) -> Result<Self, ConnectError> {
        let invalid = |rule| ConnectError::Invalid { field: named, rule };
        // What it is asked about does not matter.
        let any = Uri::from_static("http://host/");
        let read = Matcher::builder().all(url).build().intercept(&any);
        let read = read.ok_or_else(|| {
            invalid("must be the URL of a proxy: http://, https://, socks5:// or socks5h://, and a host")
        })?;
        let names = match read.uri().scheme_str() {
            Some("http") => return Ok(Self::http(&read)),
            Some("https") if super::tls::AVAILABLE => return Ok(Self::http(&read)),
            Some("https") => return Err(invalid("must not be https:// without feature tls")),
            Some("socks5") => Names::Here,
            Some("socks5h") => Names::AtTheProxy,
            _ => return Err(invalid("must not be of SOCKS 4: use socks5://")),
        };
        let user =
            read.raw_auth().map(|(name, password)| User { name: name.into(), password: password.into() });
        if user.as_ref().is_some_and(|user| user.name.len().max(user.password.len()) > 255) {
            return Err(invalid("must have a user and a password of at most 255 bytes (RFC 1929)"));
        }
        let (host, port) = (read.uri().host().unwrap_or_default(), read.uri().port_u16().unwrap_or(1080));
        // For the connector, which takes another scheme to mean port 80.
        let uri = format!("http://{host}:{port}/").parse();
        Ok(Self { uri: uri.map_err(|_| invalid("must name a host"))?, way: Way::Socks { names, user } })
    }

    fn http(read: &Intercept) -> Self {
        Self { uri: read.uri().clone(), way: Way::Http { authorization: read.basic_auth().cloned() } }
    }
}

/// A proxy's host and port, for people.
fn shown(proxy: &Uri) -> String {
    let (host, port) = host_and_port(proxy);
    format!("{host}:{port}")
}
