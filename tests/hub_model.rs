//! One room against a simple model, over random steps: joins from any position, leaves, words, slow and broken lines,
//! time that passes.
//!
//! The model knows what was said, when, to whom not, and who is there. Each line is read by a receiver that believes
//! only what it is sent; after each step what receivers believe is held against the model:
//! - one order: a message that comes has the body that was said at its offset, and offsets only rise;
//! - no gap unknowingly: between two messages lie just as many that this member was to be told as `missed` counts;
//! - who does not lag knows all: the last message, and who is there with which words;
//! - `recovered` is said if and only if everything behind the position was still kept;
//! - who is ended lagged by more than its backlog; a backlog never delivers more than its bound and what was told again;
//! - the latest value of each key arrives, whatever is conflated.
//!
//! Rights are no part of a room: `src/hub/tests/rights` holds a model against served sessions.
//!
//! `STEPS` sets the number of steps (default 120,000).

#[expect(dead_code, reason = "the session simulation uses all of it")]
#[path = "session_sim/rng.rs"]
mod rng;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rng::Rng;
use throughline::frame::{Body, Epoch, Json, Seq, SessionId, Window};
use throughline::room::payload::{Change, Join, Notice, Position, Read, Who};
use throughline::room::{Config, Drained, Effects, Keep, Line, Offer, RoomState, Saying, Slow};

const SESSIONS: u64 = 6;
const PRINCIPALS: u64 = 4;
const AGE: Duration = Duration::from_secs(100);

/// A line with so much room.
#[derive(Clone)]
struct Wire(Rc<RefCell<End>>);

struct End {
    room: usize,
    is_gone: bool,
    came: Vec<Body>,
}

impl Wire {
    fn new(room: usize) -> Self {
        Self(Rc::new(RefCell::new(End { room, is_gone: false, came: Vec::new() })))
    }
}

impl Line for Wire {
    fn offer(&self, payload: &Body) -> Offer {
        let mut end = self.0.borrow_mut();
        if end.is_gone {
            return Offer::Gone;
        }
        if end.room == 0 {
            return Offer::Full;
        }
        end.room -= 1;
        end.came.push(payload.clone());
        Offer::Taken
    }
}

/// What was said.
struct Word {
    text: String,
    key: Option<String>,
    except: Option<SessionId>,
    said: Instant,
}

/// A session in the room, and what its client believes.
struct Guest {
    wire: Wire,
    who: Who,
    watches: bool,
    lags: bool,
    /// By what came.
    position: u64,
    missed: u64,
    missed_to: u64,
    present: BTreeMap<Who, Option<Json>>,
    listing: bool,
    keys: HashMap<String, u64>,
    begun_at: Option<(u64, bool)>,
    /// How many it may be sent at most when it is drained to the end.
    allowance: u64,
}

struct World {
    rng: Rng,
    room: RoomState<Wire>,
    config: Config,
    epoch: Epoch,
    now: Instant,
    words: Vec<Word>,
    guests: BTreeMap<SessionId, Guest>,
    /// Who is there: sessions, and what was last told.
    there: BTreeMap<Who, (BTreeSet<SessionId>, Option<Json>)>,
    /// What the room counts as left out, and what members were told of it.
    left_out: u64,
    told_missed: u64,
    /// Nobody went or began anew that was still to be told of something.
    all_stayed: bool,
}

fn id(number: u64) -> SessionId {
    SessionId::from_bytes([u8::try_from(number).unwrap(); 16])
}

fn who(number: u64) -> Who {
    Who::Principal(format!("p{}", number % PRINCIPALS))
}

fn meta(number: u64) -> Json {
    Json::of(&number).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let slow = [Slow::End, Slow::DropOldest, Slow::Conflate][rng.below(3) as usize];
        let messages = [0, 3, 20][rng.below(3) as usize];
        let mut config = Config::default();
        config.slow = slow;
        config.history = Keep { messages, bytes: 1 << 30, age: AGE };
        config.backlog = Window { messages: u32::try_from(rng.below(8)).unwrap(), bytes: 1 << 30 };
        let (now, epoch) = (Instant::now(), Epoch::from_bytes(seed.to_be_bytes()));
        let room = RoomState::new("r", epoch, config.clone(), now);
        let (words, guests, there) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            rng,
            room,
            config,
            epoch,
            now,
            words,
            guests,
            there,
            left_out: 0,
            told_missed: 0,
            all_stayed: true,
        }
    }

    fn head(&self) -> u64 {
        self.words.len() as u64
    }

    /// The lowest position from which everything is still kept.
    fn reach(&self) -> u64 {
        let kept = self.words.iter().rev().take(self.config.history.messages);
        self.head() - kept.take_while(|word| self.now - word.said < AGE).count() as u64
    }

    /// How many of the offsets behind `from`, up to `to`, a session was to be told.
    fn due(&self, id: SessionId, from: u64, to: u64) -> u64 {
        let words = &self.words[from as usize..(to as usize).max(from as usize)];
        words.iter().filter(|word| word.except != Some(id)).count() as u64
    }

    fn any_guest(&mut self) -> Option<SessionId> {
        let count = self.guests.len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.rng.below(count) as usize;
        self.guests.keys().nth(at).copied()
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=11 => self.join(),
            12..=17 => self.leave(),
            18..=57 => self.say(),
            58..=75 => self.make_room(),
            76..=87 => self.drain(),
            88..=92 => self.update(),
            93..=95 => self.tighten(),
            96 => self.kick(),
            97 => self.break_line(),
            _ => self.now += Duration::from_secs(self.rng.below(60)),
        }
        self.hold();
    }

    fn join(&mut self) {
        let number = self.rng.below(SESSIONS);
        let (id, who) = (id(number), who(number));
        let offset = self.rng.below(self.head() + 2);
        let epoch = if self.rng.below(8) == 0 { Epoch::from_bytes([0xff; 8]) } else { self.epoch };
        let since = Position { epoch, offset: Seq::new(offset).unwrap() };
        let since = (self.rng.below(3) > 0).then_some(since);
        let last = (self.rng.below(3) == 0).then(|| u32::try_from(self.rng.below(6)).unwrap());
        let tells = (self.rng.below(2) == 0).then(|| meta(self.rng.below(3)));
        let watches = self.rng.below(2) == 0;
        let join =
            Join { room: "r".into(), since, last, presence: watches, meta: tells.clone(), reference: None };
        let wire = Wire::new(self.rng.below(30) as usize);
        let recovered = since.is_some_and(|since| {
            let reaches = offset <= self.head() && (offset == self.head() || offset >= self.reach());
            since.epoch == self.epoch && reaches
        });
        let at = match last {
            _ if recovered => offset,
            Some(last) => self.reach().max(self.head().saturating_sub(u64::from(last))),
            None => self.head(),
        };
        let there = self.there.entry(who.clone()).or_default();
        there.0.insert(id);
        there.1 = tells.or(there.1.take());
        let guest = Guest {
            wire: wire.clone(),
            who: who.clone(),
            watches,
            lags: self.guests.get(&id).is_some_and(|guest| guest.lags),
            position: 0,
            missed: 0,
            missed_to: 0,
            present: BTreeMap::new(),
            listing: false,
            keys: HashMap::new(),
            begun_at: None,
            allowance: u64::from(self.config.backlog.messages) + self.head() - at,
        };
        if self.guests.insert(id, guest).is_some_and(|earlier| earlier.lags) {
            self.all_stayed = false;
        }
        let (begin, effects) = self.room.join(self.now, id, who, wire, &join);
        assert_eq!((begin.at.value(), begin.recovered), (at, recovered), "{join:?}");
        self.settle(effects);
    }

    fn leave(&mut self) {
        let Some(id) = self.any_guest() else { return };
        self.forget(id);
        let (was, effects) = self.room.leave(self.now, id);
        assert!(was);
        self.settle(effects);
    }

    fn kick(&mut self) {
        let Some(id) = self.any_guest() else { return };
        self.forget(id);
        let (was, effects) = self.room.remove(self.now, id, "code", "message");
        assert!(was);
        self.settle(effects);
    }

    fn say(&mut self) {
        let text = self.rng.below(1 << 40).to_string();
        let key = (self.rng.below(3) == 0).then(|| format!("k{}", self.rng.below(3)));
        let except = if self.rng.below(6) == 0 { self.any_guest() } else { None };
        let saying = Saying { key: key.clone(), by: None, except };
        self.words.push(Word { text: text.clone(), key, except, said: self.now });
        let (at, _, effects) = self.room.say(self.now, &Body::from(text), &saying).unwrap();
        assert_eq!(at, Position { epoch: self.epoch, offset: Seq::new(self.head()).unwrap() });
        for (ended, _) in &effects.ended {
            let guest = &self.guests[ended];
            assert_eq!(self.config.slow, Slow::End);
            assert!(guest.lags || self.config.backlog.messages == 0);
        }
        self.settle(effects);
    }

    fn make_room(&mut self) {
        let Some(id) = self.any_guest() else { return };
        let room = self.rng.below(40) as usize;
        self.guests[&id].wire.0.borrow_mut().room = room;
    }

    fn tighten(&mut self) {
        let Some(id) = self.any_guest() else { return };
        self.guests[&id].wire.0.borrow_mut().room = 0;
    }

    fn drain(&mut self) {
        let Some(id) = self.any_guest() else { return };
        let before = self.guests[&id].wire.0.borrow().came.len();
        let was_lagging = self.guests[&id].lags;
        let (drained, effects) = self.room.drain(id);
        let guest = self.guests.get_mut(&id).unwrap();
        if drained == Drained::Done {
            guest.lags = false;
        } else {
            assert!(was_lagging, "who does not lag has nothing to drain");
            assert_eq!(guest.wire.0.borrow().room, 0, "there was room for more");
        }
        let came = guest.wire.0.borrow().came[before..].to_vec();
        let said = came
            .into_iter()
            .filter(|body| matches!(Notice::read(body.clone()), Read::Layer(Notice::Said(_))));
        assert!(said.count() as u64 <= guest.allowance, "a backlog was larger than its bound");
        self.settle(effects);
    }

    fn update(&mut self) {
        let Some(id) = self.any_guest() else { return };
        let tells = (self.rng.below(4) > 0).then(|| meta(self.rng.below(3)));
        let who = self.guests[&id].who.clone();
        self.there.get_mut(&who).unwrap().1 = tells.clone();
        let (was, effects) = self.room.update(id, tells.as_ref());
        assert!(was);
        self.settle(effects);
    }

    /// What the room finds out by itself with the next word: here it is provoked at once, so that the model may know.
    fn break_line(&mut self) {
        let Some(id) = self.any_guest() else { return };
        self.guests[&id].wire.0.borrow_mut().is_gone = true;
        self.forget(id);
        let effects = self.room.drain(id).1;
        self.settle(effects);
        if self.room.is_member(id) {
            // Nothing waited for it.
            self.words.push(Word { text: "x".into(), key: None, except: None, said: self.now });
            let effects = self.room.say(self.now, &Body::from("x"), &Saying::default()).unwrap().2;
            self.settle(effects);
        }
        assert!(!self.room.is_member(id));
    }

    fn forget(&mut self, id: SessionId) {
        let Some(guest) = self.guests.remove(&id) else { return };
        self.all_stayed &= !guest.lags;
        let there = self.there.get_mut(&guest.who).unwrap();
        there.0.remove(&id);
        if there.0.is_empty() {
            self.there.remove(&guest.who);
        }
    }

    fn settle(&mut self, effects: Effects<Wire>) {
        self.left_out += effects.left_out;
        for (id, _) in effects.ended {
            self.forget(id);
            assert!(!self.room.is_member(id));
        }
        for (id, _) in effects.lagging {
            if let Some(guest) = self.guests.get_mut(&id) {
                assert!(!guest.lags, "it is drained already");
                guest.lags = true;
            }
        }
    }

    /// Holds what came against what is.
    fn hold(&mut self) {
        let ids: Vec<_> = self.guests.keys().copied().collect();
        for id in ids {
            let came = std::mem::take(&mut self.guests[&id].wire.0.borrow_mut().came);
            for body in came {
                let Read::Layer(notice) = Notice::read(body) else { panic!("not the layer's") };
                self.receive(id, notice);
            }
            let guest = &self.guests[&id];
            assert!(self.room.is_member(id));
            if guest.lags {
                continue;
            }
            assert!(guest.begun_at.is_some(), "who does not lag has been told where it begins");
            let known = guest.position.max(guest.missed_to);
            assert_eq!(self.due(id, known, self.head()), 0, "who does not lag was told all");
            self.check_keys(id);
            if guest.watches {
                let there = self.there.iter().map(|(who, (_, meta))| (who.clone(), meta.clone()));
                assert_eq!(guest.present, there.collect(), "who does not lag knows who is there");
            }
        }
        let nobody_lags = self.guests.values().all(|guest| !guest.lags);
        assert!(self.told_missed <= self.left_out, "members were told of more than was left out");
        let untold = self.left_out - self.told_missed;
        assert!(!(nobody_lags && self.all_stayed && untold > 0), "{untold} left out and not told");
        let there: Vec<_> = self.room.present().into_iter().map(|member| member.who).collect();
        assert_eq!(there, self.there.keys().cloned().collect::<Vec<_>>());
        assert_eq!(self.room.len(), self.guests.len());
    }

    /// Where values are conflated, the latest of each key has come.
    fn check_keys(&self, id: SessionId) {
        let guest = &self.guests[&id];
        let begun = guest.begun_at.map_or(0, |(at, _)| at);
        if self.config.slow != Slow::Conflate || self.config.backlog.messages < 4 {
            return;
        }
        // With other words between them, keyed ones may be the oldest that are left out: then `missed` has said so.
        for (key, at) in &guest.keys {
            let newer = self.words.iter().enumerate().skip((*at).max(begun) as usize);
            let newer = newer.filter(|(_, word)| word.key.as_ref() == Some(key) && word.except != Some(id));
            let latest = newer.map(|(index, _)| index as u64 + 1).next_back();
            assert!(latest.is_none_or(|latest| latest <= guest.missed_to), "the latest value of {key}");
        }
    }

    fn receive(&mut self, id: SessionId, notice: Notice) {
        let due = |world: &Self, from, to| world.due(id, from, to);
        match notice {
            Notice::Begin(begin) => {
                let guest = self.guests.get_mut(&id).unwrap();
                assert!(guest.begun_at.is_none(), "a stream begins once");
                guest.begun_at = Some((begin.at.value(), begin.recovered));
                guest.position = begin.at.value();
            }
            Notice::Said(said) => {
                let at = said.at.value();
                let guest = &self.guests[&id];
                assert!(at > guest.position, "offsets rise");
                let between = due(self, guest.position, at - 1);
                assert_eq!(between, guest.missed, "what is missing before {at} is counted");
                let word = &self.words[(at - 1) as usize];
                assert_eq!((said.body, said.key), (Body::from(word.text.as_str()), word.key.clone()));
                assert_ne!(word.except, Some(id));
                let key = word.key.clone();
                let guest = self.guests.get_mut(&id).unwrap();
                (guest.position, guest.missed) = (at, 0);
                key.map(|key| guest.keys.insert(key, at));
            }
            Notice::Missed(missed) => {
                let to = missed.to.value();
                let guest = &self.guests[&id];
                assert!(to > guest.position.max(guest.missed_to));
                assert_eq!(missed.count + guest.missed, due(self, guest.position, to), "up to {to}");
                let guest = self.guests.get_mut(&id).unwrap();
                guest.missed += missed.count;
                self.told_missed += missed.count;
                guest.missed_to = to;
            }
            Notice::Present(list) => {
                let guest = self.guests.get_mut(&id).unwrap();
                assert_eq!(list.first, !guest.listing);
                if list.first {
                    guest.present.clear();
                }
                guest.listing = !list.last;
                guest.present.extend(list.members.into_iter().map(|member| (member.who, member.meta)));
            }
            Notice::Change(change) => {
                let present = &mut self.guests.get_mut(&id).unwrap().present;
                match change {
                    Change::Joined { member, .. } => {
                        assert!(present.insert(member.who, member.meta).is_none(), "it was not there");
                    }
                    Change::Updated { member, .. } => {
                        assert!(present.insert(member.who, member.meta).is_some(), "it was there");
                    }
                    Change::Gone { who, .. } => assert!(present.remove(&who).is_some(), "it was there"),
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_room_is_what_the_model_says_after_every_step() {
    let steps: u64 = std::env::var("STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(120_000);
    const EACH: u64 = 1_000;
    for seed in 0..steps.div_ceil(EACH) {
        let mut world = World::new(seed);
        for step in 0..EACH {
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.step()));
            assert!(run.is_ok(), "seed {seed}, step {step}, {:?}", world.config);
        }
    }
}
