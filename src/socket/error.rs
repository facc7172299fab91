//! Why a call on a socket fails.

use crate::frame::Close;
use crate::session::Ended;

/// Why a message was not accepted. It was not sent, and will not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is closing or has ended.
    #[error("the session is closed")]
    Closed,
    /// The send buffer is full. Only `try_send` says so; `send` waits.
    #[error("the send buffer is full")]
    Full,
    /// The peer took messages too slowly for too long: the session has been ended.
    #[error("the peer takes messages too slowly")]
    SlowConsumer,
    /// The body is larger than the peer takes, or has no JSON form.
    #[error("the message is larger than {limit} bytes")]
    TooLarge {
        /// What the peer takes.
        limit: u64,
    },
}

/// Why a message that was to be acknowledged was not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// It was not accepted.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The session ended first. `unknown` tells whether the message was put on a transport, so that the peer
    /// may have it; otherwise it was certainly not delivered.
    #[error("the session ended before the message was acknowledged")]
    Lost {
        /// Whether the peer may have received it.
        unknown: bool,
    },
}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It was not accepted.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Too many requests wait for their replies.
    #[error("too many requests wait for a reply")]
    TooMany,
    /// The peer says that it failed.
    #[error("{code}: {message}")]
    Failed {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// The session ended first.
    #[error("the session ended before the reply")]
    Lost,
}

/// Why there is no next message.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The session has ended, and every message that came before was received. The first time it lists what this
    /// end sent and the peer did not acknowledge.
    #[error("the session ended: {}", .0.close)]
    Ended(Ended),
    /// Client: the server no longer knows the session, and a new one has begun. What this end sent and was not
    /// acknowledged is listed; what was never put on a transport goes to the new session, except answers:
    /// they mean nothing there, and are listed. `recv` may be called again.
    #[error("the session was lost: {}", .0.close)]
    Lost(Ended),
}

impl RecvError {
    /// The close, whichever it is.
    pub fn close(&self) -> &Close {
        match self {
            Self::Ended(ended) | Self::Lost(ended) => &ended.close,
        }
    }
}
