//! Transports side by side: what opens and is not welcomed soon gets company, and the first welcome wins.
//!
//! It implements `docs/PROTOCOL.md`, "Starting": the first `hello` attaches, the others are candidates of the same session.

use std::future::Future as _;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::client::dial::Verdict;
use crate::frame::{Attachment, Close, CloseCode, Retry, TransportKind};
use crate::socket::Command;

use super::{ClientSupervisor, Dialling, Step, Target, now};

/// How much longer what was demoted waits before it is dialled beside others: where a box makes one request at a time, it
/// would only stand in their way.
const DEMOTED_WAITS: Duration = Duration::from_secs(3);

/// How long each is alone at least where somebody lets in so many requests only: one beside it would take its turn.
const APART: Duration = Duration::from_secs(3);

impl ClientSupervisor {
    /// Sets the time of the next one beside a transport that took so long to open.
    pub(super) fn race_after(&mut self, opening: Duration) {
        self.race_in(self.time_alone(opening));
    }

    /// Sets the time of the next one beside a dial that does not come to its end: later, for what needs a round trip more to
    /// open may still be the better one.
    pub(super) fn race_stalled(&mut self) {
        self.race_in(self.time_alone(self.opening).saturating_mul(3));
    }

    fn race_in(&mut self, alone: Duration) {
        if self.carrier.is_none() {
            let alone = if self.round.rationed { alone.max(APART) } else { alone };
            self.race = Some(Box::pin(tokio::time::sleep(alone)));
        }
    }

    /// How long a transport whose opening took so long is alone: opening it was a round trip or two, and so is its
    /// welcome.
    fn time_alone(&self, opening: Duration) -> Duration {
        opening.saturating_mul(2).max(self.head_start)
    }

    /// Dials the next beside those that are not welcomed, when it is time.
    pub(super) fn poll_race(&mut self, cx: &mut Context<'_>) {
        let dials = matches!(self.step, Step::Rest | Step::Dialling(_));
        let alone = self.bound.is_empty() && self.stalled.is_empty() && matches!(self.step, Step::Rest);
        if alone || self.carrier.is_some() || !dials {
            return;
        }
        let Some(race) = &mut self.race else { return };
        if race.as_mut().poll(cx).is_pending() {
            return;
        }
        self.race = None;
        let mut under_way: Vec<_> = self.bound.iter().map(|bound| bound.target.kind).collect();
        under_way.extend(self.stalled.iter().map(|dialling| dialling.target.kind));
        if let Step::Dialling(dialling) = &self.step {
            under_way.push(dialling.target.kind);
        }
        let Some(kind) = self.plan.next_beside(&under_way, now()) else { return };
        if self.plan.is_demoted(kind, now()) && !std::mem::replace(&mut self.lingered, true) {
            self.race = Some(Box::pin(tokio::time::sleep(DEMOTED_WAITS)));
            return self.poll_race(cx);
        }
        if let Step::Dialling(dialling) = std::mem::replace(&mut self.step, Step::Rest) {
            self.stalled.push(dialling);
        }
        self.dial(Target { kind, wished: false });
    }

    /// Goes on with the dials that take long.
    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Command> {
        let mut at = 0;
        while let Some(stalled) = self.stalled.get_mut(at) {
            let dialled = match stalled.poll(cx, &self.dialer) {
                Poll::Pending => {
                    at += 1;
                    continue;
                }
                Poll::Ready(None) => continue,
                Poll::Ready(Some(dialled)) => dialled,
            };
            let Dialling { target, began, .. } = self.stalled.swap_remove(at);
            if let Some(command) = self.dialled(target, began, dialled) {
                return Poll::Ready(command);
            }
        }
        Poll::Pending
    }

    /// Notes that one of several under way has failed: the next need not wait, unless there was no turn for this one, or what
    /// was said of it holds for the others too.
    pub(super) fn fell_out(&mut self, kind: TransportKind, verdict: Verdict) {
        if self.carrier.is_some() {
            return;
        }
        let mut pause = None;
        match verdict {
            Verdict::Later(told) => {
                (self.round.otherwise, self.round.wait) = (true, self.round.wait.max(told.wait()));
                if kind != TransportKind::WebSocket {
                    pause = self.wait_for_turn(told);
                }
                if pause.is_none() {
                    self.plan.put_off(kind);
                }
            }
            Verdict::NotOffered(close) => self.not_offered(kind, close),
            Verdict::Closed(close) if close.code == CloseCode::NotAcceptable => self.not_offered(kind, close),
            // The transport has done what it could. The others will hear it too, or get through.
            Verdict::Closed(close) => {
                let wait = close.detail.retry_after_ms.map(Duration::from_millis);
                (self.round.otherwise, self.round.wait) = (true, self.round.wait.max(wait));
                if close.code.retry() == Retry::FreshToken {
                    self.want_fresh_token();
                }
                return self.plan.put_off(kind);
            }
            Verdict::Host | Verdict::Setup(_) => {
                self.round.otherwise = true;
                return self.plan.put_off(kind);
            }
            Verdict::Transport => {
                self.round.otherwise = true;
                self.plan.failed(kind);
            }
        }
        self.race = Some(Box::pin(tokio::time::sleep(pause.unwrap_or_default())));
    }

    fn not_offered(&mut self, kind: TransportKind, close: Close) {
        self.round.not_offered = Some(close);
        self.plan.failed(kind);
    }

    /// Notes that a transport carries the session. Lower ones end by that; what is above it, or still dialled, is
    /// dropped, unless somebody asked for it by name.
    pub(super) fn win(&mut self, winner: Attachment) {
        self.race = None;
        let above = self.bound.iter().filter(|bound| bound.attachment > winner && !bound.target.wished);
        self.losers = above.map(|bound| bound.attachment).collect();
        if self.carrier.is_none() {
            self.note_outrun(winner);
            self.stalled.retain(|dialling| dialling.target.wished);
            if matches!(&self.step, Step::Dialling(dialling) if !dialling.target.wished) {
                self.step = Step::Rest;
            }
        }
    }

    /// Notes what was still dialled when another was welcomed, and what of it had begun before that one.
    fn note_outrun(&mut self, winner: Attachment) {
        let won = self.bound.iter().find(|bound| bound.attachment == winner).map(|bound| bound.dialled);
        let earlier = self.stalled.iter().filter(|dialling| Some(dialling.began) < won);
        let earlier = earlier.filter(|dialling| !dialling.target.wished);
        self.outrun.extend(earlier.map(|dialling| dialling.target.kind));
        let dialling = match &self.step {
            Step::Dialling(dialling) => Some(dialling),
            _ => None,
        };
        let dialling = self.stalled.iter().chain(dialling).filter(|dialling| !dialling.target.wished);
        for Dialling { target, began, .. } in dialling {
            self.note_failure(target.kind, *began, "outrun", "it had not opened when another was welcomed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::Bound;
    use super::super::moving::tests::fresh;
    use super::*;
    use crate::client::plan::Plan;
    use crate::session::{Departure, DetachReason};

    const ALONE: Duration = Duration::from_millis(250);
    const SECOND: Attachment = Attachment::FIRST.next().unwrap();

    fn bind(supervisor: &mut ClientSupervisor, attachment: Attachment, kind: TransportKind) {
        let target = Target { kind, wished: false };
        supervisor.bound.push(Bound {
            attachment,
            target,
            dialled: now(),
            opened_at: None,
            proved: false,
            failure: None,
        });
    }

    /// What is dialled after a time, if anything is.
    async fn dialled(supervisor: &mut ClientSupervisor, after: Duration) -> Option<TransportKind> {
        tokio::time::advance(after).await;
        supervisor.poll_race(&mut Context::from_waker(Waker::noop()));
        match &supervisor.step {
            Step::Dialling(dialling) => Some(dialling.target.kind),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_welcomed_in_its_time_gets_the_next_beside_it() {
        let mut supervisor = fresh();
        bind(&mut supervisor, Attachment::FIRST, TransportKind::WebSocket);
        supervisor.race_after(Duration::ZERO);
        assert_eq!(dialled(&mut supervisor, ALONE / 2).await, None);
        assert_eq!(dialled(&mut supervisor, ALONE / 2).await, Some(TransportKind::Sse));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_demoted_is_dialled_beside_others_later() {
        let mut supervisor = fresh();
        bind(&mut supervisor, Attachment::FIRST, TransportKind::Sse);
        supervisor.plan.demote(TransportKind::WebSocket, now());
        supervisor.plan.demote(TransportKind::LongPolling, now());
        supervisor.race_after(Duration::ZERO);
        assert_eq!(dialled(&mut supervisor, ALONE).await, None);
        assert_eq!(dialled(&mut supervisor, DEMOTED_WAITS - ALONE / 2).await, None);
        assert_eq!(dialled(&mut supervisor, ALONE / 2).await, Some(TransportKind::WebSocket));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_beside_another_makes_room_for_the_next_at_once() {
        let mut supervisor = fresh();
        bind(&mut supervisor, Attachment::FIRST, TransportKind::WebSocket);
        supervisor.fell_out(TransportKind::Sse, Verdict::Transport);
        let next = dialled(&mut supervisor, Duration::from_millis(1)).await;
        assert_eq!(next, Some(TransportKind::LongPolling));
    }

    fn fall_out(supervisor: &mut ClientSupervisor, reason: &DetachReason) {
        supervisor.detached(Attachment::FIRST, reason, Departure::default());
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_carrier_dies_while_another_has_no_welcome_the_next_is_dialled_beside_it() {
        let mut supervisor = fresh();
        bind(&mut supervisor, Attachment::FIRST, TransportKind::Sse);
        supervisor.attached(Attachment::FIRST, TransportKind::Sse, &TransportKind::ALL);
        bind(&mut supervisor, SECOND, TransportKind::WebSocket);
        fall_out(&mut supervisor, &DetachReason::Ended);
        assert_eq!(dialled(&mut supervisor, ALONE).await, Some(TransportKind::Sse));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_says_in_a_race_is_not_taken_for_the_transports_fault() {
        let close = |code| DetachReason::Closed(Close::new(code, ""));
        for (reason, next, is_demoted) in [
            (close(CloseCode::Overloaded), None, false),
            (close(CloseCode::Draining), None, false),
            (close(CloseCode::NotAcceptable), Some(TransportKind::LongPolling), true),
            (DetachReason::NoWelcome, Some(TransportKind::LongPolling), true),
        ] {
            let mut supervisor = fresh();
            bind(&mut supervisor, Attachment::FIRST, TransportKind::WebSocket);
            bind(&mut supervisor, SECOND, TransportKind::Sse);
            fall_out(&mut supervisor, &reason);
            assert_eq!(dialled(&mut supervisor, 2 * ALONE).await, next, "{reason:?}");
            supervisor.attached(SECOND, TransportKind::Sse, &TransportKind::ALL);
            assert_eq!(supervisor.plan.is_demoted(TransportKind::WebSocket, now()), is_demoted, "{reason:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_offers_none_of_them_is_told_from_one_that_was_not_reached_by_all() {
        let (refused, second) = (Close::new(CloseCode::NotAcceptable, ""), TransportKind::Sse);
        for (first, gives_up) in [(Verdict::NotOffered(refused.clone()), true), (Verdict::Transport, false)] {
            let mut supervisor = fresh();
            supervisor.plan = Plan::new(vec![TransportKind::WebSocket, second]);
            bind(&mut supervisor, SECOND, second);
            supervisor.fell_out(TransportKind::WebSocket, first);
            supervisor.detached(SECOND, &DetachReason::Closed(refused.clone()), Departure::default());
            assert_eq!(matches!(supervisor.step, Step::Over), gives_up);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_welcome_wins_and_the_slower_ones_are_dropped() {
        let (first, second) = (Attachment::FIRST, Attachment::FIRST.next().unwrap());
        for (winner, losers) in [(first, vec![second]), (second, vec![])] {
            let mut supervisor = fresh();
            bind(&mut supervisor, first, TransportKind::WebSocket);
            bind(&mut supervisor, second, TransportKind::Sse);
            supervisor.race_after(Duration::ZERO);
            supervisor.attached(winner, TransportKind::WebSocket, &TransportKind::ALL);
            // Lower ones are fenced by the session.
            assert_eq!(supervisor.losers, losers);
            assert_eq!(dialled(&mut supervisor, ALONE).await, None, "nobody else is dialled");
        }
    }

    #[test]
    fn on_a_slow_network_the_next_waits_longer() {
        let (ms, mut supervisor) = (Duration::from_millis, fresh());
        assert_eq!(supervisor.time_alone(ms(1)), ALONE);
        assert_eq!(supervisor.time_alone(ms(800)), ms(1600));
        supervisor.head_start = Duration::MAX;
        assert_eq!(supervisor.time_alone(ms(800)), Duration::MAX);
    }
}
