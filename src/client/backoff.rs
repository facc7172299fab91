//! How long to wait before the next attempt.
//!
//! Exponential backoff with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015): uniform
//! between nothing and a ceiling that doubles, so that clients which lost one server do not come back in step.
//! Where nobody answers, attempts take long by themselves, and no ceiling is above a quarter of the time that is lost
//! already: after a tunnel of 40 s nobody waits for another 30.
//! Randomness comes in as a number; this knows neither a clock nor a random source.

use std::time::Duration;

/// The longest wait that a server can impose by `Retry-After` or `retry_after_ms`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The jitter of a reconnect that is made at once: clients of one server that restarts do not arrive together.
const AT_ONCE_JITTER: Duration = Duration::from_millis(100);

/// An attempt that took so long was not refused: nobody answered it.
const UNANSWERED: Duration = Duration::from_secs(1);

/// The bounds of the pauses between attempts.
///
/// A pause is uniform between zero and `min(cap, base * 2^n)` after `n` failures before. Behind an attempt that nobody answered
/// (it took a second or more) the two are at most a quarter of the time for which nothing has carried the session, or the pause is
/// at most the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Default for Backoff {
    /// Base 500 ms, cap 30 s.
    fn default() -> Self {
        Self { base: Duration::from_millis(500), cap: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The ceiling of the first pause. Default: 500 ms.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The highest ceiling. Default: 30 s.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// The pause after so many failures before this one. `random` is uniform over all of `u64`.
    pub fn pause(&self, failures: u32, random: u64) -> Duration {
        uniform(self.ceiling(failures), random)
    }

    fn ceiling(&self, failures: u32) -> Duration {
        self.base.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.cap)
    }

    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.base.is_zero() {
            Some(("backoff.base", "must be above zero"))
        } else if self.cap < self.base {
            Some(("backoff.cap", "must be at least the base"))
        } else {
            None
        }
    }
}

/// A duration uniform between zero and a ceiling, both included.
pub(super) fn uniform(ceiling: Duration, random: u64) -> Duration {
    let span = ceiling.as_nanos().saturating_add(1).min(u128::from(u64::MAX));
    let nanos = (span * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// An attempt that failed, on one transport or on several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    pub(super) took: Duration,
    /// For how long nothing has carried the session.
    pub(super) adrift: Duration,
}

/// The pauses of one client, in sequence.
#[derive(Debug)]
pub(super) struct Pauses {
    backoff: Backoff,
    failures: u32,
    /// Whether a loss was answered at once already, and nothing has lived since.
    hurried: bool,
}

impl Pauses {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, hurried: false }
    }

    /// Notes that a connection has lived for a while.
    pub(super) fn reset(&mut self) {
        (self.failures, self.hurried) = (0, false);
    }

    /// The pause after what worked was lost: nearly none the first time.
    pub(super) fn after_loss(&mut self, at_least: Option<Duration>, random: u64) -> Duration {
        if self.hurried || self.failures > 0 || at_least.is_some() {
            return self.after_failure(Attempt::default(), at_least, random);
        }
        self.hurried = true;
        uniform(AT_ONCE_JITTER, random)
    }

    /// The pause after an attempt failed, on top of what the server asks for.
    pub(super) fn after_failure(
        &mut self,
        Attempt { took, adrift }: Attempt,
        at_least: Option<Duration>,
        random: u64,
    ) -> Duration {
        let mut ceiling = self.backoff.ceiling(self.failures);
        if took >= UNANSWERED {
            ceiling = ceiling.min((adrift / 4).saturating_sub(took).max(self.backoff.base));
        }
        let pause = uniform(ceiling, random);
        self.failures = self.failures.saturating_add(1);
        at_least.unwrap_or_default().min(MAX_RETRY_AFTER).saturating_add(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const HALF: u64 = 1 << 63;
    const REFUSED: Attempt = Attempt { took: Duration::ZERO, adrift: Duration::ZERO };

    #[test]
    fn ceilings_double_up_to_the_cap_and_pauses_are_uniform_below() {
        let backoff = Backoff::default();
        for (failures, ceiling) in [(0, 500), (1, 1000), (2, 2000), (5, 16_000), (6, 30_000), (4_000, 30_000)]
        {
            assert_eq!(backoff.pause(failures, u64::MAX), ceiling * MS);
            assert_eq!(backoff.pause(failures, HALF), ceiling * MS / 2);
            assert_eq!(backoff.pause(failures, 0), Duration::ZERO);
        }
    }

    #[test]
    fn the_longest_durations_do_not_overflow() {
        let backoff = Backoff::default().base(Duration::MAX).cap(Duration::MAX);
        assert!(backoff.pause(u32::MAX, u64::MAX) > Duration::from_secs(86_400));
    }

    #[test]
    fn the_first_loss_is_answered_at_once_and_the_next_by_backoff() {
        let mut pauses = Pauses::new(Backoff::default());
        assert_eq!(pauses.after_loss(None, u64::MAX), 100 * MS);
        assert_eq!(pauses.after_loss(None, u64::MAX), 500 * MS);
        assert_eq!(pauses.after_loss(None, u64::MAX), 1000 * MS);
        pauses.reset();
        assert_eq!(pauses.after_loss(None, HALF), 50 * MS);
    }

    #[test]
    fn a_failure_never_counts_as_a_loss() {
        let mut pauses = Pauses::new(Backoff::default());
        assert_eq!(pauses.after_failure(REFUSED, None, u64::MAX), 500 * MS);
        assert_eq!(pauses.after_loss(None, u64::MAX), 1000 * MS);
    }

    #[test]
    fn where_nobody_answers_an_attempt_and_its_pause_take_a_quarter_of_what_is_lost_already() {
        let mut pauses = Pauses::new(Backoff::default());
        let hung = |adrift| Attempt { took: 5000 * MS, adrift: adrift * MS };
        for (adrift, longest) in
            [(5_000, 500), (10_000, 500), (21_000, 500), (24_000, 1000), (32_000, 3000), (52_000, 8000)]
        {
            assert_eq!(pauses.after_failure(hung(adrift), None, u64::MAX), longest * MS, "{adrift}");
        }
        assert_eq!(pauses.after_failure(hung(600_000), None, u64::MAX), 30_000 * MS, "the cap");
        assert_eq!(pauses.after_failure(hung(400), None, u64::MAX), 500 * MS, "the base");
        assert_eq!(
            pauses.after_failure(hung(40_000), Some(7000 * MS), u64::MAX),
            12_000 * MS,
            "on top of what is asked for"
        );
        assert_eq!(
            pauses.after_failure(REFUSED, None, u64::MAX),
            30_000 * MS,
            "a server that answers is spared"
        );
    }

    #[test]
    fn what_the_server_asks_for_is_waited_and_bounded() {
        let mut pauses = Pauses::new(Backoff::default());
        assert_eq!(pauses.after_failure(REFUSED, Some(7000 * MS), HALF), 7250 * MS);
        assert_eq!(pauses.after_loss(Some(2000 * MS), 0), 2000 * MS);
        assert_eq!(pauses.after_failure(REFUSED, Some(Duration::MAX), 0), MAX_RETRY_AFTER);
    }

    #[test]
    fn impossible_bounds_are_named() {
        assert_eq!(Backoff::default().fault(), None);
        assert_eq!(Backoff::default().base(Duration::ZERO).fault().unwrap().0, "backoff.base");
        assert_eq!(Backoff::default().cap(MS).fault().unwrap().0, "backoff.cap");
    }
}
