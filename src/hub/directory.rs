//! The sessions that are served, by their ids and by their principals.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::frame::SessionId;
use crate::socket::{Principal, State};

use super::line::SocketLine;
use super::{Inner, lock};

/// The sessions that are served.
#[derive(Debug, Default)]
pub(super) struct Directory {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sessions: HashMap<SessionId, SocketLine>,
    principals: HashMap<Principal, Vec<SessionId>>,
    /// Those to whom kept messages are being delivered.
    leased: HashSet<Principal>,
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

    /// A session of a principal that has not ended.
    pub(super) fn any_open(&self, principal: &Principal) -> Option<SocketLine> {
        let is_open = |line: &SocketLine| !matches!(line.sender().state(), State::Closed { .. });
        self.of_principal(principal).into_iter().find(is_open)
    }

    pub(super) fn all(&self) -> Vec<SocketLine> {
        lock(&self.known).sessions.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.known).sessions.len()
    }
}

/// The right to deliver kept messages to a principal: one at a time has it, until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    hub: Arc<Inner>,
    principal: Principal,
}

impl Lease {
    pub(super) fn take(hub: &Arc<Inner>, principal: &Principal) -> Option<Self> {
        let is_free = lock(&hub.directory.known).leased.insert(principal.clone());
        is_free.then(|| Self { hub: Arc::clone(hub), principal: principal.clone() })
    }

    pub(super) fn of(&self) -> (&Arc<Inner>, &Principal) {
        (&self.hub, &self.principal)
    }

    /// Lets go of the right.
    pub(super) fn release(self) -> (Arc<Inner>, Principal) {
        (Arc::clone(&self.hub), self.principal.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.hub.directory.known).leased.remove(&self.principal);
    }
}
