//! Why a transport or a session ended, and what to do next.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use super::{Attachment, Seq};

/// What a close code ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only the transport it came on: the session lives.
    Transport,
    /// The session.
    Session,
}

/// Whether the client comes back after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once, to the same session.
    AtOnce,
    /// After a backoff, to the same session.
    Backoff,
    /// With a new session.
    Afresh,
    /// Once, with a fresh token.
    FreshToken,
    /// Not by itself: somebody must change something first.
    Never,
}

/// The reason of a close as a word of the protocol.
///
/// Each code's row says what it ends ([`CloseCode::scope`]), whether to try again
/// ([`CloseCode::retry`]) and its HTTP status ([`CloseCode::http_status`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// A higher attachment has taken over.
    Superseded,
    /// The session is to go on elsewhere, or on another transport.
    Moved,
    /// The node is going down; another, or this one later, takes the session on.
    Draining,
    /// Too many sessions, transports or requests just now.
    Overloaded,
    /// The token has run out.
    AuthExpired,
    /// All was said.
    Normal,
    /// The server ends for good.
    GoingAway,
    /// No such session, or not with this key or epoch.
    UnknownSession,
    /// The authenticator refused.
    Unauthorized,
    /// The Origin is not allowed, or the principal is not the session's.
    Forbidden,
    /// The peer broke a rule of the protocol.
    ProtocolError,
    /// The peers have no version of the protocol in common.
    UnsupportedVersion,
    /// The peers have no transport or encoding in common.
    NotAcceptable,
    /// A message, batch or body beyond a limit.
    TooLarge,
    /// The peer took messages too slowly.
    SlowConsumer,
    /// The peer did not come back, or did not answer the close, in time.
    TimedOut,
    /// The handler, or the library, failed.
    InternalError,
    /// A code of the application's own, or of a newer protocol: 1 to 64 of `a-z`, `0-9`, `_`, `-`, `.`.
    Other(Word),
}

/// A close code that is not in the protocol's table: 1 to 64 of `a-z`, `0-9`, `_`, `-`, `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Word(Cow<'static, str>);

use Retry::{Afresh, AtOnce, Backoff, FreshToken, Never};
use Scope::{Session, Transport};

/// The one table of the protocol's codes: word, what it ends, whether to try again, HTTP status.
const TABLE: [(CloseCode, &str, Scope, Retry, u16); 17] = [
    (CloseCode::Superseded, "superseded", Transport, AtOnce, 409),
    (CloseCode::Moved, "moved", Transport, AtOnce, 421),
    (CloseCode::Draining, "draining", Transport, Backoff, 503),
    (CloseCode::Overloaded, "overloaded", Transport, Backoff, 429),
    (CloseCode::AuthExpired, "auth_expired", Transport, FreshToken, 401),
    (CloseCode::Normal, "normal", Session, Never, 410),
    (CloseCode::GoingAway, "going_away", Session, Afresh, 503),
    (CloseCode::UnknownSession, "unknown_session", Session, Afresh, 404),
    (CloseCode::Unauthorized, "unauthorized", Session, Never, 401),
    (CloseCode::Forbidden, "forbidden", Session, Never, 403),
    (CloseCode::ProtocolError, "protocol_error", Session, Never, 400),
    (CloseCode::UnsupportedVersion, "unsupported_version", Session, Never, 400),
    (CloseCode::NotAcceptable, "not_acceptable", Session, Never, 406),
    (CloseCode::TooLarge, "too_large", Session, Never, 413),
    (CloseCode::SlowConsumer, "slow_consumer", Session, Afresh, 429),
    (CloseCode::TimedOut, "timed_out", Session, Afresh, 408),
    (CloseCode::InternalError, "internal_error", Session, Afresh, 500),
];

impl CloseCode {
    /// All codes of the protocol's own table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().map(|row| row.0)
    }

    /// The code for a word, one of the application's own included.
    ///
    /// # Errors
    /// When the word is not 1 to 64 of `a-z`, `0-9`, `_`, `-`, `.`.
    pub fn from_word(word: &str) -> Result<Self, InvalidCloseCode> {
        if let Some(row) = TABLE.iter().find(|row| row.1 == word) {
            return Ok(row.0.clone());
        }
        let fits = (1..=64).contains(&word.len())
            && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'));
        if fits { Ok(Self::Other(Word(Cow::Owned(word.to_owned())))) } else { Err(InvalidCloseCode) }
    }

    fn row(&self) -> Option<&'static (Self, &'static str, Scope, Retry, u16)> {
        TABLE.iter().find(|row| row.0 == *self)
    }

    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(word) => &word.0,
            _ => self.row().map_or("", |row| row.1),
        }
    }

    /// What it ends. An application's code ends the session.
    pub fn scope(&self) -> Scope {
        self.row().map_or(Session, |row| row.2)
    }

    /// Whether the client comes back. After an application's code it does not.
    pub fn retry(&self) -> Retry {
        self.row().map_or(Never, |row| row.3)
    }

    /// The HTTP status of an answer that consists of this close; the WebSocket close code is 4000 more.
    pub fn http_status(&self) -> u16 {
        self.row().map_or(410, |row| row.4)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that cannot be a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a close code is 1 to 64 of a-z, 0-9, '_', '-', '.'")]
pub struct InvalidCloseCode;

/// The end of a transport or of a session, said in band: [`CloseParts`] in one pointer.
///
/// It stands in many places where there seldom is one, and in the `Err` of many results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close(Box<CloseParts>);

impl Deref for Close {
    type Target = CloseParts;

    fn deref(&self) -> &CloseParts {
        &self.0
    }
}

impl DerefMut for Close {
    fn deref_mut(&mut self) -> &mut CloseParts {
        &mut self.0
    }
}

/// What a [`Close`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseParts {
    /// Why.
    pub code: CloseCode,
    /// For people: at most [`Close::MAX_REASON`] bytes are sent.
    pub reason: Cow<'static, str>,
    /// What the code needs besides.
    pub detail: CloseDetail,
}

/// The optional last element of a `close` frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseDetail {
    /// The last message the closer received in order: later ones were not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Seq>,
    /// With `superseded`: the attachment that won.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// How long to wait before coming back, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::handshake::bounded_option")]
    pub retry_after_ms: Option<u64>,
}

impl Close {
    /// The longest reason that is encoded, in bytes; a longer one is cut.
    pub const MAX_REASON: usize = 256;

    /// A close with a code and a reason for people.
    pub fn new(code: CloseCode, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        let kept = Self::cut(&reason).len();
        if kept < reason.len() {
            reason.to_mut().truncate(kept);
        }
        Self(Box::new(CloseParts { code, reason, detail: CloseDetail::default() }))
    }

    /// As much of a reason as is sent.
    pub(crate) fn cut(reason: &str) -> &str {
        let mut ends = (0..=Self::MAX_REASON.min(reason.len())).rev();
        ends.find_map(|end| reason.get(..end)).unwrap_or_default()
    }

    /// `superseded`, naming the attachment that won.
    pub fn superseded(winner: Attachment) -> Self {
        Self::new(CloseCode::Superseded, "a newer attachment carries the session")
            .with_detail(CloseDetail { attachment: Some(winner), ..CloseDetail::default() })
    }

    /// The same with another detail.
    #[must_use]
    pub fn with_detail(mut self, detail: CloseDetail) -> Self {
        self.detail = detail;
        self
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_finds_its_own_row() {
        for code in CloseCode::all() {
            assert_eq!(CloseCode::from_word(code.as_str()), Ok(code.clone()));
            assert_eq!(matches!(code.scope(), Scope::Transport), TABLE[..5].iter().any(|row| row.0 == code));
        }
    }

    #[test]
    fn codes_of_the_application_end_the_session_for_good() {
        let code = CloseCode::from_word("kicked").unwrap();
        assert_eq!((code.scope(), code.retry(), code.as_str()), (Scope::Session, Retry::Never, "kicked"));
        for word in ["", "Kicked", "a b", &"x".repeat(65)] {
            assert_eq!(CloseCode::from_word(word), Err(InvalidCloseCode));
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let close = Close::new(CloseCode::Normal, "é".repeat(200));
        assert_eq!(close.reason.len(), 256);
        let close = Close::new(CloseCode::Normal, format!("x{}", "é".repeat(200)));
        assert_eq!(close.reason.len(), 255);
    }
}
