//! What a client asks about rooms, decided and done.

use std::sync::Arc;

use serde::Serialize;

use crate::frame::{Body, Json, Message, MessageKind};
use crate::room::Saying;
use crate::room::payload::{History, Join, Notice, Operation, Published, Refusal};

use super::authorize::{Action, Visitor};
use super::{Inner, JoinError, PublishError, Room};

/// How many bytes of messages a page of history holds, about: it must fit into one message.
const PAGE: usize = 128 << 10;

/// An operation that a client asks for, until it is answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) message: Message,
    pub(super) operation: Operation,
}

/// Something that is owed to a client.
#[derive(Debug)]
pub(super) enum Owed {
    /// The answer to a request.
    Answer(Message, Result<Body, Refused>),
    /// A notice.
    Notice(Body),
}

/// Why an operation is not done: a code for programs, a message for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

impl Refused {
    pub(super) const FORBIDDEN: Self = Self { code: "forbidden", message: "this is not allowed" };
    pub(super) const TOO_OFTEN: Self =
        Self { code: "too_often", message: "too many operations in a short time" };
    const ASKED: Self = Self { code: "asked", message: "" };
    pub(super) const MALFORMED: Self = Self { code: "malformed", message: "this is no operation" };
    pub(super) const UNKNOWN: Self = Self { code: "unknown", message: "this operation is not known here" };
    const NO_MEMBER: Self = Self { code: "no_member", message: "the session is not in this room" };
    const NO_REQUEST: Self = Self { code: "no_request", message: "this must be asked as a request" };
    const NO_FORM: Self = Self { code: "internal", message: "the answer has no JSON form" };
}

impl Refused {
    fn about(self, room: &str) -> Refusal {
        Refusal { room: room.to_owned(), code: self.code.to_owned(), message: self.message.to_owned() }
    }
}

impl From<JoinError> for Refused {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Name => Self::MALFORMED,
            JoinError::TooManyRooms => Self { code: "too_many_rooms", message: "there are too many rooms" },
            JoinError::TooManyJoined => {
                Self { code: "too_many_joined", message: "the session is in too many rooms" }
            }
            JoinError::NoRandomness => Self { code: "internal", message: "no random numbers" },
        }
    }
}

impl From<PublishError> for Refused {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Name => Self::MALFORMED,
            PublishError::TooManyRooms => JoinError::TooManyRooms.into(),
            PublishError::NoRandomness => JoinError::NoRandomness.into(),
            PublishError::Body => Self { code: "too_deep", message: "the body nests too deep" },
            PublishError::Exhausted => {
                Self { code: "exhausted", message: "the room has used its last offset" }
            }
        }
    }
}

impl Asked {
    /// What is owed in answer. A plain message is answered only where it is refused.
    pub(super) fn owe(self, answer: Result<Body, Refused>) -> Option<Owed> {
        let Self { message, operation } = self;
        owe(message, operation.room(), answer)
    }
}

/// What is owed in answer to a message about a room.
pub(super) fn owe(message: Message, room: &str, answer: Result<Body, Refused>) -> Option<Owed> {
    if message.kind == MessageKind::Request {
        // Its body is not needed to answer it, and may be large.
        let message = Message { body: Body::from(Json::null()), ..message };
        return Some(Owed::Answer(message, answer));
    }
    Notice::Failed(answer.err()?.about(room)).write().ok().map(Owed::Notice)
}

/// Whether a visitor may do what it asks for.
pub(super) async fn is_allowed(hub: &Inner, visitor: &Visitor, operation: &Operation) -> bool {
    let Some(seam) = &hub.authorize else { return true };
    let actions: &[Action] = match operation {
        Operation::Join(Join { since, last, presence, .. }) => {
            match (since.is_some() || last.is_some(), presence) {
                (false, false) => &[Action::Join],
                (false, true) => &[Action::Join, Action::Presence],
                (true, false) => &[Action::Join, Action::History],
                (true, true) => &[Action::Join, Action::History, Action::Presence],
            }
        }
        // Leaving is always allowed; what a member tells of itself is part of being one.
        Operation::Leave { .. } | Operation::Meta { .. } => &[],
        Operation::Publish { .. } => &[Action::Publish],
        Operation::Presence { .. } => &[Action::Presence],
        Operation::History(_) => &[Action::History],
    };
    for action in actions {
        if !seam.0.allow(visitor, operation.room(), *action).await {
            return false;
        }
    }
    true
}

fn json<T: Serialize>(value: &T) -> Result<Body, Refused> {
    Body::json(value).map_err(|_| Refused::NO_FORM)
}

/// An answer that says only that it was done.
fn done() -> Result<Body, Refused> {
    json(&serde_json::json!({}))
}

impl super::Live {
    /// Takes the session out of a room, and owes it the end of the stream: what the room told before is sent already, so
    /// that the end comes behind it. False: it was no member.
    pub(super) fn depart(&mut self, room: &Room, why: Refused) -> bool {
        self.joined.remove(room.name());
        let was = room.leave(self.visitor.session);
        if was {
            let left = Notice::Left(why.about(room.name())).write().ok();
            self.owed.extend(left.map(Owed::Notice));
        }
        was
    }

    /// Does what is allowed. No waiting in here: what was done is also answered.
    pub(super) fn perform(&mut self, asked: &Asked) -> Result<Body, Refused> {
        let id = self.visitor.session;
        let room = Room::new(Arc::clone(&self.hub), asked.operation.room().into());
        let is_request = asked.message.kind == MessageKind::Request;
        match &asked.operation {
            Operation::Publish { key, body, .. } => {
                let saying = Saying { key: key.clone(), by: Some(self.who.clone()), except: None };
                let (at, _) = room.say(body, &saying)?;
                json(&Published { at })
            }
            _ if !is_request => Err(Refused::NO_REQUEST),
            Operation::Join(join) => json(&self.enter(&room, join)?),
            Operation::Leave { .. } => {
                if self.depart(&room, Refused::ASKED) {
                    done()
                } else {
                    Err(Refused::NO_MEMBER)
                }
            }
            Operation::Meta { meta, .. } => {
                if room.update(id, meta.as_ref()) {
                    done()
                } else {
                    Err(Refused::NO_MEMBER)
                }
            }
            Operation::Presence { .. } => {
                if room.tell_presence(id) {
                    done()
                } else if room.has(id) {
                    Err(Refused::FORBIDDEN)
                } else {
                    Err(Refused::NO_MEMBER)
                }
            }
            Operation::History(ask) => page(&room, ask),
        }
    }
}

fn page(room: &Room, ask: &History) -> Result<Body, Refused> {
    match room.page(ask, PAGE) {
        Some(page) => json(&page),
        None => Err(Refused { code: "no_room", message: "there is no such room" }),
    }
}
