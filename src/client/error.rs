//! Why a client has no session.

use std::sync::Arc;

use crate::frame::Close;
use crate::session::InvalidConfig;
use crate::transport::BoxError;

/// Why a client has no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Caller: the URL cannot be dialled.
    #[error("the URL cannot be dialled: {reason}")]
    InvalidUrl {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Caller: `https://` and `wss://` need TLS.
    #[error("https:// and wss:// need the feature tls of this library, which is off")]
    NeedsTls,
    /// Environment: TLS cannot be set up, as where the system has no roots and no file names any.
    #[error("TLS cannot be set up")]
    NoTls(#[source] BoxError),
    /// Environment: a proxy on the way wants to know its user, or did not like what it was told. It is not asked again.
    #[error("{reason}")]
    ProxyAuthentication {
        /// The proxy's host and port.
        proxy: Arc<str>,
        /// What to do about it, for people.
        reason: Arc<str>,
    },
    /// Environment: the certificate of the server, or of a proxy, is not trusted. It is not asked again.
    #[error("{reason}")]
    Untrusted {
        /// Whose certificate it is.
        host: Arc<str>,
        /// What is wrong with it, and what to do about it, for people.
        reason: Arc<str>,
    },
    /// Caller: a value of the builder, or of its session configuration, that nothing can work with.
    #[error("{field} {rule}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// Caller: it was called outside a tokio runtime, which is to run the session.
    #[error("there is no tokio runtime here")]
    NoRuntime,
    /// Environment: the system gives no random numbers, of which the session's secret is made.
    #[error("there is no randomness")]
    NoRandomness(#[source] BoxError),
    /// Environment: no session came to be, in as many attempts as are allowed or in the time that is given
    /// ([`Builder::give_up_after`](super::Builder::give_up_after)): no server was reached, or nothing passed to it.
    #[error("no session came to be, attempts: {attempts}; {reason}")]
    Unreachable {
        /// How many were made. Each tried all transports that made sense.
        attempts: u32,
        /// Why the last one failed, for people.
        reason: Arc<str>,
    },
    /// Peer: the server refused for good. Also when the session was closed here before it came to be.
    #[error("the session was refused: {0}")]
    Refused(Close),
}

impl From<InvalidConfig> for ConnectError {
    fn from(invalid: InvalidConfig) -> Self {
        Self::Invalid { field: invalid.field, rule: invalid.rule }
    }
}
