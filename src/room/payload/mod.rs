//! What payloads of the room protocol mean: the second layer on the wire.
//!
//! It owns the parser and the writer of that layer. Its payloads are bodies of ordinary messages: the session below knows
//! nothing of it, and it knows nothing of sessions, rooms that exist, or rights. It is as pure as `frame`: no clock, no
//! I/O, no logging. It implements `docs/PROTOCOL.md`, "Rooms".
//!
//! A JSON body that begins with exactly `{"$":` belongs to the layer; so does a binary body that begins with `$`, the
//! length of a JSON head in two bytes, that head, and bytes, so that what is published in binary costs no base64. A
//! body of the application that happens to begin so is wrapped by [`escape`] and unwrapped by the readers: nothing is
//! ever ambiguous.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod envelope;
mod notice;
mod operation;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize};

use crate::frame::{Body, Epoch, Json, JsonError, Seq, SessionId};

use envelope::Envelope;

pub use envelope::escape;
pub use notice::{Begin, Change, Missed, Notice, Present, Refusal, Said};
pub use operation::{History, Join, Operation, Page, Published};

/// The longest name of a room, and the longest key of a publication, in bytes.
pub const MAX_NAME: usize = 256;

/// The most that a member tells of itself, in bytes of JSON.
pub const MAX_META: usize = 1024;

/// Whether this can be the name of a room, or the key of a publication: 1 to 256 bytes.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
}

/// Why a payload of the layer cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// A binary payload whose head is cut short, or longer than two bytes can say.
    #[error("the head of a binary payload has no such length")]
    Head,
    /// The JSON of the payload, or of its head, is not what its tag asks for.
    #[error("not what its tag asks for")]
    Malformed(#[source] serde_json::Error),
    /// The body nests so deep that what wraps it would be refused.
    #[error("the body cannot be wrapped")]
    Body(#[source] JsonError),
    /// A name or a key is not 1 to 256 bytes, or what a member tells of itself is too large.
    #[error("{0} is out of bounds")]
    Bounds(&'static str),
}

/// A body that has been looked at.
#[derive(Debug)]
pub enum Read<T> {
    /// It is the application's, unwrapped where it was wrapped.
    App(Body),
    /// It is the layer's.
    Layer(T),
    /// It is the layer's, with a tag that this end does not know: a later version's, passed over.
    Unknown {
        /// The tag.
        tag: String,
    },
    /// It is the layer's, and not well made.
    Malformed {
        /// The tag, as far as it could be read.
        tag: String,
        /// What is wrong.
        error: PayloadError,
    },
}

/// A place in what was said in a room: behind the message of that offset, in the life of the room that the epoch
/// names. Offsets of another epoch mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which life of the room.
    pub epoch: Epoch,
    /// The message behind which it is; 0 is before the first.
    pub offset: Seq,
}

/// Who a member is: a principal with all its sessions, or a session of no principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// By name.
    Principal(String),
    /// A session of nobody the authenticator names.
    Session(SessionId),
}

/// A member as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub who: Who,
    /// What it tells of itself.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "stated")]
    pub meta: Option<Json>,
}

/// Reads a member of an object that may be left out but, when it stands there, may be `null` like any other JSON.
fn stated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

fn check_name(name: &str, what: &'static str) -> Result<(), PayloadError> {
    if is_name(name) { Ok(()) } else { Err(PayloadError::Bounds(what)) }
}

fn check_meta(meta: Option<&Json>) -> Result<(), PayloadError> {
    let fits = meta.is_none_or(|meta| meta.as_bytes().len() <= MAX_META);
    if fits { Ok(()) } else { Err(PayloadError::Bounds("meta")) }
}

fn read<T>(body: Body, parse: impl FnOnce(&Envelope) -> Option<Result<T, PayloadError>>) -> Read<T> {
    let envelope = match Envelope::open(body) {
        Ok(envelope) => envelope,
        Err(Ok(body)) => return Read::App(body),
        Err(Err(error)) => return Read::Malformed { tag: String::new(), error },
    };
    if envelope.tag == envelope::APP {
        return match envelope.app() {
            Ok(body) => Read::App(body),
            Err(error) => Read::Malformed { tag: envelope.tag, error },
        };
    }
    match parse(&envelope) {
        Some(Ok(parsed)) => Read::Layer(parsed),
        Some(Err(error)) => Read::Malformed { tag: envelope.tag, error },
        None => Read::Unknown { tag: envelope.tag },
    }
}
