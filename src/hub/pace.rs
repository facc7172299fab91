//! How often a session may ask for something.

use std::time::{Duration, Instant};

/// How often one session may ask for operations of rooms: joins, publications, history and the rest, but for leaving. What
/// comes too often is refused with the code `too_often` before anybody is asked about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationRate {
    /// So many at once. Default: 500, so that a client of many rooms may take them all up again. Zero allows nothing.
    pub burst: u32,
    /// And so many more in each second. Default: 100.
    pub per_second: u32,
}

impl Default for OperationRate {
    fn default() -> Self {
        Self { burst: 500, per_second: 100 }
    }
}

/// How often one session has asked.
#[derive(Debug)]
pub(super) struct Pace {
    /// As though it had asked without a break up to here.
    spent: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { spent: None }
    }

    /// Counts an operation, unless it comes too often.
    pub(super) fn allows(&mut self, rate: OperationRate, now: Instant) -> bool {
        let each = Duration::from_secs(1).checked_div(rate.per_second);
        // None is ever added to the first ones: an hour stands for it, and begins anew with each.
        let each = each.unwrap_or(Duration::from_secs(3_600));
        let spent = self.spent.map_or(now, |spent| spent.max(now)) + each;
        let is_allowed = spent.saturating_duration_since(now) <= each.saturating_mul(rate.burst);
        if is_allowed {
            self.spent = Some(spent);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(pace: &mut Pace, rate: OperationRate, now: Instant) -> usize {
        (0..1_000).filter(|_| pace.allows(rate, now)).count()
    }

    #[test]
    fn a_burst_is_allowed_and_then_so_many_in_each_second() {
        let (mut pace, begun) = (Pace::new(), Instant::now());
        let rate = OperationRate { burst: 5, per_second: 10 };
        let at = |milliseconds| begun + Duration::from_millis(milliseconds);
        assert_eq!(allowed(&mut pace, rate, at(0)), 5);
        assert_eq!(allowed(&mut pace, rate, at(99)), 0);
        assert_eq!(allowed(&mut pace, rate, at(100)), 1);
        assert_eq!(allowed(&mut pace, rate, at(400)), 3);
        // What is not asked is not saved up beyond the burst.
        assert_eq!(allowed(&mut pace, rate, at(60_000)), 5);
        assert_eq!(allowed(&mut pace, rate, at(59_000)), 0, "a clock that goes back allows nothing");
    }

    #[test]
    fn zeros_allow_nothing_or_nothing_more() {
        let now = Instant::now();
        assert_eq!(allowed(&mut Pace::new(), OperationRate { burst: 0, per_second: 10 }, now), 0);
        let mut once = Pace::new();
        let rate = OperationRate { burst: 3, per_second: 0 };
        assert_eq!(allowed(&mut once, rate, now), 3);
        assert_eq!(allowed(&mut once, rate, now + Duration::from_secs(60)), 0);
    }
}
