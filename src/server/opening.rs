//! The two opening handshakes of a WebSocket: by Upgrade (RFC 6455), and over HTTP/2 by extended CONNECT (RFC 8441).

use http::header::{CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::frame::{Close, CloseCode};

use super::answer::{self, Answer};
use super::door::broken;

/// In which way a WebSocket is opened, if one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Upgrade,
    /// hyper's server takes such requests only when it was told to, by `enable_connect_protocol`.
    Connect,
}

impl Opening {
    #[cfg(feature = "http2")]
    pub(super) fn of(request: &Parts) -> Self {
        let protocol = request.extensions.get::<hyper::ext::Protocol>();
        let connects = request.method == http::Method::CONNECT
            && protocol.is_some_and(|protocol| protocol.as_ref().eq_ignore_ascii_case(b"websocket"));
        if connects { Self::Connect } else { Self::Upgrade }
    }

    #[cfg(not(feature = "http2"))]
    pub(super) fn of(_request: &Parts) -> Self {
        Self::Upgrade
    }

    /// The answer that opens a WebSocket.
    pub(super) fn accept(self, headers: &HeaderMap) -> Result<Answer, Close> {
        if self == Self::Connect {
            return Ok(answer::tunnel());
        }
        let mut answer = answer::switching();
        // Boxes that translate a CONNECT of HTTP/2's, which has no key, may leave it out, and look for no proof.
        if let Some(key) = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes) {
            if data_encoding::BASE64.decode(key).map(|nonce| nonce.len()) != Ok(16) {
                return Err(broken("Sec-WebSocket-Key is not base64 of 16 bytes"));
            }
            let accept = HeaderValue::try_from(derive_accept_key(key));
            let accept = accept.map_err(|_| Close::new(CloseCode::InternalError, "no accept key"))?;
            answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        Ok(answer)
    }
}
