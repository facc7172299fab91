//! The rules of one room as a state machine without I/O: its members, its history, and who is there.
//!
//! This room of the house owns what is true of a room whoever its members are: the one order of what is said, the
//! position of each message, how far back one can go, who lags and what becomes of it, and differences of presence in
//! the same order. It knows no sockets and no rights: what goes to a member is offered to its [`Line`]. It implements
//! `docs/PROTOCOL.md`, "Streams of rooms", "Slow members" and "Presence".

mod backlog;
mod config;
mod line;
mod log;
mod member;
pub mod payload;
mod presence;
mod roster;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::frame::{Body, Epoch, Json, Seq, SessionId};
use crate::room::payload::{
    Begin, Change, History, Join, Notice, Page, PayloadError, Position, Refusal, Said, Who,
};

use backlog::Item;
use log::{Entry, Log};
use member::{Admitted, Member, Plain};
use presence::Presence;
use roster::Roster;

pub use config::{Config, Keep, Slow};
pub use line::{Effects, Line, Offer};

/// Where a member stands after its backlog was offered to its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// More waits, and the line has no room for the next, which has so many bytes.
    Waiting {
        /// Of its payload.
        bytes: u64,
    },
    /// Nothing waits, or it is no member: nobody needs to drain it any more.
    Done,
}

/// Why something was not said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SayError {
    /// The body nests too deep to be wrapped.
    #[error(transparent)]
    Body(#[from] PayloadError),
    /// The room has used its last offset.
    #[error("the room has used its last offset")]
    Exhausted,
}

/// How something is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saying {
    /// Of what it is the latest value.
    pub key: Option<String>,
    /// The member that says it.
    pub by: Option<Who>,
    /// The session that is not told.
    pub except: Option<SessionId>,
}

/// One room.
///
/// # Guarantees
/// 1. All members are offered what is said in one order, that of the offsets.
/// 2. What a member is sent behind a [`Begin`] is every message from there on; where some are left out, a `missed`
///    notice says how many, before the next one.
/// 3. A call never waits, and what waits for a member is within [`Config::backlog`] and what it is told again.
/// 4. `recovered` is said only if nothing is missing behind the position that was asked for.
#[derive(Debug)]
pub struct RoomState<L> {
    name: String,
    epoch: Epoch,
    config: Config,
    head: Seq,
    log: Log,
    plain: Roster<Plain<L>>,
    members: Roster<Member<L>>,
    presence: Presence,
    /// When somebody last came, left or spoke.
    touched: Instant,
}

impl<L: Line> RoomState<L> {
    /// A room in which nothing was said yet. The epoch must be random: positions of an earlier life must not fit.
    pub fn new(name: impl Into<String>, epoch: Epoch, config: Config, now: Instant) -> Self {
        Self {
            name: name.into(),
            epoch,
            head: Seq::ZERO,
            log: Log::new(config.history),
            config,
            plain: Roster::new(),
            members: Roster::new(),
            presence: Presence::default(),
            touched: now,
        }
    }

    /// The position behind the latest message.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.head }
    }

    /// How many sessions are told what is said.
    pub fn len(&self) -> usize {
        self.members.len() + self.plain.iter().filter(|(id, _)| !self.members.contains(*id)).count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.plain.is_empty()
    }

    /// Whether a session is a member that speaks the layer.
    pub fn is_member(&self, id: SessionId) -> bool {
        self.members.contains(id)
    }

    /// Whether nobody would miss the room: it is empty, and nothing of it is kept any more.
    pub fn is_over(&self, now: Instant) -> bool {
        let kept = if self.config.history.keeps() { self.config.history.age } else { Duration::ZERO };
        self.is_empty() && now.saturating_duration_since(self.touched) >= kept
    }

    /// All who are there.
    pub fn present(&self) -> Vec<crate::room::payload::Member> {
        self.presence.members().collect()
    }

    /// Makes a session a member that gets what is said as it is, outside the layer: without offsets, history or
    /// presence. It may be one several times.
    pub fn join_plain(&mut self, now: Instant, id: SessionId, line: L) {
        self.touched = now;
        match self.plain.get_mut(id) {
            Some(plain) => plain.joined += 1,
            None => self.plain.insert(id, Plain { line, joined: 1 }),
        }
    }

    /// Takes back one [`RoomState::join_plain`].
    pub fn leave_plain(&mut self, now: Instant, id: SessionId) {
        self.touched = now;
        if let Some(plain) = self.plain.get_mut(id) {
            plain.joined -= 1;
            if plain.joined == 0 {
                self.plain.remove(id);
            }
        }
    }

    /// Makes a session a member, or begins its stream anew if it is one.
    pub fn join(
        &mut self,
        now: Instant,
        id: SessionId,
        who: Who,
        line: L,
        join: &Join,
    ) -> (Begin, Effects<L>) {
        self.touched = now;
        self.log.trim(now);
        let (at, recovered) = self.begin(join);
        let reference = join.reference.clone();
        let begin = Begin { room: self.name.clone(), epoch: self.epoch, at, recovered, reference };
        let mut effects = Effects::default();
        let mut lost = Vec::new();
        let change = self.presence.enter(&who, id, join.meta.as_ref());
        let watches = join.presence && self.config.presence;
        let mut member = Member::new(line, who, watches);
        member.is_drained = self.members.remove(id).is_some_and(|earlier| earlier.is_drained);
        self.announce(change, &mut effects, &mut lost);
        let list = if watches { self.presence.list(&self.name) } else { Vec::new() };
        let first = Notice::Begin(begin.clone()).write().ok();
        let opening = first.into_iter().chain(list).map(Item::notice);
        let replay = self.log.after(at).filter(|entry| entry.except != Some(id)).map(Entry::replayed);
        for item in opening.chain(replay) {
            if member.admit(item, &self.config) != Admitted::Kept {
                lost.push(id);
                break;
            }
        }
        member.note_lag(id, &mut effects);
        self.members.insert(id, member);
        self.bury(lost, &mut effects);
        (begin, effects)
    }

    /// Where the stream of a joiner begins, and whether that is where it asked.
    fn begin(&self, join: &Join) -> (Seq, bool) {
        let reached = join.since.filter(|since| {
            since.epoch == self.epoch && since.offset <= self.head && self.reaches(since.offset)
        });
        match (reached, join.last) {
            (Some(since), _) => (since.offset, true),
            (None, Some(last)) => (self.log.back(self.head, last), false),
            (None, None) => (self.head, false),
        }
    }

    /// Whether everything behind this offset is still kept.
    fn reaches(&self, offset: Seq) -> bool {
        offset == self.head || self.log.first().is_some_and(|first| first.value() <= offset.value() + 1)
    }

    /// Takes a member out. False: it was none.
    pub fn leave(&mut self, now: Instant, id: SessionId) -> (bool, Effects<L>) {
        self.touched = now;
        let mut effects = Effects::default();
        let was = self.members.contains(id);
        self.bury(vec![id], &mut effects);
        (was, effects)
    }

    /// Takes a member out and tells it why. One that lags cannot be told, and is to be ended. False: it was none.
    pub fn remove(&mut self, now: Instant, id: SessionId, code: &str, message: &str) -> (bool, Effects<L>) {
        let Some(line) = self.members.get(id).map(|member| member.line.clone()) else {
            return (false, Effects::default());
        };
        let is_told = !self.members.get(id).is_some_and(Member::is_lagging) && {
            let (room, code, message) = (self.name.clone(), code.to_owned(), message.to_owned());
            let left = Notice::Left(Refusal { room, code, message }).write();
            left.is_ok_and(|left| line.offer(&left) == Offer::Taken)
        };
        let (was, mut effects) = self.leave(now, id);
        if !is_told {
            effects.ended.push((id, line));
        }
        (was, effects)
    }

    /// A member tells something else of itself. False: it is none.
    pub fn update(&mut self, id: SessionId, meta: Option<&Json>) -> (bool, Effects<L>) {
        let mut effects = Effects::default();
        let Some(member) = self.members.get(id) else { return (false, effects) };
        let change = self.presence.update(&member.who, meta);
        let mut lost = Vec::new();
        self.announce(change, &mut effects, &mut lost);
        self.bury(lost, &mut effects);
        (true, effects)
    }

    /// Tells a member who is there. False: it is none, or the room tells nobody.
    pub fn tell_presence(&mut self, id: SessionId) -> (bool, Effects<L>) {
        let mut effects = Effects::default();
        if !self.config.presence {
            return (false, effects);
        }
        let Some(member) = self.members.get_mut(id) else { return (false, effects) };
        let mut lost = Vec::new();
        if !member.mark_stale() {
            for item in self.presence.list(&self.name).into_iter().map(Item::notice) {
                if member.admit(item, &self.config) != Admitted::Kept {
                    lost.push(id);
                    break;
                }
            }
            member.note_lag(id, &mut effects);
        }
        self.bury(lost, &mut effects);
        (true, effects)
    }

    /// Says something to all members. Returns where it was said, and to how many it goes.
    ///
    /// # Errors
    /// When the body cannot be wrapped; then nobody was told.
    pub fn say(
        &mut self,
        now: Instant,
        body: &Body,
        saying: &Saying,
    ) -> Result<(Position, usize, Effects<L>), SayError> {
        let at = self.head.next().ok_or(SayError::Exhausted)?;
        let kept = self.config.history.keeps();
        // Encoded once for all, and not at all where nobody speaks the layer.
        let payload =
            if kept || !self.members.is_empty() { Some(self.wrap(at, body, saying)?) } else { None };
        self.touched = now;
        self.head = at;
        let (mut effects, mut lost, mut told) = (Effects::default(), Vec::new(), 0);
        for (id, plain) in self.plain.iter().filter(|(id, _)| Some(*id) != saying.except) {
            match plain.line.offer(body) {
                Offer::Taken => told += 1,
                Offer::Full => effects.ended.push((id, plain.line.clone())),
                Offer::Refused => effects.overfed.push((id, plain.line.clone())),
                Offer::Gone => {}
            }
        }
        if let Some(payload) = payload {
            for (id, member) in self.members.iter_mut().filter(|(id, _)| Some(*id) != saying.except) {
                let item = Item::said(at, payload.clone(), saying.key.clone());
                match member.admit(item, &self.config) {
                    Admitted::Kept => told += 1,
                    Admitted::Overflow => {
                        effects.ended.push((id, member.line.clone()));
                        lost.push(id);
                    }
                    Admitted::Gone => lost.push(id),
                }
                member.note_lag(id, &mut effects);
            }
            let Saying { key, except, .. } = saying.clone();
            self.log.push(now, Entry { at, said: now, payload, key, except });
        }
        self.bury(lost, &mut effects);
        Ok((self.position(), told, effects))
    }

    fn wrap(&self, at: Seq, body: &Body, saying: &Saying) -> Result<Body, PayloadError> {
        let Saying { key, by, .. } = saying.clone();
        Notice::Said(Said { room: self.name.clone(), at, key, by, body: body.clone() }).write()
    }

    /// Offers a member what waits for it.
    pub fn drain(&mut self, id: SessionId) -> (Drained, Effects<L>) {
        let mut effects = Effects::default();
        let Some(member) = self.members.get_mut(id) else { return (Drained::Done, effects) };
        let drained = member.drain(&self.name, &self.presence);
        effects.left_out += member.take_left_out();
        match drained {
            Ok(drained) => (drained, effects),
            Err(_gone) => {
                self.bury(vec![id], &mut effects);
                (Drained::Done, effects)
            }
        }
    }

    /// A page of what was said, of at most so many bytes but at least one message.
    pub fn page(&mut self, now: Instant, ask: &History, max_bytes: usize) -> Page {
        self.log.trim(now);
        let since = ask.since.filter(|since| since.epoch == self.epoch && since.offset <= self.head);
        let oldest = self.log.back(self.head, u32::MAX);
        let whole = match (ask.since, since) {
            (Some(_), Some(since)) => self.reaches(since.offset),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let from = since.map_or(oldest, |since| since.offset.max(oldest));
        let (mut messages, mut bytes) = (Vec::new(), 0_usize);
        for entry in self.log.after(from).take(ask.limit as usize) {
            let message = entry.as_json();
            bytes = bytes.saturating_add(message.as_bytes().len());
            if bytes > max_bytes && !messages.is_empty() {
                break;
            }
            messages.push(message);
        }
        Page { from: Position { epoch: self.epoch, offset: from }, head: self.head, whole, messages }
    }

    /// Tells the difference to all who watch, but for the one that makes it.
    fn announce(&mut self, change: Option<Change>, effects: &mut Effects<L>, lost: &mut Vec<SessionId>) {
        if !self.config.presence {
            return;
        }
        let Some(change) = change.map(|change| change.of_room(&self.name)) else { return };
        let Ok(payload) = Notice::Change(change).write() else { return };
        for (id, member) in self.members.iter_mut().filter(|(_, member)| member.watches) {
            if member.mark_stale() {
                continue;
            }
            match member.line.offer(&payload) {
                Offer::Taken => {}
                Offer::Gone => lost.push(id),
                // The whole list will do, once there is room.
                Offer::Full | Offer::Refused => {
                    member.lag(&self.config);
                    member.mark_stale();
                    member.note_lag(id, effects);
                }
            }
        }
    }

    /// Takes out those who are gone, which the others are told, which may find that more are gone.
    fn bury(&mut self, mut lost: Vec<SessionId>, effects: &mut Effects<L>) {
        while let Some(id) = lost.pop() {
            let Some(member) = self.members.remove(id) else { continue };
            let change = self.presence.leave(&member.who, id);
            self.announce(change, effects, &mut lost);
        }
    }
}
