//! Why bytes are not frames.

use super::body::JsonError;

/// What a decoder refuses, and why. The peer that sent it is at fault, always.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A message, batch, event or frame beyond its limit in bytes.
    #[error("{what} larger than {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// More pieces than are allowed.
    #[error("more than {limit} {what}")]
    TooMany {
        /// The pieces.
        what: &'static str,
        /// Their limit.
        limit: usize,
    },
    /// JSON that is not well-formed, not UTF-8, not of a frame's shape, or too deep.
    #[error("not the JSON of a frame")]
    Json(#[source] JsonError),
    /// Bytes that end in the middle of a frame.
    #[error("frame is cut short")]
    Truncated,
    /// Bytes behind the end of a frame's payload.
    #[error("bytes behind the end of a frame")]
    Trailing,
    /// A varint that is longer than its number needs, or beyond 64 bits.
    #[error("varint not in its shortest form")]
    Varint,
    /// A message's number of 0, any number that is not 0 to 2^53 - 1, or more taken than received. Within the
    /// objects of the rare frames a number out of range is [`DecodeError::Json`], as is any other field that
    /// does not fit.
    #[error("number out of range")]
    Number,
    /// A binary body that is not base64 (RFC 4648, section 4, with padding).
    #[error("binary body is not base64")]
    Base64,
    /// A close code that cannot be one.
    #[error("close code out of its alphabet")]
    CloseCode,
    /// A tag that no version so far has; extensions begin with `x-`.
    #[error("unknown frame")]
    UnknownFrame,
    /// A frame that only this side may send.
    #[error("{frame} is not a frame of the other side's")]
    WrongDirection {
        /// Its tag.
        frame: &'static str,
    },
}

impl From<JsonError> for DecodeError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl DecodeError {
    /// The close that answers it.
    pub fn close(&self) -> super::Close {
        let code = match self {
            Self::TooLarge { .. } | Self::TooMany { .. } => super::CloseCode::TooLarge,
            _ => super::CloseCode::ProtocolError,
        };
        super::Close::new(code, self.to_string())
    }
}
