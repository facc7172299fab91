//! The limits of a path that were met: of silence, of held polls, of age.
//!
//! It is sans-IO: time comes in. It implements what `docs/PROTOCOL.md`, "Switching", says of learning.

use std::time::{Duration, Instant, SystemTime};

use crate::frame::TransportKind;
use crate::session::{Departure, Lesson};

use super::verdicts::{FINDINGS_HOLD, Findings, instant_of, moment_of};

/// Less silence than this before an end is chance.
const LEAST_SILENCE: Duration = Duration::from_secs(1);

/// Less silence than this before a path was found dead is chance: paths die at any time, and this one was not ended by anybody.
const LEAST_DEADLY: Duration = Duration::from_secs(5);

/// Nobody pings more often.
const LEAST_PING: Duration = Duration::from_millis(500);

/// Where the server's heartbeat, and the longest hold, make a limit that was learned meaningless.
const USUAL_PING: Duration = Duration::from_secs(20);
const USUAL_HOLD: Duration = Duration::from_secs(25);

/// A shorter life is no limit of age: it demotes.
const LEAST_AGE: Duration = Duration::from_secs(5);

/// What was learned of one kind of transport.
#[derive(Debug)]
struct Limits {
    kind: TransportKind,
    /// A value and since when it holds.
    ping_after: Option<(Duration, Instant)>,
    longest_hold: Option<(Duration, Instant)>,
    age: Option<(Duration, Instant)>,
    /// The age at which the last one died.
    last_age: Option<Duration>,
}

/// What was learned of all kinds.
#[derive(Debug, Default)]
pub(super) struct Learning {
    limits: Vec<Limits>,
}

/// A limit now: doubled for each time that findings hold, and gone where it means nothing any more.
fn grown((limit, since): (Duration, Instant), usual: Duration, now: Instant) -> Option<Duration> {
    let times = now.saturating_duration_since(since).as_secs() / FINDINGS_HOLD.as_secs();
    let factor = 1_u32.checked_shl(u32::try_from(times).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
    Some(limit.saturating_mul(factor)).filter(|limit| *limit < usual)
}

impl Learning {
    /// A carrier has ended by itself.
    pub(super) fn ended(&mut self, kind: TransportKind, life: Duration, departure: Departure, now: Instant) {
        let limits = self.of(kind);
        match departure.polling {
            Some(held) if held >= LEAST_SILENCE => limits.longest_hold = Some((held / 2, now)),
            None if kind != TransportKind::LongPolling && departure.quiet >= LEAST_SILENCE => {
                limits.ping_after = Some(((departure.quiet / 2).max(LEAST_PING), now));
            }
            _ => {}
        }
        if life < LEAST_AGE || departure.quiet > life / 10 {
            limits.last_age = None;
            return;
        }
        let last = limits.last_age.replace(life);
        if last.is_some_and(|last| last.abs_diff(life) <= life / 10) {
            limits.age = Some((life, now));
        }
    }

    /// A carrier was found dead: nobody had ended it.
    pub(super) fn fell_silent(&mut self, kind: TransportKind, departure: Departure, now: Instant) {
        if let Some(idle) = departure.idle.filter(|idle| *idle >= LEAST_DEADLY) {
            self.of(kind).ping_after = Some((idle / 2, now));
        }
    }

    /// What a session is to know of a path.
    pub(super) fn lesson(&self, kind: TransportKind, now: Instant) -> Lesson {
        let limits = self.limits.iter().find(|limits| limits.kind == kind);
        let ping_after = limits.and_then(|limits| grown(limits.ping_after?, USUAL_PING, now));
        let longest_hold = limits.and_then(|limits| grown(limits.longest_hold?, USUAL_HOLD, now));
        Lesson::new(ping_after, longest_hold)
    }

    /// At which age a path dies, if that is known.
    pub(super) fn age(&self, kind: TransportKind, now: Instant) -> Option<Duration> {
        let (age, since) = self.limits.iter().find(|limits| limits.kind == kind)?.age?;
        (now.saturating_duration_since(since) < FINDINGS_HOLD).then_some(age)
    }

    /// Takes up what is known of a network, in place of what was.
    pub(super) fn recall(&mut self, findings: &Findings, now: Instant) {
        let clock = SystemTime::now();
        let known = |limit: Option<(Duration, SystemTime)>| {
            // A clock that was set back must not make it last.
            limit.map(|(limit, since)| (limit, instant_of(since, clock, now).min(now)))
        };
        let limits = findings.iter().map(|finding| Limits {
            kind: finding.transport,
            ping_after: known(finding.ping_after),
            longest_hold: known(finding.longest_hold),
            age: known(finding.age),
            last_age: None,
        });
        self.limits = limits.collect();
    }

    /// Says what is known of a network.
    pub(super) fn tell(&self, findings: &mut Findings, now: Instant) {
        let clock = SystemTime::now();
        let told = |limit: Option<(Duration, Instant)>| {
            limit.map(|(limit, since)| (limit, moment_of(since, clock, now)))
        };
        for limits in &self.limits {
            let finding = findings.of(limits.kind);
            finding.ping_after = told(limits.ping_after);
            finding.longest_hold = told(limits.longest_hold);
            finding.age = told(limits.age);
        }
    }

    fn of(&mut self, kind: TransportKind) -> &mut Limits {
        let at = self.limits.iter().position(|limits| limits.kind == kind).unwrap_or_else(|| {
            let (ping_after, longest_hold, age, last_age) = (None, None, None, None);
            self.limits.push(Limits { kind, ping_after, longest_hold, age, last_age });
            self.limits.len() - 1
        });
        &mut self.limits[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TransportKind::{LongPolling, Sse, WebSocket};

    const SECOND: Duration = Duration::from_secs(1);

    fn quiet(quiet: Duration) -> Departure {
        Departure { quiet, ..Departure::default() }
    }

    fn polling(held: Duration) -> Departure {
        Departure { polling: Some(held), ..quiet(held) }
    }

    #[test]
    fn after_an_idle_cut_the_next_ping_comes_in_half_the_time() {
        let (mut learning, now) = (Learning::default(), Instant::now());
        learning.ended(WebSocket, 60 * SECOND, quiet(3 * SECOND), now);
        assert_eq!(learning.lesson(WebSocket, now).ping_after, Some(SECOND * 3 / 2));
        assert_eq!(learning.lesson(Sse, now), Lesson::default(), "each kind by itself");
        assert_eq!(learning.lesson(WebSocket, now + FINDINGS_HOLD).ping_after, Some(3 * SECOND));
        assert_eq!(learning.lesson(WebSocket, now + 3 * FINDINGS_HOLD).ping_after, Some(12 * SECOND));
        assert_eq!(learning.lesson(WebSocket, now + 4 * FINDINGS_HOLD), Lesson::default());
    }

    #[test]
    fn a_cut_in_the_middle_of_traffic_says_nothing_of_idleness() {
        let (mut learning, now) = (Learning::default(), Instant::now());
        learning.ended(WebSocket, 60 * SECOND, quiet(SECOND / 2), now);
        assert_eq!(learning.lesson(WebSocket, now), Lesson::default());
    }

    #[test]
    fn after_a_silent_drop_the_next_ping_comes_in_half_the_time() {
        let (mut learning, now) = (Learning::default(), Instant::now());
        let silent = |seconds: u32| Departure { idle: Some(seconds * SECOND), ..quiet(30 * SECOND) };
        learning.fell_silent(WebSocket, quiet(30 * SECOND), now);
        learning.fell_silent(WebSocket, silent(4), now);
        assert_eq!(learning.lesson(WebSocket, now), Lesson::default(), "that is chance");
        for (idle, next) in [(20, 10), (10, 5)] {
            learning.fell_silent(WebSocket, silent(idle), now);
            assert_eq!(learning.lesson(WebSocket, now).ping_after, Some(next * SECOND));
        }
        assert_eq!(learning.lesson(Sse, now), Lesson::default(), "each kind by itself");
    }

    #[test]
    fn a_poll_that_was_cut_shortens_the_hold() {
        let (mut learning, now) = (Learning::default(), Instant::now());
        learning.ended(LongPolling, 60 * SECOND, polling(3 * SECOND), now);
        let lesson = learning.lesson(LongPolling, now);
        assert_eq!((lesson.longest_hold, lesson.ping_after), (Some(SECOND * 3 / 2), None));
    }

    #[test]
    fn two_busy_lives_of_one_length_are_a_limit_of_age() {
        let now = Instant::now();
        for (lives, age) in [
            (vec![15_000, 15_100], Some(15_100)),
            (vec![15_000, 40_000, 41_000], Some(41_000)),
            (vec![15_000, 40_000], None),
            (vec![1_000, 1_000], None),
        ] {
            let mut learning = Learning::default();
            for life in lives {
                learning.ended(Sse, Duration::from_millis(life), quiet(SECOND / 2), now);
            }
            assert_eq!(learning.age(Sse, now), age.map(Duration::from_millis));
            assert_eq!(learning.age(Sse, now + FINDINGS_HOLD), None);
        }
        let mut idle = Learning::default();
        for _ in 0..2 {
            idle.ended(Sse, 15 * SECOND, quiet(5 * SECOND), now);
        }
        assert_eq!(idle.age(Sse, now), None, "it died of silence");
    }

    #[test]
    fn what_was_learned_goes_by_the_store_to_the_next() {
        let (mut learning, now) = (Learning::default(), Instant::now());
        learning.ended(WebSocket, 60 * SECOND, quiet(3 * SECOND), now);
        let mut findings = Findings::default();
        learning.tell(&mut findings, now);
        let mut next = Learning::default();
        next.recall(&findings, now + SECOND);
        assert_eq!(next.lesson(WebSocket, now + SECOND), learning.lesson(WebSocket, now));
    }
}
