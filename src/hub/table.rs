//! The rooms that there are, by name.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::frame::{CloseCode, Epoch};
use crate::room::{Drained, Effects, RoomState};

use super::line::SocketLine;
use super::{RoomConfig, lock};

/// Unrelated rooms seldom wait for each other.
const SHARDS: usize = 64;

/// How a room is kept, by its name.
pub(super) struct Shape(Box<dyn Fn(&str) -> RoomConfig + Send + Sync>);

impl Shape {
    pub(super) fn new(shape: impl Fn(&str) -> RoomConfig + Send + Sync + 'static) -> Self {
        Self(Box::new(shape))
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self::new(|_| RoomConfig::default())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shape")
    }
}

/// A room with its place in the table.
#[derive(Debug)]
pub(super) struct Place {
    name: Arc<str>,
    inner: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    state: RoomState<SocketLine>,
    /// It is over: whoever comes now makes the room anew.
    gone: bool,
}

/// Why there is no room to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// There are too many.
    TooMany,
    /// No random numbers for its epoch.
    NoEpoch,
}

type Shard = HashMap<Arc<str>, Arc<Place>>;

/// The rooms that there are.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    shape: Shape,
    count: AtomicUsize,
    max: usize,
    /// When rooms that are over were last looked for.
    swept: Mutex<Instant>,
}

/// The one clock of this room.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn epoch() -> Result<Epoch, NoRoom> {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(Epoch::from_bytes(bytes)),
        Err(error) => {
            tracing::error!(%error, "no random numbers");
            Err(NoRoom::NoEpoch)
        }
    }
}

impl Table {
    pub(super) fn new(shape: Shape, max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self {
            shards,
            hasher: RandomState::new(),
            shape,
            count: AtomicUsize::new(0),
            max,
            swept: Mutex::new(now()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// How many rooms and how many members of rooms there are.
    pub(super) fn count(&self) -> (u64, u64) {
        let (mut rooms, mut members) = (0, 0);
        for shard in &self.shards {
            // No two locks at once.
            let places: Vec<_> = lock(shard).values().cloned().collect();
            rooms += places.len() as u64;
            members += places.iter().map(|place| lock(&place.inner).state.len() as u64).sum::<u64>();
        }
        (rooms, members)
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(self.hasher.hash_one(name) % SHARDS as u64).unwrap_or_default();
        // Always there: the remainder is less than their number.
        lock(&self.shards[at.min(SHARDS - 1)])
    }

    fn find(&self, name: &str) -> Option<Arc<Place>> {
        self.shard(name).get(name).map(Arc::clone)
    }

    /// Whether a room of this name keeps what is said though nobody is there.
    pub(super) fn keeps(&self, name: &str) -> bool {
        self.shape.0(name).history.messages > 0
    }

    /// Finds or makes.
    fn open(&self, name: &Arc<str>) -> Result<Arc<Place>, NoRoom> {
        if let Some(place) = self.find(name) {
            return Ok(place);
        }
        self.sweep();
        let (epoch, config) = (epoch()?, self.shape.0(name));
        let mut shard = self.shard(name);
        if let Some(place) = shard.get(name) {
            return Ok(Arc::clone(place));
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(NoRoom::TooMany);
        }
        let state = RoomState::new(&**name, epoch, config, now());
        let inner = Mutex::new(Held { state, gone: false });
        let place = Arc::new(Place { name: Arc::clone(name), inner });
        shard.insert(Arc::clone(name), Arc::clone(&place));
        Ok(place)
    }

    /// Forgets all rooms that are over, at most once a second: who makes new rooms pays for it.
    fn sweep(&self) {
        let now = now();
        let mut swept = lock(&self.swept);
        if now.saturating_duration_since(*swept) < Duration::from_secs(1) {
            return;
        }
        *swept = now;
        drop(swept);
        let places = |shard: &Mutex<Shard>| lock(shard).values().cloned().collect::<Vec<_>>();
        for place in self.shards.iter().flat_map(places) {
            let mut held = lock(&place.inner);
            held.gone |= held.state.is_over(now);
            let gone = held.gone;
            drop(held);
            if gone {
                self.forget(&place);
            }
        }
    }

    /// Forgets a room that is over, unless it was made anew meanwhile.
    fn forget(&self, place: &Arc<Place>) {
        let mut shard = self.shard(&place.name);
        if shard.get(&place.name).is_some_and(|known| Arc::ptr_eq(known, place)) {
            shard.remove(&place.name);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// No two locks are ever held at once: who talks to one room does not keep others waiting.
impl Table {
    /// Does something in a room, which is made if there is none.
    pub(super) fn enter<R>(
        &self,
        this: &Access,
        name: &Arc<str>,
        mut act: impl FnMut(&mut RoomState<SocketLine>) -> (R, Effects<SocketLine>),
    ) -> Result<R, NoRoom> {
        loop {
            let place = self.open(name)?;
            if let Some(done) = self.act(this, &place, &mut act) {
                return Ok(done);
            }
        }
    }

    /// Does something in a room, if there is one.
    pub(super) fn visit<R>(
        &self,
        this: &Access,
        name: &str,
        mut act: impl FnMut(&mut RoomState<SocketLine>) -> (R, Effects<SocketLine>),
    ) -> Option<R> {
        let place = self.find(name)?;
        self.act(this, &place, &mut act)
    }

    /// `None`: the room is over.
    fn act<R>(
        &self,
        this: &Access,
        place: &Arc<Place>,
        act: &mut impl FnMut(&mut RoomState<SocketLine>) -> (R, Effects<SocketLine>),
    ) -> Option<R> {
        let mut held = lock(&place.inner);
        let done = if held.gone { None } else { Some(act(&mut held.state)) };
        held.gone |= held.state.is_over(now());
        let gone = held.gone;
        drop(held);
        if gone {
            self.forget(place);
        }
        let (done, effects) = done?;
        this.settle(place, effects);
        Some(done)
    }
}

/// The hub, for what outlives a call.
pub(super) type Access = Arc<super::Inner>;

/// What a room leaves to be done when its lock is free again.
trait Settle {
    fn settle(&self, place: &Arc<Place>, effects: Effects<SocketLine>);
}

impl Settle for Access {
    fn settle(&self, place: &Arc<Place>, effects: Effects<SocketLine>) {
        self.counters.left_out.add(effects.left_out);
        for (_, line) in effects.ended {
            self.end(&line, CloseCode::SlowConsumer);
        }
        for (_, line) in effects.overfed {
            self.end(&line, CloseCode::TooLarge);
        }
        for (id, line) in effects.lagging {
            match line.runtime() {
                // It ends when the member has caught up, and at the latest with its session.
                Some(runtime) => {
                    let (hub, place, sender) = (Arc::clone(self), Arc::clone(place), line.sender().clone());
                    runtime.spawn(async move {
                        let mut next = 0;
                        loop {
                            sender.roomy_for(next).await;
                            let mut drain = |state: &mut RoomState<SocketLine>| state.drain(id);
                            match hub.table.act(&hub, &place, &mut drain) {
                                Some(Drained::Waiting { bytes }) => next = bytes,
                                Some(Drained::Done) | None => return,
                            }
                        }
                    });
                }
                None => self.end(&line, CloseCode::SlowConsumer),
            }
        }
    }
}
