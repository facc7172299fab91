//! Rooms: named groups of sockets, and messages to all of them.
//!
//! This room owns membership and fan-out within one process. It knows sockets, not sessions or transports, and no
//! wire. A room comes to be with its first member and vanishes with its last.

mod room;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use room::Members;

pub use room::{JoinError, Member, PublishError, Room};

/// Unrelated rooms seldom wait for each other.
const SHARDS: usize = 64;

/// The longest name of a room, in bytes.
const MAX_NAME: usize = 256;

/// Rooms by name. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    rooms: Arc<Rooms>,
}

impl Hub {
    /// A hub without rooms.
    pub fn new() -> Self {
        Self::default()
    }

    /// A room by its name of 1 to 256 bytes. It costs nothing until somebody joins.
    pub fn room(&self, name: impl Into<Arc<str>>) -> Room {
        Room::new(Arc::clone(&self.rooms), name.into())
    }

    /// How many rooms have members.
    pub fn len(&self) -> usize {
        self.rooms.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether no room has members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

type Shard = HashMap<Arc<str>, Arc<Mutex<Members>>>;

#[derive(Debug)]
struct Rooms {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl Default for Rooms {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl Rooms {
    fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(self.hasher.hash_one(name) % SHARDS as u64).unwrap_or_default();
        // Always there: the remainder is less than their number.
        lock(&self.shards[at.min(SHARDS - 1)])
    }
}

/// No two locks are ever held at once: who talks to one room does not keep others waiting.
impl Rooms {
    fn find(&self, name: &str) -> Option<Arc<Mutex<Members>>> {
        self.shard(name).get(name).map(Arc::clone)
    }

    /// Finds or makes.
    fn open(&self, name: &Arc<str>) -> Arc<Mutex<Members>> {
        Arc::clone(self.shard(name).entry(Arc::clone(name)).or_default())
    }

    /// Forgets a room whose last member has left, unless it was made anew meanwhile.
    fn forget(&self, name: &str, members: &Arc<Mutex<Members>>) {
        let mut shard = self.shard(name);
        if shard.get(name).is_some_and(|known| Arc::ptr_eq(known, members)) {
            shard.remove(name);
        }
    }
}

/// Nothing in this room unwinds while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
