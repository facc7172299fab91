//! How long a step of opening a transport may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The most that a step comes to have.
const LONGEST: Duration = Duration::from_secs(15);

/// How long a step of opening a transport may take: the token, the connection, a handshake.
///
/// On a network that has become slow a step may need longer than is usual. So it has up to a quarter of the time that is lost
/// anyway, and three round trips where those are known. What dials for one client shares it.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    usual: Duration,
    /// What is added, in milliseconds.
    more: Arc<AtomicU64>,
}

impl Patience {
    pub(super) fn new(usual: Duration) -> Self {
        Self { usual, more: Arc::default() }
    }

    pub(super) fn get(&self) -> Duration {
        self.usual.saturating_add(Duration::from_millis(self.more.load(Ordering::Relaxed)))
    }

    /// From now on it is right for a client that has had no transport for so long, where a round trip takes so long.
    pub(super) fn adapt(&self, adrift: Duration, round_trip: Duration) {
        let wanted = (adrift / 4).max(round_trip.saturating_mul(3)).min(LONGEST);
        let more = wanted.saturating_sub(self.usual).as_millis();
        self.more.store(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_the_time_that_is_lost_and_with_what_a_round_trip_takes() {
        let given = |usual, adrift, round_trip| {
            let patience = Patience::new(Duration::from_secs(usual));
            patience.clone().adapt(Duration::from_secs(adrift), Duration::from_secs(round_trip));
            patience.get().as_secs()
        };
        assert_eq!(given(5, 0, 0), 5);
        assert_eq!(
            [(20, 1), (40, 1), (40, 4), (1000, 1), (0, 9)].map(|(adrift, trip)| given(5, adrift, trip)),
            [5, 10, 12, 15, 15]
        );
        assert_eq!(given(20, 1000, 9), 20);
    }
}
