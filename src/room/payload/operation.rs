//! What a client asks of the layer.

use serde::{Deserialize, Serialize};

use crate::frame::{Body, Json, Seq};

use super::envelope::{self, Envelope};
use super::notice::{Notice, Said};
use super::{PayloadError, Position, Read, check_meta, check_name, read, stated};

/// What a client asks for. Sent as a request it is answered; a publication may also be a plain message, and is then
/// answered only by [`Notice::Failed`](super::Notice::Failed), if at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// To become a member. Answered by [`Begin`](super::Begin).
    Join(Join),
    /// To be a member no more. Answered by an empty object.
    Leave {
        /// The room.
        room: String,
    },
    /// To say something to all members. Answered by [`Published`].
    Publish {
        /// The room.
        room: String,
        /// Of what this is the latest value: in a room that conflates, it takes the place of an older one that waits.
        key: Option<String>,
        /// What is said.
        body: Body,
    },
    /// To tell something else of oneself. Answered by an empty object.
    Meta {
        /// The room.
        room: String,
        /// What to tell; nothing if left out.
        meta: Option<Json>,
    },
    /// Who is there. Answered by an empty object; the list comes as [`Present`](super::Present) notices before.
    Presence {
        /// The room.
        room: String,
    },
    /// What was said. Answered by a [`Page`].
    History(History),
}

/// To become a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The room.
    pub room: String,
    /// A name for this join, of 1 to 256 bytes, which the [`Begin`](super::Begin) of its stream repeats.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// To go on from here, if the room's history reaches so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Position>,
    /// Else to begin so many messages back, as far as the history reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// To be told who is there, and who comes and goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub presence: bool,
    /// What to tell of oneself.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "stated")]
    pub meta: Option<Json>,
}

/// Asks for a page of what was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The room.
    pub room: String,
    /// From here on; from the oldest that is kept if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Position>,
    /// So many at most.
    pub limit: u32,
}

/// A page of what was said, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Behind what the page begins.
    pub from: Position,
    /// The latest that was said.
    pub head: Seq,
    /// Whether nothing is missing between what was asked for and `from`.
    pub whole: bool,
    /// Each as its `msg` payload; binary ones as a string of base64 (RFC 4648, section 4).
    pub messages: Vec<Json>,
}

impl Page {
    /// The messages.
    ///
    /// # Errors
    /// When one of them is not what a server of this version tells.
    pub fn said(&self) -> Result<Vec<Said>, PayloadError> {
        self.messages.iter().map(said).collect()
    }
}

fn said(message: &Json) -> Result<Said, PayloadError> {
    let body = match message.to::<String>() {
        Ok(text) => {
            let bytes = data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| PayloadError::Head)?;
            Body::from(bytes)
        }
        Err(_) => Body::from(message.clone()),
    };
    match Notice::read(body) {
        Read::Layer(Notice::Said(said)) => Ok(said),
        Read::Malformed { error, .. } => Err(error),
        _ => Err(PayloadError::Head),
    }
}

/// Where something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its place among what was said; nothing if there is no such room, so that nobody was told.
    #[serde(flatten)]
    pub at: Option<Position>,
}

#[derive(Serialize, Deserialize)]
struct PublishHead {
    room: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RoomHead {
    room: String,
}

#[derive(Serialize, Deserialize)]
struct MetaHead {
    room: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "stated")]
    meta: Option<Json>,
}

impl Operation {
    /// Looks at a body that came from a client.
    pub fn read(body: Body) -> Read<Self> {
        read(body, Self::parse)
    }

    /// The payload.
    ///
    /// # Errors
    /// When its body nests too deep.
    pub fn write(&self) -> Result<Body, PayloadError> {
        match self {
            Self::Join(join) => envelope::write("join", join, None),
            Self::Leave { room } => envelope::write("leave", &RoomHead { room: room.clone() }, None),
            Self::Publish { room, key, body } => {
                let head = PublishHead { room: room.clone(), key: key.clone() };
                envelope::write("publish", &head, Some(body))
            }
            Self::Meta { room, meta } => {
                envelope::write("meta", &MetaHead { room: room.clone(), meta: meta.clone() }, None)
            }
            Self::Presence { room } => envelope::write("presence", &RoomHead { room: room.clone() }, None),
            Self::History(history) => envelope::write("history", history, None),
        }
    }

    /// The room it is about.
    pub fn room(&self) -> &str {
        match self {
            Self::Join(Join { room, .. })
            | Self::Leave { room }
            | Self::Publish { room, .. }
            | Self::Meta { room, .. }
            | Self::Presence { room }
            | Self::History(History { room, .. }) => room,
        }
    }

    /// Its tag.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Join(_) => "join",
            Self::Leave { .. } => "leave",
            Self::Publish { .. } => "publish",
            Self::Meta { .. } => "meta",
            Self::Presence { .. } => "presence",
            Self::History(_) => "history",
        }
    }

    fn parse(envelope: &Envelope) -> Option<Result<Self, PayloadError>> {
        let parsed = match envelope.tag.as_str() {
            "join" => envelope.head().map(Self::Join),
            "leave" => envelope.head().map(|RoomHead { room }| Self::Leave { room }),
            "publish" => envelope.head().and_then(|PublishHead { room, key }| {
                envelope.body().map(|body| Self::Publish { room, key, body })
            }),
            "meta" => envelope.head().map(|MetaHead { room, meta }| Self::Meta { room, meta }),
            "presence" => envelope.head().map(|RoomHead { room }| Self::Presence { room }),
            "history" => envelope.head().map(Self::History),
            _ => return None,
        };
        Some(parsed.and_then(Self::checked))
    }

    fn checked(self) -> Result<Self, PayloadError> {
        check_name(self.room(), "room")?;
        if let Self::Join(Join { reference: Some(reference), .. }) = &self {
            check_name(reference, "ref")?;
        }
        match &self {
            Self::Join(Join { meta, .. }) | Self::Meta { meta, .. } => check_meta(meta.as_ref())?,
            Self::Publish { key: Some(key), .. } => check_name(key, "key")?,
            _ => {}
        }
        Ok(self)
    }
}
