//! The Rust client: dials, falls back, reconnects, moves.
//!
//! This room owns what a client does about networks: which transport to try, when to try again, where tokens come
//! from. It must not know the rules of a session, which outlives every transport it dials. It implements the client's
//! side of `docs/PROTOCOL.md`, "Negotiation".
//!
//! By itself it speaks plain HTTP, directly: TLS, proxies and HTTP/2 are features.

mod address;
mod backoff;
mod builder;
mod connect;
mod dial;
mod error;
mod exchange;
#[cfg(feature = "http2")]
mod http2;
#[cfg(not(feature = "http2"))]
#[path = "http2less.rs"]
mod http2;
mod learning;
mod link;
mod patience;
mod plan;
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(not(feature = "proxy"))]
#[path = "proxyless.rs"]
mod proxy;
mod renewal;
pub mod rooms;
mod supervisor;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tlsless.rs"]
mod tls;
mod token;
mod verdicts;

use crate::socket::Socket;

pub use backoff::Backoff;
pub use builder::Builder;
pub use error::ConnectError;
pub use rooms::Rooms;
pub use token::Freshness;
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
pub use verdicts::{Finding, Findings, MemoryVerdicts, Verdicts};

/// Connects to a server.
///
/// What comes of it is a [`Socket`], which outlives its transports: when one is lost, the session goes on over the
/// next, and [`Socket::recv`] just stays pending. There is no reconnect branch in an application.
///
/// # Examples
///
/// ```no_run
/// use throughline::Client;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut socket = Client::connect("http://localhost:3000/live").await?;
/// socket.send("hello").await?;
/// while let Ok(message) = socket.recv().await {
///     println!("{}", message.body);
/// }
/// # Ok(())
/// # }
/// ```
///
/// With a token and fewer transports:
///
/// ```no_run
/// use throughline::frame::{Json, TransportKind};
/// use throughline::{Client, Freshness};
///
/// # async fn fetch_token() -> Result<String, std::io::Error> { Ok(String::new()) }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let socket = Client::builder("http://localhost:3000/live")
///     .transports([TransportKind::Sse, TransportKind::LongPolling])
///     .token(|_: Freshness| async { Ok(Json::of(&fetch_token().await?)?) })
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Client {}

impl Client {
    /// Connects to the session service at a URL, `http://` or `ws://` (with feature `tls` also `https://`
    /// or `wss://`), with the defaults of [`Client::builder`].
    ///
    /// # Errors
    /// See [`Builder::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the session; the server may have seen it.
    pub async fn connect(url: impl Into<String>) -> Result<Socket, ConnectError> {
        Self::builder(url).connect().await
    }

    /// Sets a client up for the session service at a URL.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }
}
