//! What was learned of a network, and where it is kept for the next session there.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::frame::TransportKind;

/// How long a finding holds (`docs/PROTOCOL.md`, "Switching").
pub(super) const FINDINGS_HOLD: Duration = Duration::from_secs(600);

/// How many networks the store in memory knows; one more drops the one that was written longest ago.
const MAX_NETWORKS: usize = 64;

/// Keeps what clients learn of networks, so that the next session there does not learn it again.
///
/// An application supplies one to keep it over restarts of the process, or apart for some clients. Nothing in it is
/// secret, and nothing in it is needed: a store may forget at any time. What is too old is not used.
///
/// The calls are made from async code: they must not block.
pub trait Verdicts: Send + Sync {
    /// What was learned of a network. The name is that of the server's origin and of the network.
    fn load(&self, network: &str) -> Option<Findings>;

    /// Keeps what was learned of a network, in place of what was kept.
    fn save(&self, network: &str, findings: &Findings);
}

/// What was learned of a network: at most one [`Finding`] for each kind of transport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

/// What was learned of one kind of transport on one network. A time beside a value says since when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which.
    pub transport: TransportKind,
    /// Until when it is tried after the others: it failed where another worked, or did not last.
    pub demoted_until: Option<SystemTime>,
    /// After how much silence the client pings, because the path dies of more.
    pub ping_after: Option<(Duration, SystemTime)>,
    /// The longest that a poll may be held.
    pub longest_hold: Option<(Duration, SystemTime)>,
    /// At which age a path dies.
    pub age: Option<(Duration, SystemTime)>,
}

impl Finding {
    /// Nothing is known of this transport yet.
    pub fn new(transport: TransportKind) -> Self {
        Self { transport, demoted_until: None, ping_after: None, longest_hold: None, age: None }
    }
}

impl Findings {
    /// One finding for each kind of which anything is known.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// The finding of a kind, made if there is none.
    pub fn of(&mut self, transport: TransportKind) -> &mut Finding {
        let at = self.0.iter().position(|finding| finding.transport == transport).unwrap_or_else(|| {
            self.0.push(Finding::new(transport));
            self.0.len() - 1
        });
        &mut self.0[at]
    }
}

/// A time of the wall clock on the clock that only goes forward, as far as that can tell.
pub(super) fn instant_of(time: SystemTime, clock: SystemTime, now: Instant) -> Instant {
    match time.duration_since(clock) {
        Ok(ahead) => now.checked_add(ahead),
        Err(behind) => now.checked_sub(behind.duration()),
    }
    .unwrap_or(now)
}

/// The reverse.
pub(super) fn moment_of(instant: Instant, clock: SystemTime, now: Instant) -> SystemTime {
    let ahead = instant.saturating_duration_since(now);
    let behind = now.saturating_duration_since(instant);
    clock.checked_add(ahead).and_then(|clock| clock.checked_sub(behind)).unwrap_or(clock)
}

/// Keeps verdicts in memory, of the 64 networks that were written last.
#[derive(Debug, Default)]
pub struct MemoryVerdicts {
    networks: Mutex<VecDeque<(String, Findings)>>,
}

impl MemoryVerdicts {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store that all clients of this process share that are given no other.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<MemoryVerdicts>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(Arc::default))
    }
}

impl Verdicts for MemoryVerdicts {
    fn load(&self, network: &str) -> Option<Findings> {
        let networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.iter().find(|known| known.0 == network).map(|known| known.1.clone())
    }

    fn save(&self, network: &str, findings: &Findings) {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.retain(|known| known.0 != network);
        if findings.0.is_empty() {
            return;
        }
        if networks.len() >= MAX_NETWORKS {
            networks.pop_front();
        }
        networks.push_back((network.to_owned(), findings.clone()));
    }
}

/// Names the network that the process is in now.
pub(super) type Namer = Arc<dyn Fn() -> String + Send + Sync>;

/// The network that a client is in: what is known of it, and where that is kept.
#[derive(Clone, Default)]
pub(super) struct Network {
    pub(super) origin: String,
    pub(super) namer: Option<Namer>,
    pub(super) store: Option<Arc<dyn Verdicts>>,
    /// Its name when it was entered: what is found out before anybody has heard that it is another one is of this one.
    pub(super) name: String,
}

impl Network {
    /// Asks for its name: it is another one, perhaps.
    pub(super) fn enter(&mut self) {
        self.name = match &self.namer {
            Some(namer) => format!("{} {}", self.origin, namer()),
            None => self.origin.clone(),
        };
    }

    pub(super) fn load(&self) -> Findings {
        let store = self.store.as_ref();
        store.and_then(|store| store.load(&self.name)).unwrap_or_default()
    }

    pub(super) fn save(&self, findings: &Findings) {
        if let Some(store) = &self.store {
            store.save(&self.name, findings);
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_memory_knows_the_networks_that_were_written_last() {
        let store = MemoryVerdicts::new();
        for network in 0..=MAX_NETWORKS {
            let mut findings = Findings::default();
            findings.of(TransportKind::Sse).demoted_until = Some(SystemTime::now());
            store.save(&network.to_string(), &findings);
        }
        assert_eq!(store.load("0"), None);
        assert!(store.load("1").is_some());
        store.save("1", &Findings::default());
        assert_eq!(store.load("1"), None, "nothing is known, and nothing is kept");
    }

    #[test]
    fn a_network_is_its_name_at_an_origin() {
        let store: Arc<dyn Verdicts> = Arc::new(MemoryVerdicts::new());
        let at = |origin: &str, name: Option<&'static str>| {
            let mut network = Network {
                origin: origin.to_owned(),
                namer: name.map(|name| Arc::new(move || name.to_owned()) as Namer),
                store: Some(Arc::clone(&store)),
                name: String::new(),
            };
            network.enter();
            network
        };
        let mut findings = Findings::default();
        findings.of(TransportKind::Sse);
        at("a", Some("home")).save(&findings);
        assert_eq!(at("a", Some("home")).load(), findings);
        for other in [at("a", Some("office")), at("b", Some("home")), at("a", None)] {
            assert_eq!(other.load(), Findings::default());
        }
    }

    #[test]
    fn a_time_survives_the_way_over_the_wall_clock() {
        let (clock, now) = (SystemTime::now(), Instant::now());
        let hour = Duration::from_secs(3600);
        for instant in [now + hour, now] {
            assert_eq!(instant_of(moment_of(instant, clock, now), clock, now), instant);
        }
        assert_eq!(instant_of(clock + hour, clock + hour, now), now);
    }
}
