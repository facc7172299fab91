//! What requests have found out about their path.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How often in a row a message that goes alone may be refused before it is clear that it cannot pass.
const REFUSALS: u32 = 6;

/// What a request may hold at least, however many were lost.
const LEAST: usize = 1 << 10;

/// From here on nothing needs to be held back.
const ENOUGH: usize = 1 << 20;

/// What requests have found out about their path: what passes in one, and how long a round trip takes.
///
/// It is shared by the endpoints of one client, so that what one attachment has learned the next one knows.
#[derive(Debug)]
pub struct PathNotes {
    /// The size from which on a request takes no more frames: boxes on the way refuse larger bodies by `413`, or cut the
    /// connection.
    bytes: AtomicUsize,
    /// The same for now, because larger ones were lost: it grows as others are answered.
    cautious: AtomicUsize,
    /// How many bodies with messages were lost, in a row.
    lost_in_a_row: AtomicU32,
    /// How many messages were refused that went alone, in a row.
    refusals: AtomicU32,
    /// The last two round trips in microseconds.
    last_trip: AtomicU64,
    trip_before: AtomicU64,
}

impl Default for PathNotes {
    /// Nothing is known: the limits of both ends are all that counts.
    fn default() -> Self {
        let none = || AtomicUsize::new(usize::MAX);
        let no_trip = || AtomicU64::new(u64::MAX);
        Self {
            bytes: none(),
            cautious: none(),
            lost_in_a_row: AtomicU32::new(0),
            refusals: AtomicU32::new(0),
            last_trip: no_trip(),
            trip_before: no_trip(),
        }
    }
}

impl PathNotes {
    /// Whether a body of so many bytes, if it is not empty, is to take no more.
    pub(super) fn is_reached(&self, bytes: usize) -> bool {
        let most = self.bytes.load(Ordering::Relaxed).min(self.cautious.load(Ordering::Relaxed));
        bytes > 0 && bytes >= most
    }

    /// Notes that a body of so many bytes was refused.
    pub(super) fn lower(&self, bytes: usize) {
        // What is fed last may be large: half of what was fed before it is little enough soon.
        let ceiling = self.bytes.load(Ordering::Relaxed).min(bytes) / 2;
        tracing::debug!(bytes, ceiling, "a request was too large for a box on the way");
        self.bytes.store(ceiling, Ordering::Relaxed);
    }

    /// Notes that a body of so many bytes and messages was lost.
    pub(super) fn lost(&self, bytes: usize, messages: usize) {
        self.lost_in_a_row.fetch_add(1, Ordering::Relaxed);
        if messages == 1 {
            return;
        }
        let ceiling = (self.cautious.load(Ordering::Relaxed).min(bytes) / 2).max(LEAST);
        self.cautious.store(ceiling, Ordering::Relaxed);
    }

    /// How many bodies with messages were lost since one was answered.
    pub(super) fn lost_in_a_row(&self) -> u32 {
        self.lost_in_a_row.load(Ordering::Relaxed)
    }

    /// Notes that a body of so many bytes was answered: a little more may pass as well.
    pub(super) fn answered(&self, bytes: usize) {
        self.lost_in_a_row.store(0, Ordering::Relaxed);
        let ceiling = self.cautious.load(Ordering::Relaxed);
        if bytes >= ceiling {
            let grown = ceiling.saturating_add(ceiling / 8);
            self.cautious.store(if grown < ENOUGH { grown } else { usize::MAX }, Ordering::Relaxed);
        }
    }

    /// Notes that a message was refused although it was the only one: from now on nothing goes with another. Says whether
    /// it is hopeless.
    pub(super) fn refused_alone(&self) -> bool {
        // A message that is behind `hello` must not stop that.
        self.bytes.store(1, Ordering::Relaxed);
        self.refusals.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSALS
    }

    /// Nothing is known any more: the path is another one.
    pub fn forget(&self) {
        self.bytes.store(usize::MAX, Ordering::Relaxed);
        self.cautious.store(usize::MAX, Ordering::Relaxed);
        self.last_trip.store(u64::MAX, Ordering::Relaxed);
        self.trip_before.store(u64::MAX, Ordering::Relaxed);
        self.lost_in_a_row.store(0, Ordering::Relaxed);
        self.passed();
    }

    /// Notes that a message has passed.
    pub(super) fn passed(&self) {
        self.refusals.store(0, Ordering::Relaxed);
    }

    /// Notes how long a request took to its answer.
    pub fn took(&self, trip: Duration) {
        let trip = u64::try_from(trip.as_micros()).unwrap_or(u64::MAX);
        self.trip_before.store(self.last_trip.swap(trip, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The shorter of the last two round trips, for one alone may have waited in a queue; none where no request was
    /// answered.
    pub fn least_trip(&self) -> Option<Duration> {
        let least = self.last_trip.load(Ordering::Relaxed).min(self.trip_before.load(Ordering::Relaxed));
        (least != u64::MAX).then(|| Duration::from_micros(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_halves_what_goes_together_down_to_one_message() {
        let notes = PathNotes::default();
        assert!(!notes.is_reached(1 << 40));
        notes.lower(100_000);
        assert!(notes.is_reached(50_000) && !notes.is_reached(49_999));
        notes.lower(90_000);
        assert!(notes.is_reached(25_000) && !notes.is_reached(24_999));
        (0..20).for_each(|_| notes.lower(60_000));
        assert!(notes.is_reached(1) && !notes.is_reached(0));
    }

    #[test]
    fn what_is_lost_is_halved_and_what_is_answered_lets_it_grow() {
        let notes = PathNotes::default();
        notes.lost(20_000, 2);
        assert!(notes.is_reached(10_000) && !notes.is_reached(9_999));
        notes.answered(9_000);
        assert!(notes.is_reached(10_000), "it was smaller than it might have been");
        notes.answered(10_100);
        assert!(!notes.is_reached(11_000) && notes.is_reached(11_250));
        (0..20).for_each(|_| notes.lost(60_000, 3));
        assert!(notes.is_reached(LEAST) && !notes.is_reached(LEAST - 1));
        (0..70).for_each(|_| notes.answered(1 << 20));
        assert!(!notes.is_reached(1 << 30), "nothing is left of it");
    }

    #[test]
    fn one_message_is_hopeless_after_some_refusals_in_a_row() {
        let notes = PathNotes::default();
        assert!((1..REFUSALS).all(|_| !notes.refused_alone()));
        notes.passed();
        assert!((1..REFUSALS).all(|_| !notes.refused_alone()));
        assert!(notes.refused_alone());
    }

    #[test]
    fn the_shorter_of_two_round_trips_counts_until_the_path_is_another_one() {
        let notes = PathNotes::default();
        let mut least = |ms| {
            notes.took(Duration::from_millis(ms));
            notes.least_trip().map(|least| least.as_millis())
        };
        assert_eq!([700, 200, 9_000, 4_000, 8_000].map(&mut least), [700, 200, 200, 4_000, 4_000].map(Some));
        notes.lost(4_000, 1);
        notes.lower(4_000);
        notes.forget();
        assert_eq!(notes.least_trip(), None);
        assert!(!notes.is_reached(1 << 40));
    }
}
