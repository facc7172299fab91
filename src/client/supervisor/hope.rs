//! When a client gives a session up because nothing passes.
//!
//! It implements what `docs/PROTOCOL.md`, "Starting", says of progress.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::client::ConnectError;
use crate::frame::{Attachment, Close, CloseCode};
use crate::session::{Departure, Session};

use super::{Bound, ClientSupervisor, Step, now};

/// After so many carriers in a row without progress, over at least so long, a session is given up.
const FRUITLESS: u32 = 8;
const FRUITLESS_FOR: Duration = Duration::from_secs(30);

/// The longest that a slow network is given.
const SLOWEST: Duration = Duration::from_secs(60);

/// How long a session may be without progress.
#[derive(Debug)]
pub(in crate::client) struct Hope {
    /// From the begin to the first progress; none: for ever.
    within: Option<Duration>,
    /// Whether the time counts while no host is reached at all.
    everywhere: bool,
    /// When the session began: what was read and set up before its task first ran counts too.
    began: Instant,
    due: Option<Pin<Box<Sleep>>>,
    /// The time is over, and a proved path carries the session: as long as it does.
    overdue: bool,
    /// Whether a host was ever reached.
    pub(super) reached: bool,
    /// Whether there ever was progress.
    progressed: bool,
    /// Carriers in a row that ended without progress although messages waited or unproved, and since when.
    fruitless: u32,
    since: Option<Instant>,
}

impl Hope {
    pub(in crate::client) fn new(within: Option<Duration>, everywhere: bool, began: Instant) -> Self {
        Self {
            within,
            everywhere,
            began,
            due: None,
            overdue: false,
            reached: false,
            progressed: false,
            fruitless: 0,
            since: None,
        }
    }

    fn progress(&mut self) {
        (self.progressed, self.due, self.overdue) = (true, None, false);
    }
}

impl ClientSupervisor {
    /// What carries the session was proved.
    pub(super) fn proved(&mut self, attachment: Attachment, owing: bool) {
        if let Some(bound) = self.bound.iter_mut().find(|bound| bound.attachment == attachment) {
            bound.proved = true;
        }
        if !owing {
            self.hope.progress();
        }
    }

    /// Gives the session up when its time to get anywhere is over. Says whether it did.
    pub(super) fn poll_hope(&mut self, cx: &mut Context<'_>, session: &Session) -> bool {
        let hope = &mut self.hope;
        let (Some(within), false) = (hope.within, hope.progressed || hope.overdue) else { return false };
        if matches!(self.step, Step::Over) {
            return false;
        }
        // Where a round trip takes seconds, nothing gets anywhere sooner.
        let slow = session.least_round_trip().unwrap_or_default().saturating_mul(6).min(SLOWEST);
        let within = within.max(slow);
        let left = || (hope.began + within).saturating_duration_since(now());
        let due = hope.due.get_or_insert_with(|| Box::pin(tokio::time::sleep(left())));
        if due.as_mut().poll(cx).is_pending() {
            return false;
        }
        hope.due = None;
        if !left().is_zero() {
            // It has turned out to be slow since the time was set.
            return self.poll_hope(cx, session);
        }
        if session.is_fruitful() {
            hope.progress();
            return false;
        }
        if !hope.everywhere && !hope.reached {
            // Offline: the time begins anew.
            hope.began = now();
            return true;
        }
        // It may be slow, but not one of several that came to nothing.
        if hope.fruitless == 0 && self.bound.iter().any(|bound| bound.proved) {
            self.hope.overdue = true;
            return false;
        }
        let close = self.nothing_passes();
        self.give_up(close);
        true
    }

    /// Counts what a transport that was given up did for the session. Says how to end it, if all hope is gone.
    pub(super) fn despair(&mut self, bound: &Bound, departure: Departure) -> Option<Close> {
        let hope = &mut self.hope;
        if departure.fruitful {
            hope.progress();
            (hope.fruitless, hope.since) = (0, None);
            return None;
        }
        let mut lost = false;
        // What never carried is none of those that are counted.
        if bound.opened_at.is_some() && (departure.owing || !bound.proved) {
            hope.fruitless = hope.fruitless.saturating_add(1);
            let since = *hope.since.get_or_insert_with(now);
            let long = now().saturating_duration_since(since) >= FRUITLESS_FOR;
            lost = hope.within.is_some() && hope.fruitless >= FRUITLESS && long;
        }
        (lost || (hope.overdue && self.bound.is_empty())).then(|| self.nothing_passes())
    }

    fn nothing_passes(&mut self) -> Close {
        let (attempts, reason) = (self.attempts.max(1), Arc::clone(&self.reason));
        let close = Close::new(CloseCode::TimedOut, format!("nothing passes here: {reason}"));
        self.gave_up = Some(ConnectError::Unreachable { attempts, reason });
        close
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::Target;
    use super::super::moving::tests::fresh;
    use super::*;
    use crate::frame::TransportKind;
    use crate::session::DetachReason;
    use crate::socket::ends::client_session;

    const SECOND: Duration = Duration::from_secs(1);

    /// Whether a session ends when nine seconds have passed, of which some had before its task first ran.
    async fn ends(supervisor: &mut ClientSupervisor, before: u32) -> bool {
        supervisor.hope.within = Some(9 * SECOND);
        supervisor.hope.began = now().checked_sub(before * SECOND).unwrap();
        let session = client_session(1);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!supervisor.poll_hope(&mut cx, &session));
        tokio::time::advance((9 - before) * SECOND).await;
        supervisor.poll_hope(&mut cx, &session);
        matches!(supervisor.step, Step::Over)
    }

    fn carried(proved: bool) -> ClientSupervisor {
        let mut supervisor = fresh();
        let target = Target { kind: TransportKind::WebSocket, wished: false };
        let (attachment, opened_at, failure) = (Attachment::FIRST, Some(now()), None);
        let bound = Bound { attachment, target, dialled: now(), opened_at, proved, failure };
        supervisor.bound = vec![bound];
        supervisor
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_begins_with_the_session_and_not_with_its_task() {
        for before in [0, 3, 8] {
            assert!(ends(&mut fresh(), before).await, "{before} s had passed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_proved_may_be_slow_but_not_after_others_that_came_to_nothing() {
        assert!(ends(&mut carried(false), 0).await);
        assert!(!ends(&mut carried(true), 0).await);
        let mut second = carried(true);
        second.hope.fruitless = 1;
        assert!(ends(&mut second, 0).await);
    }

    #[tokio::test(start_paused = true)]
    async fn after_eight_carriers_in_vain_only_a_ninth_that_carried_counts() {
        let candidate = Attachment::FIRST.next().unwrap();
        for (opened_at, gives_up) in [(None, false), (Some(now()), true)] {
            let mut supervisor = carried(true);
            (supervisor.hope.fruitless, supervisor.hope.since) = (FRUITLESS, Some(now()));
            tokio::time::advance(31 * SECOND).await;
            let target = Target { kind: TransportKind::Sse, wished: false };
            let (proved, failure) = (false, None);
            let bound = Bound { attachment: candidate, target, dialled: now(), opened_at, proved, failure };
            supervisor.bound.push(bound);
            supervisor.detached(candidate, &DetachReason::NoWelcome, Departure::default());
            assert_eq!(matches!(supervisor.step, Step::Over), gives_up, "{opened_at:?}");
        }
    }
}
