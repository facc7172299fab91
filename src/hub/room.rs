//! One room, as handlers hold it.

use std::sync::Arc;

use crate::frame::{Body, Json, SessionId};
use crate::room::payload::{self, Begin, History, Join, Page, Position, Who, is_name};
use crate::room::{Effects, SayError, Saying};
use crate::socket::Socket;

use super::Inner;
use super::line::SocketLine;
use super::table::{NoRoom, now};

/// A named group of sockets. Clones name the same one.
#[derive(Clone, Debug)]
pub struct Room {
    hub: Arc<Inner>,
    name: Arc<str>,
}

/// Why a room could not be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The name is not 1 to 256 bytes.
    #[error("the name of a room is 1 to 256 bytes")]
    Name,
    /// There are as many rooms as there may be.
    #[error("there are too many rooms")]
    TooManyRooms,
    /// The session is in as many rooms as it may.
    #[error("the session is in too many rooms")]
    TooManyJoined,
    /// This machine gives no random numbers.
    #[error("no random numbers")]
    NoRandomness,
}

/// Why a message was published to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The name of the room, or the key, is not 1 to 256 bytes.
    #[error("the name of a room and a key are 1 to 256 bytes")]
    Name,
    /// There are as many rooms as there may be, and this one, which would keep the message, is not among them.
    #[error("there are too many rooms")]
    TooManyRooms,
    /// This machine gives no random numbers.
    #[error("no random numbers")]
    NoRandomness,
    /// The body nests too deep to be wrapped.
    #[error("the body nests too deep")]
    Body,
    /// The room has used its last offset.
    #[error("the room has used its last offset")]
    Exhausted,
}

impl From<NoRoom> for JoinError {
    fn from(none: NoRoom) -> Self {
        match none {
            NoRoom::TooMany => Self::TooManyRooms,
            NoRoom::NoEpoch => Self::NoRandomness,
        }
    }
}

impl From<NoRoom> for PublishError {
    fn from(none: NoRoom) -> Self {
        match none {
            NoRoom::TooMany => Self::TooManyRooms,
            NoRoom::NoEpoch => Self::NoRandomness,
        }
    }
}

impl From<SayError> for PublishError {
    fn from(error: SayError) -> Self {
        match error {
            SayError::Body(_) => Self::Body,
            SayError::Exhausted => Self::Exhausted,
        }
    }
}

impl Room {
    pub(super) fn new(hub: Arc<Inner>, name: Arc<str>) -> Self {
        Self { hub, name }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a socket a member outside the layer, until the [`Member`] is dropped: it gets what is said as it is, and is
    /// shown to nobody. A socket that is a member already gets each message once all the same, and stays until the last
    /// of its `Member`s is dropped.
    ///
    /// Clients of a [`Live`](super::Live) join by themselves.
    ///
    /// # Errors
    /// When the room's name is not one, or there are too many rooms.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the socket has not joined.
    #[expect(clippy::unused_async, reason = "rooms of several nodes will have to wait here")]
    pub async fn join(&self, socket: &Socket) -> Result<Member, JoinError> {
        if !is_name(&self.name) {
            return Err(JoinError::Name);
        }
        let (id, line) = (socket.id(), SocketLine::new(socket.sender()));
        self.hub.table.enter(&self.hub, &self.name, |room| {
            room.join_plain(now(), id, line.clone());
            ((), Effects::default())
        })?;
        Ok(Member { room: self.clone(), id })
    }

    /// Sends a message to all members. All get it in the same order as other messages of the room; it is encoded
    /// once. Returns to how many it goes.
    ///
    /// It never waits for a slow member. One outside the layer whose send buffer is full ([`Builder::send_buffer`]) is
    /// ended, with `slow_consumer`; for others it waits in their backlog, and [`RoomConfig::slow`] says what becomes of
    /// those whose backlog is full. What is larger than a member's client takes ([`Limits`](crate::frame::Limits)) it is
    /// told to have missed; outside the layer, where nothing can tell that, its session is ended with `too_large`. No member
    /// ever misses a message unknowingly.
    ///
    /// [`Builder::send_buffer`]: crate::server::Builder::send_buffer
    /// [`RoomConfig::slow`]: super::RoomConfig::slow
    ///
    /// # Errors
    /// When the room's name is not one, or the body cannot be wrapped.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, nothing was sent.
    #[expect(clippy::unused_async, reason = "rooms of several nodes will have to wait here")]
    pub async fn publish(&self, body: impl Into<Body>) -> Result<usize, PublishError> {
        self.say(&body.into(), &Saying::default()).map(|(_, told)| told)
    }

    /// The same, to all members but one. It is not told later either, should it join again.
    ///
    /// # Errors
    /// See [`Room::publish`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, nothing was sent.
    #[expect(clippy::unused_async, reason = "rooms of several nodes will have to wait here")]
    pub async fn publish_except(
        &self,
        body: impl Into<Body>,
        except: SessionId,
    ) -> Result<usize, PublishError> {
        self.say(&body.into(), &Saying { except: Some(except), ..Saying::default() }).map(|(_, told)| told)
    }

    /// The same, as the latest value of something: in a room that conflates ([`Slow::Conflate`]), it takes the place of
    /// an older value that waits for a slow member.
    ///
    /// [`Slow::Conflate`]: super::Slow::Conflate
    ///
    /// # Errors
    /// See [`Room::publish`]; also when the key is not 1 to 256 bytes.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, nothing was sent.
    #[expect(clippy::unused_async, reason = "rooms of several nodes will have to wait here")]
    pub async fn publish_keyed(
        &self,
        key: impl Into<String>,
        body: impl Into<Body>,
    ) -> Result<usize, PublishError> {
        let key = key.into();
        if !is_name(&key) {
            return Err(PublishError::Name);
        }
        self.say(&body.into(), &Saying { key: Some(key), ..Saying::default() }).map(|(_, told)| told)
    }

    /// How many sessions are told what is said.
    pub fn len(&self) -> usize {
        self.visit(|room| (room.len(), Effects::default())).unwrap_or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who is there: each principal once, and each session of nobody the authenticator names. Members outside the layer
    /// are not shown.
    pub fn present(&self) -> Vec<payload::Member> {
        self.visit(|room| (room.present(), Effects::default())).unwrap_or_default()
    }

    /// The position behind the latest message, if there is such a room.
    pub fn position(&self) -> Option<Position> {
        self.visit(|room| (room.position(), Effects::default()))
    }

    /// Takes a session out of the room and tells its client why: a code for programs, a message for people. False: it is
    /// no member. It may join again if the authoriser lets it. One that lags cannot be told, and is ended.
    pub fn remove(&self, id: SessionId, code: &str, message: &str) -> bool {
        self.visit(|room| room.remove(now(), id, code, message)).unwrap_or_default()
    }
}

/// What the layer asks for.
impl Room {
    fn visit<R>(
        &self,
        act: impl FnMut(&mut crate::room::RoomState<SocketLine>) -> (R, Effects<SocketLine>),
    ) -> Option<R> {
        self.hub.table.visit(&self.hub, &self.name, act)
    }

    /// Says something. Where nobody is and nothing is kept, there is no position and nobody told.
    pub(super) fn say(
        &self,
        body: &Body,
        saying: &Saying,
    ) -> Result<(Option<Position>, usize), PublishError> {
        if !is_name(&self.name) {
            return Err(PublishError::Name);
        }
        let mut say = |room: &mut crate::room::RoomState<SocketLine>| match room.say(now(), body, saying) {
            Ok((at, told, effects)) => {
                self.hub.counters.said.one();
                (Ok((Some(at), told)), effects)
            }
            Err(error) => (Err(PublishError::from(error)), Effects::default()),
        };
        if let Some(said) = self.visit(&mut say) {
            return said;
        }
        if !self.hub.table.keeps(&self.name) {
            return Ok((None, 0));
        }
        self.hub.table.enter(&self.hub, &self.name, say)?
    }

    pub(super) fn enter(
        &self,
        id: SessionId,
        who: &Who,
        line: &SocketLine,
        join: &Join,
    ) -> Result<Begin, JoinError> {
        if !is_name(&self.name) {
            return Err(JoinError::Name);
        }
        let enter = |room: &mut crate::room::RoomState<SocketLine>| {
            room.join(now(), id, who.clone(), line.clone(), join)
        };
        Ok(self.hub.table.enter(&self.hub, &self.name, enter)?)
    }

    pub(super) fn leave(&self, id: SessionId) -> bool {
        self.visit(|room| room.leave(now(), id)).unwrap_or_default()
    }

    pub(super) fn has(&self, id: SessionId) -> bool {
        self.visit(|room| (room.is_member(id), Effects::default())).unwrap_or_default()
    }

    pub(super) fn update(&self, id: SessionId, meta: Option<&Json>) -> bool {
        self.visit(|room| room.update(id, meta)).unwrap_or_default()
    }

    pub(super) fn tell_presence(&self, id: SessionId) -> bool {
        self.visit(|room| room.tell_presence(id)).unwrap_or_default()
    }

    /// A page of what was said; `None` where there is no such room.
    pub(super) fn page(&self, ask: &History, max_bytes: usize) -> Option<Page> {
        self.visit(|room| (room.page(now(), ask, max_bytes), Effects::default()))
    }
}

/// A socket's place in a room. Dropped, it leaves.
#[derive(Debug)]
#[must_use = "a member leaves when it is dropped"]
pub struct Member {
    room: Room,
    id: SessionId,
}

impl Member {
    /// The session that is the member.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The room.
    pub fn room(&self) -> &Room {
        &self.room
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.room.visit(|room| {
            room.leave_plain(now(), self.id);
            ((), Effects::default())
        });
    }
}
