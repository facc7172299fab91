//! What was said in a room, as far back as is kept.

use std::collections::VecDeque;
use std::time::Instant;

use crate::frame::{Body, Json, Seq, SessionId};

use super::Keep;
use super::backlog::Item;

/// Something that was said.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: Seq,
    pub(super) said: Instant,
    /// As it goes out, shared with all who are still to get it.
    pub(super) payload: Body,
    pub(super) key: Option<String>,
    /// Who was not told, and is not told later.
    pub(super) except: Option<SessionId>,
}

impl Entry {
    /// As it is told again.
    pub(super) fn replayed(&self) -> Item {
        Item { again: true, ..Item::said(self.at, self.payload.clone(), self.key.clone()) }
    }

    /// In JSON, whatever it is.
    pub(super) fn as_json(&self) -> Json {
        match &self.payload {
            Body::Json(json) => json.clone(),
            // A string always has a JSON form; the default stands for nothing.
            Body::Binary(bytes) => {
                Json::of(&data_encoding::BASE64.encode(bytes)).unwrap_or_else(|_| Json::null())
            }
        }
    }
}

/// The latest that was said, without gaps.
#[derive(Debug)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    bytes: usize,
    keep: Keep,
}

impl Log {
    pub(super) fn new(keep: Keep) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, keep }
    }

    pub(super) fn push(&mut self, now: Instant, entry: Entry) {
        if self.keep.keeps() {
            self.bytes = self.bytes.saturating_add(entry.payload.len());
            self.entries.push_back(entry);
            self.trim(now);
        }
    }

    /// Lets go of what is beyond a bound.
    pub(super) fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.entries.front() {
            let is_old = now.saturating_duration_since(oldest.said) >= self.keep.age;
            if !is_old && self.entries.len() <= self.keep.messages && self.bytes <= self.keep.bytes {
                break;
            }
            self.bytes = self.bytes.saturating_sub(oldest.payload.len());
            self.entries.pop_front();
        }
    }

    /// The offset of the oldest that is kept.
    pub(super) fn first(&self) -> Option<Seq> {
        self.entries.front().map(|entry| entry.at)
    }

    /// The offset behind which at most so many lie.
    pub(super) fn back(&self, head: Seq, count: u32) -> Seq {
        let count = (count as usize).min(self.entries.len()) as u64;
        Seq::new(head.value().saturating_sub(count)).unwrap_or(head)
    }

    /// What was said behind an offset and is kept.
    pub(super) fn after(&self, offset: Seq) -> impl Iterator<Item = &Entry> {
        let from = self.entries.partition_point(|entry| entry.at <= offset);
        self.entries.range(from..)
    }
}
