//! Moves that the server or the application asks for: when they begin, and what is still to be done then.
//!
//! It implements `docs/PROTOCOL.md`, "Lifetimes", what is said there of `move`.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::Sleep;

use crate::client::backoff::uniform;
use crate::frame::{Attachment, Move, TransportKind};

use super::aftermath::random;
use super::{ClientSupervisor, Target, now};

/// The longest that a server can put a move off.
const MAX_WITHIN: Duration = Duration::from_secs(3600);

/// A move that begins later.
pub(super) struct Moving {
    transport: Option<TransportKind>,
    /// What carried the session when it was asked to go.
    from: Attachment,
    begins: Pin<Box<Sleep>>,
}

/// How long to wait before a move that is to be made within a time: uniform in the first half of it, so that all who
/// were asked do not come at once, and the other half is left for the move itself.
fn delay(within: Duration, random: u64) -> Duration {
    uniform(within.min(MAX_WITHIN) / 2, random)
}

impl ClientSupervisor {
    /// Takes a wish to move. It takes the place of an earlier one that has not begun.
    pub(super) fn move_asked(&mut self, ask: Move) {
        if ask.transport.is_some_and(|kind| !self.plan.allows(kind)) {
            return;
        }
        self.moving = None;
        match (self.carrier, ask.transport) {
            (Some(_), transport) if ask.within_ms == 0 => self.begin_move(transport),
            (Some(from), transport) => {
                let begins = now() + delay(Duration::from_millis(ask.within_ms), random());
                let begins = Box::pin(tokio::time::sleep_until(begins.into()));
                self.moving = Some(Moving { transport, from, begins });
            }
            (None, Some(kind)) => self.plan.prefer(kind),
            // Whatever it comes back by is elsewhere.
            (None, None) => {}
        }
    }

    /// Begins the move whose time has come.
    pub(super) fn poll_moving(&mut self, cx: &mut Context<'_>) {
        let Some(moving) = &mut self.moving else { return };
        if moving.begins.as_mut().poll(cx).is_pending() {
            return;
        }
        let (transport, from) = (moving.transport, moving.from);
        self.moving = None;
        let carrier = self.carrier.and_then(|carrier| self.bound.iter().find(|b| b.attachment == carrier));
        let kind = carrier.map(|bound| bound.target.kind);
        match transport {
            // What it was to leave is gone already.
            _ if self.carrier != Some(from) && (transport.is_none() || transport == kind) => {}
            Some(kind) if self.carrier.is_none() => self.plan.prefer(kind),
            _ => self.begin_move(transport),
        }
    }

    /// Dials for a session that something carries: what carries it does so until the new one has taken over.
    fn begin_move(&mut self, transport: Option<TransportKind>) {
        match transport {
            Some(kind) => self.dial(Target { kind, wished: true }),
            // Behind the same URL, another server may answer.
            None => self.dial_next(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::Waker;

    use super::super::{Bound, Hope, Means, Step};
    use super::*;
    use crate::client::Backoff;
    use crate::client::connect::Connector;
    use crate::client::dial::Dialer;
    use crate::client::patience::Patience;
    use crate::client::plan::Plan;
    use crate::client::proxy::Proxies;
    use crate::client::tls::Settings;
    use crate::client::verdicts::Network;
    use crate::frame::{Encoding, Limits, SessionId};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_move_begins_within_the_first_half_of_its_time() {
        assert_eq!(delay(4 * SECOND, 0), Duration::ZERO);
        assert_eq!(delay(4 * SECOND, 1 << 63), SECOND);
        assert_eq!(delay(4 * SECOND, u64::MAX), 2 * SECOND);
        assert_eq!(delay(Duration::ZERO, u64::MAX), Duration::ZERO);
        assert_eq!(delay(Duration::MAX, u64::MAX), MAX_WITHIN / 2);
    }

    /// The supervisor of a session that has no transport yet.
    pub(in crate::client::supervisor) fn fresh() -> ClientSupervisor {
        let dialer = Dialer {
            base: "http://localhost/live".parse().unwrap(),
            connector: Connector::new(Proxies::default(), &Settings::default(), Patience::new(SECOND))
                .unwrap(),
            upgrades_only: AtomicBool::new(false),
            notes: Arc::default(),
            headers: http::HeaderMap::new(),
            encoding: Encoding::Json,
            limits: Limits::default(),
            patience: Patience::new(SECOND),
            tokens: None,
        };
        let plan = Plan::new(TransportKind::ALL.to_vec());
        let means = Means {
            dialer,
            config: Arc::default(),
            plan,
            backoff: Backoff::default(),
            max_attempts: None,
            head_start: Duration::from_millis(250),
            hope: Hope::new(Some(10 * SECOND), true, now()),
            network: Network::default(),
        };
        let first = tokio::sync::oneshot::channel().0;
        ClientSupervisor::new(means, SessionId::from_bytes([1; 16]), first)
    }

    /// The supervisor of a session that a WebSocket carries.
    fn carried() -> ClientSupervisor {
        let mut supervisor = fresh();
        carry(&mut supervisor, Attachment::FIRST);
        supervisor
    }

    fn carry(supervisor: &mut ClientSupervisor, attachment: Attachment) {
        let target = Target { kind: TransportKind::WebSocket, wished: false };
        supervisor.bound = vec![Bound {
            attachment,
            target,
            dialled: super::super::now(),
            opened_at: Some(now()),
            proved: true,
            failure: None,
        }];
        supervisor.carrier = Some(attachment);
    }

    fn ask(transport: Option<TransportKind>, within_ms: u64) -> Move {
        Move { transport, within_ms }
    }

    /// What is dialled after a time, if anything is.
    async fn dialled(supervisor: &mut ClientSupervisor, after: Duration) -> Option<TransportKind> {
        tokio::time::advance(after).await;
        supervisor.poll_moving(&mut Context::from_waker(Waker::noop()));
        match &supervisor.step {
            Step::Dialling(dialling) => Some(dialling.target.kind),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_are_asked_together_do_not_come_together() {
        let mut at_once = 0;
        for _ in 0..64 {
            let mut supervisor = carried();
            supervisor.move_asked(ask(Some(TransportKind::Sse), 4_000));
            at_once += usize::from(dialled(&mut supervisor, SECOND).await.is_some());
            assert_eq!(dialled(&mut supervisor, SECOND).await, Some(TransportKind::Sse));
        }
        assert!((1..64).contains(&at_once), "{at_once} in the first half of the first half");
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_without_time_begins_at_once_and_to_the_same_kind_too() {
        for kind in TransportKind::ALL {
            let mut supervisor = carried();
            supervisor.move_asked(ask(Some(kind), 0));
            assert_eq!(dialled(&mut supervisor, Duration::ZERO).await, Some(kind));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_wish_counts() {
        let mut supervisor = carried();
        supervisor.move_asked(ask(Some(TransportKind::Sse), 4_000));
        supervisor.move_asked(ask(Some(TransportKind::LongPolling), 4_000));
        assert_eq!(dialled(&mut supervisor, 2 * SECOND).await, Some(TransportKind::LongPolling));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_come_back_meanwhile_need_not_move_off_the_old_transport() {
        for (transport, wanted) in [
            (None, None),
            (Some(TransportKind::WebSocket), None),
            (Some(TransportKind::Sse), Some(TransportKind::Sse)),
        ] {
            let mut supervisor = carried();
            supervisor.move_asked(ask(transport, 4_000));
            carry(&mut supervisor, Attachment::FIRST.next().unwrap());
            assert_eq!(dialled(&mut supervisor, 2 * SECOND).await, wanted);
        }
    }
}
