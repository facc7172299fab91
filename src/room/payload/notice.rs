//! What a server tells of rooms.

use serde::{Deserialize, Serialize};

use crate::frame::{Body, Epoch, Seq};

use super::envelope::{self, Envelope};
use super::{Member, PayloadError, Position, Read, Who, check_name, read};

/// What a server tells of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The stream of a room begins here, anew if there was one.
    Begin(Begin),
    /// Something was said.
    Said(Said),
    /// Something was said that this member is not told.
    Missed(Missed),
    /// All who are there, or a part of them.
    Present(Present),
    /// Somebody came, went, or tells something else of itself.
    Change(Change),
    /// The stream of a room ends here: this session is no longer a member.
    Left(Refusal),
    /// What was asked in a plain message was not done.
    Failed(Refusal),
    /// What was kept for this principal while it had no session.
    Kept {
        /// Its place among what is kept for this principal: one that is not behind an earlier one of the same epoch is
        /// a repeat.
        at: Position,
        /// What it says.
        body: Body,
    },
}

/// Where the stream of a room begins. Also the answer to [`Operation::Join`](super::Operation::Join): a client whose
/// library hands out answers beside the stream of messages finds the same again in its place in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The room.
    pub room: String,
    /// Which life of it.
    pub epoch: Epoch,
    /// Behind which message: what is said from here on follows, without a gap.
    pub at: Seq,
    /// Whether it goes on from where the client asked, with nothing missing.
    pub recovered: bool,
    /// The name of the join that it answers ([`Join::reference`](super::Join::reference)), if that has one.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Begin {
    /// The position at which the stream begins.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.at }
    }
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The room.
    pub room: String,
    /// Its offset.
    pub at: Seq,
    /// Of what it is the latest value.
    pub key: Option<String>,
    /// The member that said it, as the server knows; left out if the server itself did.
    pub by: Option<Who>,
    /// What was said.
    pub body: Body,
}

/// Messages that were left out for a member that takes them too slowly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The room.
    pub room: String,
    /// How many.
    pub count: u64,
    /// The offset of the last of them.
    pub to: Seq,
}

/// All who are there, or a part of them. A list replaces all that was known before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// The room.
    pub room: String,
    /// These.
    pub members: Vec<Member>,
    /// Whether this part begins a list.
    pub first: bool,
    /// Whether this part ends it.
    pub last: bool,
}

/// A difference to who was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody came.
    Joined {
        /// The room.
        room: String,
        /// Who.
        member: Member,
    },
    /// Somebody tells something else of itself.
    Updated {
        /// The room.
        room: String,
        /// Who, and what.
        member: Member,
    },
    /// Somebody went, with its last session.
    Gone {
        /// The room.
        room: String,
        /// Who.
        who: Who,
    },
}

/// That something is not, or no longer, to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The room.
    pub room: String,
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

#[derive(Serialize, Deserialize)]
struct SaidHead {
    room: String,
    at: Seq,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Who>,
}

#[derive(Serialize, Deserialize)]
struct MemberHead {
    room: String,
    member: Member,
}

#[derive(Serialize, Deserialize)]
struct GoneHead {
    room: String,
    who: Who,
}

impl Notice {
    /// Looks at a body that came from a server.
    pub fn read(body: Body) -> Read<Self> {
        read(body, Self::parse)
    }

    /// The payload.
    ///
    /// # Errors
    /// When its body nests too deep.
    pub fn write(&self) -> Result<Body, PayloadError> {
        match self {
            Self::Begin(begin) => envelope::write("begin", begin, None),
            Self::Said(said) => {
                let Said { room, at, key, by, body } = said.clone();
                envelope::write("msg", &SaidHead { room, at, key, by }, Some(&body))
            }
            Self::Missed(missed) => envelope::write("missed", missed, None),
            Self::Present(present) => envelope::write("present", present, None),
            Self::Change(change) => change.write(),
            Self::Left(refusal) => envelope::write("left", refusal, None),
            Self::Failed(refusal) => envelope::write("failed", refusal, None),
            Self::Kept { at, body } => envelope::write("kept", at, Some(body)),
        }
    }

    /// The room it is about; empty where it is about none, or the server could not tell.
    pub fn room(&self) -> &str {
        match self {
            Self::Begin(Begin { room, .. })
            | Self::Said(Said { room, .. })
            | Self::Missed(Missed { room, .. })
            | Self::Present(Present { room, .. })
            | Self::Left(Refusal { room, .. })
            | Self::Failed(Refusal { room, .. })
            | Self::Change(
                Change::Joined { room, .. } | Change::Updated { room, .. } | Change::Gone { room, .. },
            ) => room,
            Self::Kept { .. } => "",
        }
    }

    fn parse(envelope: &Envelope) -> Option<Result<Self, PayloadError>> {
        let parsed = match envelope.tag.as_str() {
            "begin" => envelope.head().map(Self::Begin),
            "msg" => envelope.head().and_then(|SaidHead { room, at, key, by }| {
                envelope.body().map(|body| Self::Said(Said { room, at, key, by, body }))
            }),
            "missed" => envelope.head().map(Self::Missed),
            "present" => envelope.head().map(Self::Present),
            "joined" => envelope
                .head()
                .map(|MemberHead { room, member }| Self::Change(Change::Joined { room, member })),
            "updated" => envelope
                .head()
                .map(|MemberHead { room, member }| Self::Change(Change::Updated { room, member })),
            "gone" => envelope.head().map(|GoneHead { room, who }| Self::Change(Change::Gone { room, who })),
            "left" => envelope.head().map(Self::Left),
            "failed" => envelope.head().map(Self::Failed),
            "kept" => envelope.head().and_then(|at| envelope.body().map(|body| Self::Kept { at, body })),
            _ => return None,
        };
        Some(parsed.and_then(|notice| {
            if !matches!(notice, Self::Failed(_) | Self::Kept { .. }) {
                check_name(notice.room(), "room")?;
            }
            Ok(notice)
        }))
    }
}

impl Change {
    /// The same difference, in this room.
    #[must_use]
    pub fn of_room(mut self, name: &str) -> Self {
        match &mut self {
            Self::Joined { room, .. } | Self::Updated { room, .. } | Self::Gone { room, .. } => {
                name.clone_into(room);
            }
        }
        self
    }

    fn write(&self) -> Result<Body, PayloadError> {
        match self.clone() {
            Self::Joined { room, member } => envelope::write("joined", &MemberHead { room, member }, None),
            Self::Updated { room, member } => envelope::write("updated", &MemberHead { room, member }, None),
            Self::Gone { room, who } => envelope::write("gone", &GoneHead { room, who }, None),
        }
    }
}
