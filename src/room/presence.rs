//! Who is there: one member for each principal, however many sessions it has.

use std::collections::{BTreeMap, HashSet};

use crate::frame::{Body, Json, SessionId};
use crate::room::payload::{Change, Member, Notice, Present, Who};

/// How many bytes of members one payload of a list holds, about: lists of large rooms are sent in parts.
const PART: usize = 32 << 10;

#[derive(Debug, Default)]
struct There {
    sessions: HashSet<SessionId>,
    meta: Option<Json>,
}

/// Who is there.
#[derive(Debug, Default)]
pub(super) struct Presence {
    there: BTreeMap<Who, There>,
}

impl Presence {
    /// A session comes. What it tells takes the place of what an earlier session of the same principal told.
    pub(super) fn enter(&mut self, who: &Who, id: SessionId, meta: Option<&Json>) -> Option<Change> {
        let there = self.there.entry(who.clone()).or_default();
        let is_new = there.sessions.is_empty();
        there.sessions.insert(id);
        let differs = meta.is_some() && there.meta.as_ref() != meta;
        if differs {
            there.meta = meta.cloned();
        }
        let member = Member { who: who.clone(), meta: there.meta.clone() };
        match (is_new, differs) {
            (true, _) => Some(Change::Joined { room: String::new(), member }),
            (false, true) => Some(Change::Updated { room: String::new(), member }),
            (false, false) => None,
        }
    }

    /// A member tells something else of itself.
    pub(super) fn update(&mut self, who: &Who, meta: Option<&Json>) -> Option<Change> {
        let there = self.there.get_mut(who).filter(|there| there.meta.as_ref() != meta)?;
        there.meta = meta.cloned();
        let member = Member { who: who.clone(), meta: meta.cloned() };
        Some(Change::Updated { room: String::new(), member })
    }

    /// A session goes.
    pub(super) fn leave(&mut self, who: &Who, id: SessionId) -> Option<Change> {
        let there = self.there.get_mut(who)?;
        there.sessions.remove(&id);
        if !there.sessions.is_empty() {
            return None;
        }
        self.there.remove(who);
        Some(Change::Gone { room: String::new(), who: who.clone() })
    }

    pub(super) fn members(&self) -> impl Iterator<Item = Member> {
        self.there.iter().map(|(who, there)| Member { who: who.clone(), meta: there.meta.clone() })
    }

    /// All who are there, in as many payloads as it takes.
    pub(super) fn list(&self, room: &str) -> Vec<Body> {
        let mut parts = vec![Vec::new()];
        let mut size = 0;
        for member in self.members() {
            let name = if let Who::Principal(name) = &member.who { name.len() } else { 22 };
            size += 32 + name + member.meta.as_ref().map_or(0, |meta| meta.as_bytes().len());
            if size > PART {
                size = 0;
                parts.push(Vec::new());
            }
            if let Some(part) = parts.last_mut() {
                part.push(member);
            }
        }
        let count = parts.len();
        let parts = parts.into_iter().enumerate().map(|(at, members)| Present {
            room: room.to_owned(),
            members,
            first: at == 0,
            last: at + 1 == count,
        });
        parts.filter_map(|part| Notice::Present(part).write().ok()).collect()
    }
}
