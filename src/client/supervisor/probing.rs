//! The way back up: a better transport than the one that carries is tried again and again, and what is known to die at an
//! age is replaced before.
//!
//! It implements `docs/PROTOCOL.md`, "Switching".

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::client::backoff::uniform;
use crate::frame::TransportKind;

use super::aftermath::random;
use super::{ClientSupervisor, Lesson, Step, Target};

/// The first pause before a better transport is tried, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A carrier that lived so long has settled: the pauses begin anew.
const SETTLED: Duration = Duration::from_secs(60);

/// When what carries the session is left though it works.
#[derive(Debug)]
pub(super) struct Probing {
    /// When a better transport is tried.
    due: Option<Pin<Box<Sleep>>>,
    pause: Duration,
    /// Which of the better ones was tried last.
    turn: usize,
    /// When the carrier is replaced by one of its kind, which will die of age.
    replace: Option<Pin<Box<Sleep>>>,
}

impl Default for Probing {
    fn default() -> Self {
        Self { due: None, pause: FIRST_PAUSE, turn: 0, replace: None }
    }
}

impl Probing {
    /// A carrier has ended after so long.
    pub(super) fn lived(&mut self, life: Duration) {
        if life >= SETTLED {
            self.pause = FIRST_PAUSE;
        }
    }
}

/// A pause with a jitter of a quarter either way.
fn jittered(pause: Duration, random: u64) -> Duration {
    pause - pause / 4 + uniform(pause / 2, random)
}

impl ClientSupervisor {
    /// Sets the times at which a new carrier is left, and tells the session what is known of its path.
    pub(super) fn settle_in(&mut self, kind: TransportKind, now: Instant) {
        let alone = self.plan.has_one();
        self.lesson = Some(Lesson { alone, ..self.learning.lesson(kind, now) });
        let age = self.learning.age(kind, now);
        self.probing.replace = age.map(|age| Box::pin(tokio::time::sleep(age / 5 * 4)));
        self.probing.due = None;
        if !self.plan.better_than(kind).is_empty() {
            self.probe_later();
        }
    }

    fn probe_later(&mut self) {
        let pause = jittered(self.probing.pause, random());
        self.probing.pause = (self.probing.pause * 2).min(LONGEST_PAUSE);
        self.probing.due = Some(Box::pin(tokio::time::sleep(pause)));
    }

    /// Leaves what carries the session for something better, when it is time to try.
    pub(super) fn poll_probing(&mut self, cx: &mut Context<'_>) {
        let Some(kind) = self.carrier_kind() else { return };
        if !matches!(self.step, Step::Rest) {
            return;
        }
        let due = |sleep: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>| {
            sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
        };
        if due(&mut self.probing.replace, cx) {
            self.probing.replace = None;
            tracing::debug!(session = %self.session, transport = %kind, "replaced before it dies of age");
            return self.dial(Target { kind, wished: false });
        }
        if due(&mut self.probing.due, cx) {
            self.probing.due = None;
            self.probe(kind);
        }
    }

    fn probe(&mut self, carrier: TransportKind) {
        let better = self.plan.better_than(carrier);
        let Some(kind) = better.get(self.probing.turn % better.len().max(1)).copied() else { return };
        self.probing.turn = self.probing.turn.wrapping_add(1);
        self.probe_later();
        tracing::debug!(session = %self.session, transport = %kind, "tried again");
        self.dial(Target { kind, wished: false });
    }

    fn carrier_kind(&self) -> Option<TransportKind> {
        let carrier = self.carrier?;
        self.bound.iter().find(|bound| bound.attachment == carrier).map(|bound| bound.target.kind)
    }

    /// The network is another one: what was said of the old one does not hold, and nothing is waited for.
    pub(super) fn network_changed(&mut self) {
        tracing::debug!(session = %self.session, "the network has changed");
        self.pauses.reset();
        self.probing = Probing::default();
        self.remember();
        self.changed_at = Some(super::now());
        self.dialer.forget();
        self.stalled.clear();
        let carrier = self.carrier_kind();
        match &self.step {
            Step::Over => return,
            // What was asked for by name may go on beside what carries.
            Step::Dialling(dialling) if carrier.is_some() && dialling.target.wished => {}
            // What is dialled goes by the old network.
            Step::Dialling(_) | Step::Waiting(_) | Step::Rest => self.step = Step::Rest,
        }
        match carrier {
            Some(kind) if matches!(self.step, Step::Rest) => self.probe(kind),
            Some(kind) if !self.plan.better_than(kind).is_empty() => self.probe_later(),
            Some(_) => {}
            None => {
                self.new_round();
                // What has no welcome said its `hello` on the old network as well: it is not waited for.
                if let Some(latest) = self.bound.iter().map(|bound| bound.attachment).max() {
                    self.stale = Some(latest);
                    self.dial_next();
                }
            }
        }
    }

    /// Takes up what is known of the network.
    pub(super) fn remember(&mut self) {
        let now = super::now();
        self.network.enter();
        let findings = self.network.load();
        self.plan.recall(&findings, now);
        self.learning.recall(&findings, now);
    }

    /// Keeps what is known of the network for other sessions.
    pub(super) fn keep_verdicts(&mut self) {
        let now = super::now();
        for kind in self.plan.take_demoted() {
            tracing::debug!(session = %self.session, transport = %kind, "demoted");
        }
        let mut findings = self.network.load();
        self.plan.tell(&mut findings, now);
        self.learning.tell(&mut findings, now);
        self.network.save(&findings);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Waker;

    use super::super::Bound;
    use super::super::moving::tests::fresh;
    use super::*;
    use crate::client::{MemoryVerdicts, Verdicts};
    use crate::frame::Attachment;
    use crate::session::DetachReason;
    use TransportKind::{LongPolling, Sse, WebSocket};

    const SECOND: Duration = Duration::from_secs(1);

    fn carried_by(kind: TransportKind) -> ClientSupervisor {
        let mut supervisor = fresh();
        carry(&mut supervisor, kind);
        supervisor
    }

    fn carry(supervisor: &mut ClientSupervisor, kind: TransportKind) {
        let target = Target { kind, wished: false };
        let bound = Bound {
            attachment: Attachment::FIRST,
            target,
            dialled: super::super::now(),
            opened_at: None,
            proved: true,
            failure: None,
        };
        supervisor.bound = vec![bound];
        supervisor.attached(Attachment::FIRST, kind, &TransportKind::ALL);
    }

    /// What is dialled after a time, if anything is; it fails.
    async fn dialled(supervisor: &mut ClientSupervisor, after: Duration) -> Option<TransportKind> {
        tokio::time::advance(after).await;
        supervisor.poll_probing(&mut Context::from_waker(Waker::noop()));
        match std::mem::replace(&mut supervisor.step, Step::Rest) {
            Step::Dialling(dialling) => Some(dialling.target.kind),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn better_transports_are_tried_in_turn_with_pauses_that_grow() {
        let mut supervisor = carried_by(LongPolling);
        assert_eq!(dialled(&mut supervisor, 22 * SECOND).await, None);
        assert_eq!(dialled(&mut supervisor, 16 * SECOND).await, Some(WebSocket));
        assert_eq!(dialled(&mut supervisor, 44 * SECOND).await, None);
        assert_eq!(dialled(&mut supervisor, 32 * SECOND).await, Some(Sse));
        for _ in 0..5 {
            assert!(
                dialled(&mut supervisor, 751 * SECOND).await.is_some(),
                "ten minutes and a quarter at most"
            );
        }
        assert_eq!(supervisor.probing.pause, LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_better_than_the_best() {
        let mut supervisor = carried_by(WebSocket);
        assert_eq!(dialled(&mut supervisor, 3600 * SECOND).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn on_another_network_the_best_is_tried_at_once() {
        let mut supervisor = carried_by(Sse);
        supervisor.network_changed();
        assert!(matches!(&supervisor.step, Step::Dialling(dialling) if dialling.target.kind == WebSocket));
    }

    #[tokio::test(start_paused = true)]
    async fn two_words_of_another_network_do_not_end_the_way_back_up() {
        let mut supervisor = carried_by(Sse);
        supervisor.network_changed();
        supervisor.network_changed();
        assert!(matches!(&supervisor.step, Step::Dialling(dialling) if dialling.target.kind == WebSocket));
        supervisor.step = Step::Rest;
        assert_eq!(dialled(&mut supervisor, 40 * SECOND).await, Some(WebSocket));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_found_out_before_the_word_of_another_network_is_of_the_old_one() {
        let here = Arc::new(Mutex::new("office"));
        let store: Arc<dyn Verdicts> = Arc::new(MemoryVerdicts::new());
        let mut supervisor = fresh();
        let namer = Arc::clone(&here);
        supervisor.network.namer = Some(Arc::new(move || (*namer.lock().unwrap()).to_owned()));
        supervisor.network.store = Some(Arc::clone(&store));
        supervisor.remember();
        carry(&mut supervisor, WebSocket);
        supervisor.bound[0].opened_at = Some(super::super::now());
        tokio::time::advance(SECOND).await;
        *here.lock().unwrap() = "home";
        supervisor.plan.demote(Sse, super::super::now());
        supervisor.keep_verdicts();
        assert!(store.load(" office").is_some() && store.load(" home").is_none());
        supervisor.network_changed();
        supervisor.detached(Attachment::FIRST, &DetachReason::Unproved, crate::session::Departure::default());
        assert!(!supervisor.plan.is_demoted(WebSocket, super::super::now()), "it died of the change");
        assert!(store.load(" home").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_dies_of_age_is_replaced_before() {
        let mut supervisor = fresh();
        let departure = crate::session::Departure::default();
        for _ in 0..2 {
            supervisor.learning.ended(Sse, 15 * SECOND, departure, super::super::now());
        }
        supervisor.plan = crate::client::plan::Plan::new(vec![Sse]);
        carry(&mut supervisor, Sse);
        assert_eq!(dialled(&mut supervisor, 11 * SECOND).await, None);
        assert_eq!(dialled(&mut supervisor, SECOND).await, Some(Sse));
    }

    #[test]
    fn the_jitter_is_a_quarter_either_way() {
        assert_eq!(jittered(40 * SECOND, 0), 30 * SECOND);
        assert_eq!(jittered(40 * SECOND, u64::MAX), 50 * SECOND);
    }
}
