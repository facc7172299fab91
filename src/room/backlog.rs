//! What waits for one member that lags.

use std::collections::{BTreeMap, HashMap};

use crate::frame::{Body, Seq, Window};

use super::Slow;

/// Something on its way to a member.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) payload: Body,
    /// Of a message: its offset. Anything else is never left out.
    pub(super) at: Option<Seq>,
    pub(super) key: Option<String>,
    /// It is told again to a joiner: the room for it was made when it joined.
    pub(super) again: bool,
}

impl Item {
    pub(super) fn said(at: Seq, payload: Body, key: Option<String>) -> Self {
        Self { payload, at: Some(at), key, again: false }
    }

    pub(super) fn notice(payload: Body) -> Self {
        Self { payload, at: None, key: None, again: false }
    }
}

/// Messages that are left out before another one: how many, and the offset of the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) count: u64,
    pub(super) to: Seq,
}

impl Gap {
    fn one(at: Seq) -> Self {
        Self { count: 1, to: at }
    }

    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.to = self.to.max(other.to);
    }

    pub(super) fn is_none(self) -> bool {
        self.count == 0
    }
}

#[derive(Debug)]
struct Waiting {
    /// What was left out before it.
    gap: Gap,
    item: Item,
}

/// What waits for one member, in order, within bounds.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// The latest of each key.
    keys: HashMap<String, u64>,
    messages: u64,
    bytes: u64,
    max_messages: u64,
    max_bytes: u64,
    /// What was left out behind all that waits.
    gap: Gap,
    /// How many messages were left out, until it is taken.
    pub(super) left_out: u64,
    /// Differences of presence were left out: the list is to be sent at the end.
    pub(super) is_stale: bool,
}

impl Backlog {
    pub(super) fn new(bound: Window) -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
            keys: HashMap::new(),
            messages: 0,
            bytes: 0,
            max_messages: u64::from(bound.messages),
            max_bytes: bound.bytes,
            gap: Gap::default(),
            left_out: 0,
            is_stale: false,
        }
    }

    /// Takes something in. False: there is no room, and the member is to be ended.
    pub(super) fn push(&mut self, item: Item, slow: Slow) -> bool {
        let size = item.payload.len() as u64;
        let Some(at) = item.at else {
            self.keep(item);
            return true;
        };
        if item.again {
            self.max_messages = self.max_messages.saturating_add(1);
            self.max_bytes = self.max_bytes.saturating_add(size);
        }
        if let (Slow::Conflate, Some(key)) = (slow, &item.key) {
            if let Some(older) = self.keys.get(key).copied() {
                self.leave_out(older);
            }
        }
        while self.messages >= self.max_messages || self.bytes.saturating_add(size) > self.max_bytes {
            let oldest = self.waiting.iter().find(|(_, waiting)| waiting.item.at.is_some());
            match oldest.map(|(number, _)| *number) {
                _ if slow == Slow::End => return false,
                Some(oldest) => self.leave_out(oldest),
                None => {
                    self.leave_out_one(at);
                    return true;
                }
            }
        }
        self.messages += 1;
        self.bytes += size;
        self.keep(item);
        true
    }

    fn keep(&mut self, item: Item) {
        if let Some(key) = &item.key {
            self.keys.insert(key.clone(), self.next);
        }
        let gap = std::mem::take(&mut self.gap);
        self.waiting.insert(self.next, Waiting { gap, item });
        self.next += 1;
    }

    /// A message is left out that never waited.
    pub(super) fn leave_out_one(&mut self, at: Seq) {
        self.left_out += 1;
        self.gap.add(Gap::one(at));
    }

    fn leave_out(&mut self, number: u64) {
        let Some(Waiting { mut gap, item }) = self.remove(number) else { return };
        if let Some(at) = item.at {
            self.left_out += 1;
            gap.add(Gap::one(at));
        }
        let behind = self.waiting.range_mut(number..).next().map(|(_, waiting)| &mut waiting.gap);
        behind.unwrap_or(&mut self.gap).add(gap);
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        if waiting.item.at.is_some() {
            self.messages -= 1;
            self.bytes -= waiting.item.payload.len() as u64;
        }
        if let Some(key) = &waiting.item.key {
            if self.keys.get(key) == Some(&number) {
                self.keys.remove(key);
            }
        }
        Some(waiting)
    }

    /// What was left out before all that waits.
    pub(super) fn gap(&self) -> Gap {
        self.waiting.first_key_value().map_or(self.gap, |(_, waiting)| waiting.gap)
    }

    /// The member has been told of [`Backlog::gap`].
    pub(super) fn told_gap(&mut self) {
        match self.waiting.first_entry() {
            Some(mut first) => first.get_mut().gap = Gap::default(),
            None => self.gap = Gap::default(),
        }
    }

    /// What waits longest.
    pub(super) fn front(&self) -> Option<&Item> {
        self.waiting.first_key_value().map(|(_, waiting)| &waiting.item)
    }

    /// It was sent.
    pub(super) fn pop(&mut self) {
        let first = self.waiting.first_key_value().map(|(number, _)| *number);
        first.and_then(|first| self.remove(first));
    }

    /// It can never be sent.
    pub(super) fn refuse(&mut self) {
        let first = self.waiting.first_key_value().map(|(number, _)| *number);
        first.into_iter().for_each(|first| self.leave_out(first));
    }
}
