//! The sessions that are served, by their ids and by their principals.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::frame::SessionId;
use crate::socket::Principal;

use super::line::SocketLine;
use super::lock;

/// The sessions that are served.
#[derive(Debug, Default)]
pub(super) struct Directory {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sessions: HashMap<SessionId, SocketLine>,
    principals: HashMap<Principal, Vec<SessionId>>,
}

impl Directory {
    pub(super) fn enter(&self, id: SessionId, line: SocketLine) {
        let mut known = lock(&self.known);
        if let Some(principal) = line.sender().principal() {
            known.principals.entry(principal.clone()).or_default().push(id);
        }
        known.sessions.insert(id, line);
    }

    pub(super) fn leave(&self, id: SessionId) {
        let mut known = lock(&self.known);
        let Some(line) = known.sessions.remove(&id) else { return };
        let Some(principal) = line.sender().principal() else { return };
        if let Some(ids) = known.principals.get_mut(principal) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                known.principals.remove(principal);
            }
        }
    }

    pub(super) fn by_id(&self, id: SessionId) -> Option<SocketLine> {
        lock(&self.known).sessions.get(&id).cloned()
    }

    pub(super) fn of_principal(&self, principal: &Principal) -> Vec<SocketLine> {
        let known = lock(&self.known);
        let ids = known.principals.get(principal).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| known.sessions.get(id).cloned()).collect()
    }

    pub(super) fn all(&self) -> Vec<SocketLine> {
        lock(&self.known).sessions.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.known).sessions.len()
    }
}
