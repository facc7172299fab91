//! The payloads that begin, move and address a session: `hello`, `welcome`, `attach`, `poll`, `push`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Attachment, Epoch, Json, MAX_NUMBER, Seq, SessionId, SessionKey};

/// The version of the protocol that this library speaks.
pub const VERSION: u32 = 1;

/// The kinds of transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// One WebSocket (RFC 6455): both directions in one stream.
    WebSocket,
    /// A streamed response, as server-sent events or as binary frames, with `push` requests beside it.
    Sse,
    /// A series of held requests with `push` requests beside them.
    LongPolling,
}

impl TransportKind {
    /// All kinds, best first.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Sse, Self::LongPolling];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::LongPolling => "long-polling",
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TransportKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TransportKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KindVisitor)
    }
}

struct KindVisitor;

impl Visitor<'_> for KindVisitor {
    type Value = TransportKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a transport")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<TransportKind, E> {
        word.parse().map_err(E::custom)
    }
}

/// A word that names no transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a transport: expected websocket, sse or long-polling")]
pub struct UnknownTransport;

impl FromStr for TransportKind {
    type Err = UnknownTransport;

    fn from_str(word: &str) -> Result<Self, UnknownTransport> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(UnknownTransport)
    }
}

/// How much one side will hold for its application: what was sent and not yet taken stays within it.
///
/// A message larger than `bytes` may be sent when nothing else is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How many messages.
    pub messages: u32,
    /// How many bytes of their bodies.
    #[serde(with = "bounded")]
    pub bytes: u64,
}

/// The first frame of a client on any transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version spoken: [`VERSION`].
    pub version: u32,
    /// The session's public id.
    pub session: SessionId,
    /// Its secret key.
    pub key: SessionKey,
    /// Which life of the session is meant; none before the first `welcome`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The number of this attachment.
    pub attachment: Attachment,
    /// The kind of transport it came on.
    pub transport: TransportKind,
    /// The highest message received in order.
    pub received: Seq,
    /// The highest message the application has taken; left out when equal to `received`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Seq>,
    /// How much the client will hold for its application.
    #[serde(deserialize_with = "object")]
    pub window: Window,
    /// Only introduces the transport; `attach` comes later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub candidate: bool,
    /// What the authenticator is to see.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub auth: Option<Json>,
    /// What the client says of itself, for people: a name and a version, say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub client: Option<Json>,
}

impl Hello {
    /// The first word of a new session: of this version, on its first attachment, by a client that received nothing.
    pub const fn new(session: SessionId, key: SessionKey, transport: TransportKind, window: Window) -> Self {
        Self {
            version: VERSION,
            session,
            key,
            epoch: None,
            attachment: Attachment::FIRST,
            transport,
            received: Seq::ZERO,
            taken: None,
            window,
            candidate: false,
            auth: None,
            client: None,
        }
    }
}

/// The first frame of a server on any transport, unless it is `close`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Welcome {
    /// The session's public id.
    pub session: SessionId,
    /// The life of the session.
    pub epoch: Epoch,
    /// The attachment that this answers.
    pub attachment: Attachment,
    /// The highest message received in order.
    pub received: Seq,
    /// The highest message the application has taken; left out when equal to `received`.
    #[serde(default)]
    pub taken: Option<Seq>,
    /// Whether the session had been attached before.
    pub resumed: bool,
    /// How much the server will hold for its application.
    #[serde(deserialize_with = "object")]
    pub window: Window,
    /// How often the server pings, in milliseconds.
    #[serde(with = "bounded")]
    pub heartbeat_ms: u64,
    /// How long the server keeps a session that nothing carries, in milliseconds.
    #[serde(with = "bounded")]
    pub resume_window_ms: u64,
    /// The largest body of a message, in bytes.
    #[serde(with = "bounded")]
    pub max_message_bytes: u64,
    /// The largest batch, in bytes.
    #[serde(with = "bounded")]
    pub max_batch_bytes: u64,
    /// The transports that the server offers, best first.
    pub transports: Vec<TransportKind>,
    /// When the token runs out, in milliseconds from now.
    #[serde(default, with = "bounded_option")]
    pub auth_expires_ms: Option<u64>,
}

/// Makes a candidate the carrier of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The highest message received in order.
    pub received: Seq,
    /// The highest message the application has taken; left out when equal to `received`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Seq>,
}

/// A cumulative receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The highest message received in order: the sender may forget all up to it.
    pub received: Seq,
    /// The highest message the application has taken: the window moves with it.
    pub taken: Seq,
}

/// The server asks the client to come back on another transport, or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The transport to come back on; none leaves the choice to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<TransportKind>,
    /// How long the client may take, in milliseconds; 0: it is to begin at once.
    #[serde(with = "bounded")]
    pub within_ms: u64,
}

/// The only frame of a request that is held until there are frames for the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// The session's public id.
    pub session: SessionId,
    /// Its secret key.
    pub key: SessionKey,
    /// Its life.
    pub epoch: Epoch,
    /// The attachment that polls.
    pub attachment: Attachment,
    /// The highest message received in order; the answer begins right after it.
    pub received: Seq,
    /// The highest message the application has taken; left out when equal to `received`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Seq>,
    /// How long to hold the request when there is nothing to say, in milliseconds.
    #[serde(with = "bounded")]
    pub hold_ms: u64,
}

/// The first frame of a request that brings frames of the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The session's public id.
    pub session: SessionId,
    /// Its secret key.
    pub key: SessionKey,
    /// Its life.
    pub epoch: Epoch,
    /// The attachment it belongs to.
    pub attachment: Attachment,
}

/// A number of the protocol that is neither a message's nor an attachment's. A larger one is said as
/// [`MAX_NUMBER`] and refused when read.
mod bounded {
    use super::{Deserialize as _, Deserializer, MAX_NUMBER, Seq, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64((*number).min(MAX_NUMBER))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Seq::deserialize(deserializer).map(Seq::value)
    }
}

/// The same, where it may be left out.
pub(super) mod bounded_option {
    use super::{Deserialize as _, Deserializer, MAX_NUMBER, Seq, Serialize as _, Serializer};

    pub(in crate::frame) fn serialize<S: Serializer>(
        number: &Option<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        number.map(|number| number.min(MAX_NUMBER)).serialize(serializer)
    }

    pub(in crate::frame) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Seq>::deserialize(deserializer)?.map(Seq::value))
    }
}

/// Takes an object only: a derived `Deserialize` would take an array of the fields as well.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Takes `null` as the JSON that it is: only a field left out is `None`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}
