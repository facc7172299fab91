//! The times that a session keeps.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Nothing but a token lasts longer.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A time, in nanoseconds since its session began: half of what an `Instant` takes, and no more where it may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(NonZeroU64);

impl Moment {
    /// When the session began, and anything before.
    pub(super) const BEGIN: Self = Self(NonZeroU64::MIN);

    pub(super) fn new(began: Instant, now: Instant) -> Self {
        Self::BEGIN.plus(now.saturating_duration_since(began))
    }

    /// The same as an `Instant`; `None` beyond what can be told.
    pub(super) fn instant(self, began: Instant) -> Option<Instant> {
        began.checked_add(self.since(Self::BEGIN))
    }

    pub(super) fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long it is after an earlier one; nothing if it is not after it.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

/// The time so much later. Nothing here waits longer than a day.
pub(super) fn later(now: Moment, wait: Duration) -> Moment {
    now.plus(wait.min(LONGEST))
}
