//! One room: who is in it, and what is said to all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use crate::frame::{Body, Close, CloseCode, SessionId};
use crate::socket::{SendError, Sender, Socket};

use super::{MAX_NAME, Rooms, lock};

/// Who is in a room: each session once, however often it joined.
#[derive(Debug, Default)]
pub(super) struct Members {
    places: HashMap<SessionId, Place>,
    /// The last has left: whoever comes now makes the room anew.
    gone: bool,
}

#[derive(Debug)]
struct Place {
    sender: Sender,
    /// How many [`Member`]s stand for it.
    joined: usize,
}

/// A named group of sockets. Clones name the same one.
#[derive(Clone, Debug)]
pub struct Room {
    rooms: Arc<Rooms>,
    name: Arc<str>,
}

/// Why a room could not be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The name is not 1 to 256 bytes.
    #[error("the name of a room is 1 to 256 bytes")]
    Name,
}

/// Why a message was published to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The name is not 1 to 256 bytes.
    #[error("the name of a room is 1 to 256 bytes")]
    Name,
}

impl Room {
    pub(super) fn new(rooms: Arc<Rooms>, name: Arc<str>) -> Self {
        Self { rooms, name }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a socket a member, until the [`Member`] is dropped. A socket that is a member already gets each message
    /// once all the same, and stays until the last of its `Member`s is dropped.
    ///
    /// # Errors
    /// When the room's name is not one.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the socket has not joined.
    #[expect(clippy::unused_async, reason = "rooms of several nodes will have to wait here")]
    pub async fn join(&self, socket: &Socket) -> Result<Member, JoinError> {
        if !self.has_name() {
            return Err(JoinError::Name);
        }
        let id = socket.id();
        loop {
            let members = self.rooms.open(&self.name);
            let mut room = lock(&members);
            if !room.gone {
                let new = || Place { sender: socket.sender(), joined: 0 };
                room.places.entry(id).or_insert_with(new).joined += 1;
                return Ok(Member { room: self.clone(), members: Arc::clone(&members), id });
            }
            drop(room);
            self.rooms.forget(&self.name, &members);
        }
    }

    /// Sends a message to all members. All get it in the same order as other messages of the room; it is encoded
    /// once. Returns to how many it went.
    ///
    /// It never waits for a slow member: one whose send buffer is full ([`Builder::send_buffer`]) is not skipped
    /// but ended, with `slow_consumer`, so that no member ever misses a message unknowingly.
    ///
    /// [`Builder::send_buffer`]: crate::server::Builder::send_buffer
    ///
    /// # Errors
    /// When the room's name is not one.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, nothing was sent.
    #[expect(clippy::unused_async, reason = "rooms of several nodes will have to wait here")]
    pub async fn publish(&self, body: impl Into<Body>) -> Result<usize, PublishError> {
        self.tell(&body.into(), None)
    }

    /// The same, to all members but one.
    ///
    /// # Errors
    /// When the room's name is not one.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, nothing was sent.
    #[expect(clippy::unused_async, reason = "rooms of several nodes will have to wait here")]
    pub async fn publish_except(
        &self,
        body: impl Into<Body>,
        except: SessionId,
    ) -> Result<usize, PublishError> {
        self.tell(&body.into(), Some(except))
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.rooms.find(&self.name).map_or(0, |members| lock(&members).places.len())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn has_name(&self) -> bool {
        (1..=MAX_NAME).contains(&self.name.len())
    }

    fn tell(&self, body: &Body, except: Option<SessionId>) -> Result<usize, PublishError> {
        if !self.has_name() {
            return Err(PublishError::Name);
        }
        let Some(members) = self.rooms.find(&self.name) else { return Ok(0) };
        let mut told = 0;
        // Under the lock, so that all members are told all messages in one order.
        for (id, place) in &lock(&members).places {
            if Some(*id) == except {
                continue;
            }
            match place.sender.try_send(body.clone()) {
                Ok(()) => told += 1,
                Err(SendError::Full) => {
                    place.sender.abort(Close::new(
                        CloseCode::SlowConsumer,
                        "a room's messages were taken too slowly",
                    ));
                }
                // It is leaving, or takes no message of this size.
                Err(_) => {}
            }
        }
        Ok(told)
    }
}

/// A socket's place in a room. Dropped, it leaves.
#[derive(Debug)]
#[must_use = "a member leaves when it is dropped"]
pub struct Member {
    room: Room,
    members: Arc<Mutex<Members>>,
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
        let mut room = lock(&self.members);
        if let Entry::Occupied(mut place) = room.places.entry(self.id) {
            place.get_mut().joined -= 1;
            if place.get().joined == 0 {
                place.remove();
            }
        }
        room.gone = room.places.is_empty();
        let gone = room.gone;
        drop(room);
        if gone {
            self.room.rooms.forget(&self.room.name, &self.members);
        }
    }
}
