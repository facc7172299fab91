//! Which sessions this process knows: the live ones, and how the ended ones ended.
//!
//! It implements `docs/PROTOCOL.md`, "Sessions": who may attach, and what a repeated `hello` of an ended session
//! is told. It never reads a clock, and no guard of its locks ever leaves it.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::frame::{Close, CloseCode, Epoch, Seq, SessionId, SessionKey};
use crate::session::Receipts;
use crate::socket::{Principal, Shared};

/// Unrelated sessions seldom wait for each other.
const SHARDS: usize = 64;

/// A session that runs.
#[derive(Debug)]
struct Live {
    key: SessionKey,
    epoch: Epoch,
    shared: Arc<Shared>,
}

/// A session that has ended: what a late client must hear, and no more. There may be as many of them as sessions.
#[derive(Debug)]
struct Ended {
    key: SessionKey,
    epoch: Epoch,
    /// Its last word, with zero where that says what was received.
    said: Arc<Close>,
    received: Seq,
    /// When it is forgotten, in nanoseconds since the table was made.
    until: u64,
}

impl Ended {
    fn close(&self) -> Close {
        let mut close = Close::clone(&self.said);
        close.detail.received = close.detail.received.map(|_| self.received);
        close
    }
}

/// Both are boxed: a table has room for more than stands in it.
#[derive(Debug)]
enum Entry {
    Live(Box<Live>),
    Ended(Box<Ended>),
}

/// How many last words are looked through for one that was said before.
const SAID: usize = 4;

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<SessionId, Entry>,
    /// The ended entries, oldest first.
    ended: VecDeque<SessionId>,
    /// The latest different last words. Most sessions end in one of a few ways, and share them.
    said: VecDeque<Arc<Close>>,
}

impl Shard {
    /// Puts an ended session in the place of its id.
    fn remember(&mut self, id: SessionId, key: SessionKey, epoch: Epoch, mut close: Close, until: u64) {
        let received =
            close.detail.received.as_mut().map_or(Seq::ZERO, |seq| std::mem::replace(seq, Seq::ZERO));
        let ended = Ended { key, epoch, said: self.share(close), received, until };
        self.entries.insert(id, Entry::Ended(Box::new(ended)));
        self.ended.push_back(id);
    }

    /// The one copy of a last word, as far as the latest few know it.
    fn share(&mut self, close: Close) -> Arc<Close> {
        if let Some(known) = self.said.iter().find(|known| ***known == close) {
            return Arc::clone(known);
        }
        let close = Arc::new(close);
        if self.said.len() >= SAID {
            self.said.pop_front();
        }
        self.said.push_back(Arc::clone(&close));
        close
    }
}

/// The bounds of a [`Registry`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many sessions live at once.
    pub(super) sessions: usize,
    /// How many ended ones are remembered; beyond, the oldest are forgotten.
    pub(super) ended: usize,
    /// How long an ended one is remembered.
    pub(super) memory: Duration,
}

/// The table of sessions.
#[derive(Debug)]
pub(super) struct Registry {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    live: AtomicUsize,
    bounds: Bounds,
    began: Instant,
}

/// What shows which session is meant, and that it is one's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) id: SessionId,
    pub(super) key: &'a SessionKey,
    /// None only in the `hello` that may create the session.
    pub(super) epoch: Option<Epoch>,
    /// Whether who claims it gives receipts: a session of one sort is unknown to those of the other.
    pub(super) receipts: Receipts,
}

/// A session found, or made.
#[derive(Debug)]
pub(super) enum Opened<T> {
    Found(Arc<Shared>),
    Made(Arc<Shared>, T),
}

impl Registry {
    /// An empty table, made at a time before which nothing is asked of it.
    pub(super) fn new(bounds: Bounds, began: Instant) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), live: AtomicUsize::new(0), bounds, began }
    }

    /// How many sessions live.
    pub(super) fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// The session that is claimed, for a request that goes to an existing one.
    pub(super) fn find(&self, now: Instant, claim: Claim<'_>) -> Result<Arc<Shared>, Close> {
        let mut shard = self.lock(claim.id);
        self.purge(&mut shard, now);
        self.judge(&mut shard, now, claim)?.ok_or_else(unknown)
    }

    /// The session that is claimed, or a new one if there is none and the claim names no epoch. `make` runs under
    /// a lock: it only makes.
    pub(super) fn open<T>(
        &self,
        now: Instant,
        claim: Claim<'_>,
        principal: Option<&Principal>,
        make: impl FnOnce(Epoch) -> (Arc<Shared>, T),
    ) -> Result<Opened<T>, Close> {
        let epoch = super::random::epoch()?;
        let mut shard = self.lock(claim.id);
        self.purge(&mut shard, now);
        if let Some(shared) = self.judge(&mut shard, now, claim)? {
            if shared.principal() != principal {
                return Err(Close::new(CloseCode::Forbidden, "the session is another principal's"));
            }
            return Ok(Opened::Found(shared));
        }
        if claim.epoch.is_some() {
            return Err(unknown());
        }
        if self.live.fetch_add(1, Ordering::Relaxed) >= self.bounds.sessions {
            self.live.fetch_sub(1, Ordering::Relaxed);
            return Err(Close::new(CloseCode::Overloaded, "too many sessions"));
        }
        let (shared, made) = make(epoch);
        let live = Live { key: claim.key.clone(), epoch, shared: Arc::clone(&shared) };
        shard.entries.insert(claim.id, Entry::Live(Box::new(live)));
        Ok(Opened::Made(shared, made))
    }

    /// All that live.
    pub(super) fn all(&self) -> Vec<Arc<Shared>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.entries.values().filter_map(|entry| match entry {
                Entry::Live(live) => Some(Arc::clone(&live.shared)),
                Entry::Ended(_) => None,
            }));
        }
        all
    }

    /// A live one by its id alone: for the application, never for a peer.
    pub(super) fn by_id(&self, id: SessionId) -> Option<Arc<Shared>> {
        match self.lock(id).entries.get(&id) {
            Some(Entry::Live(live)) => Some(Arc::clone(&live.shared)),
            _ => None,
        }
    }

    /// Notes that a session has ended, if it is still the one of its id.
    pub(super) fn end(&self, now: Instant, id: SessionId, shared: &Arc<Shared>) {
        let mut shard = self.lock(id);
        self.purge(&mut shard, now);
        if matches!(shard.entries.get(&id), Some(Entry::Live(live)) if Arc::ptr_eq(&live.shared, shared)) {
            self.bury(&mut shard, now, id);
        }
    }

    /// A time as what is kept of ended sessions has it. It is enough for 584 years.
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self, id: SessionId) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(id);
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        // Always there: the remainder is less than their number.
        let shard = &self.shards[at.min(SHARDS - 1)];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live session of a claim; none if the id is free. A claim that does not fit is told no more than one of
    /// a session that never was.
    fn judge(&self, shard: &mut Shard, now: Instant, claim: Claim<'_>) -> Result<Option<Arc<Shared>>, Close> {
        match shard.entries.get(&claim.id) {
            Some(Entry::Live(live)) if live.shared.is_finished() => {}
            found => return fit(found, claim),
        }
        self.bury(shard, now, claim.id);
        fit(shard.entries.get(&claim.id), claim)
    }

    /// The one way by which a live entry goes: it leaves what is told to whoever comes back.
    fn bury(&self, shard: &mut Shard, now: Instant, id: SessionId) {
        let Some(Entry::Live(live)) = shard.entries.remove(&id) else { return };
        self.live.fetch_sub(1, Ordering::Relaxed);
        let Live { key, epoch, shared } = *live;
        let close = shared.end().unwrap_or_else(unknown);
        shard.remember(id, key, epoch, close, self.nanos(now + self.bounds.memory));
        if shard.ended.len() > self.bounds.ended.div_ceil(SHARDS) {
            Self::forget_oldest(shard);
        }
    }

    fn forget_oldest(shard: &mut Shard) {
        if let Some(id) = shard.ended.pop_front() {
            shard.entries.remove(&id);
        }
    }

    /// Forgets what ended long enough ago: each at most once, so that it costs nothing by and large.
    fn purge(&self, shard: &mut Shard, now: Instant) {
        let now = self.nanos(now);
        let over = |shard: &Shard| {
            let entry = shard.ended.front().and_then(|id| shard.entries.get(id));
            matches!(entry, Some(Entry::Ended(ended)) if ended.until <= now)
        };
        while over(shard) {
            Self::forget_oldest(shard);
        }
    }
}

fn fit(found: Option<&Entry>, claim: Claim<'_>) -> Result<Option<Arc<Shared>>, Close> {
    let (key, epoch) = match found {
        None => return Ok(None),
        Some(Entry::Live(live)) => (&live.key, live.epoch),
        Some(Entry::Ended(ended)) => (&ended.key, ended.epoch),
    };
    if key != claim.key || claim.epoch.is_some_and(|claimed| claimed != epoch) {
        return Err(unknown());
    }
    match found {
        Some(Entry::Ended(ended)) => Err(ended.close()),
        Some(Entry::Live(live)) if live.shared.receipts() != claim.receipts => Err(unknown()),
        Some(Entry::Live(live)) => Ok(Some(Arc::clone(&live.shared))),
        None => Ok(None),
    }
}

fn unknown() -> Close {
    Close::new(CloseCode::UnknownSession, "no such session")
}
