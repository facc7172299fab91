//! What comes after a failure, a loss or an end: the next transport, a pause, a new session, or giving up.
//!
//! It implements the column "retry" of the close codes, `docs/PROTOCOL.md`, "Closing".

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::ConnectError;
use crate::client::backoff::Attempt;
use crate::client::dial::{DialError, TurnedDown, Verdict};
use crate::client::plan::SHORT_LIFE;
use crate::frame::{Close, CloseCode, Retry, TransportKind};
use crate::session::{Ended, EndedBy, Session};
use crate::socket::Command;

use super::{ClientSupervisor, Renewal, Step, TokenState, begin, now};

impl ClientSupervisor {
    /// Goes on after a transport failed to carry the session.
    pub(super) fn failed(&mut self, kind: TransportKind, error: DialError) {
        self.reason = error.reason;
        let later = matches!(error.verdict, Verdict::Later(_));
        let wait = match error.verdict {
            Verdict::Closed(close) if close.code.retry() == Retry::Never => return self.give_up(close),
            Verdict::Closed(close) => return self.closed(kind, close),
            // Where a session was carried once, the next network may be another.
            Verdict::Setup(setup) if !self.welcomed => {
                self.give_up(Close::new(setup.code(), setup.to_string()));
                self.gave_up = Some(setup.into_error());
                return;
            }
            Verdict::Host | Verdict::Setup(_) => {
                self.new_round();
                return self.pause_after_failure(None);
            }
            Verdict::NotOffered(close) => {
                self.round.not_offered = Some(close);
                None
            }
            Verdict::Transport => {
                (self.round.otherwise, self.round.turned_down) = (true, 0);
                None
            }
            // Upgrades may be all that somebody on the way turns down: whether there is room is seen by what is tried next.
            Verdict::Later(told) if kind == TransportKind::WebSocket => {
                self.round.otherwise = true;
                self.round.wait = self.round.wait.max(told.wait());
                None
            }
            Verdict::Later(told) => {
                self.round.otherwise = true;
                if let Some(pause) = self.wait_for_turn(told) {
                    return self.pause(pause);
                }
                told.wait()
            }
        };
        match later {
            true => self.plan.put_off(kind),
            false => self.plan.failed(kind),
        }
        if wait.is_some() {
            // It may be a box on the way that only dislikes this transport: the round goes on afterwards.
            return self.pause_after_failure(wait);
        }
        if self.plan.next(now()).is_some() {
            return;
        }
        let (not_offered, otherwise, wait) =
            (self.round.not_offered.take(), self.round.otherwise, self.round.wait);
        self.new_round();
        match not_offered {
            Some(close) if !otherwise => self.give_up(close),
            _ => self.pause_after_failure(wait),
        }
    }

    /// How long to wait until what was turned down for now is tried again, and with it all that was before: none of them is
    /// disliked for what it is. `None` where that was done often enough.
    pub(super) fn wait_for_turn(&mut self, told: TurnedDown) -> Option<Duration> {
        let pause = told.pause(self.round.turned_down)?;
        self.round.turned_down += 1;
        self.round.rationed = true;
        self.plan.take_up();
        Some(pause)
    }

    /// Goes on after the server closed a transport in band, but not the session.
    pub(super) fn closed(&mut self, kind: TransportKind, close: Close) {
        self.reason = close.to_string().into();
        let at_least = close.detail.retry_after_ms.map(Duration::from_millis);
        match close.code.retry() {
            _ if close.code == CloseCode::NotAcceptable => {
                let reason = Arc::clone(&self.reason);
                self.failed(kind, DialError { verdict: Verdict::NotOffered(close), reason });
            }
            Retry::Backoff => {
                self.new_round();
                self.pause_after_failure(at_least);
            }
            Retry::FreshToken if self.token != TokenState::FreshTried && self.dialer.tokens.is_some() => {
                self.want_fresh_token();
                // A server whose tokens hardly live is not asked for one after the other.
                self.pause_after_loss(at_least);
            }
            Retry::FreshToken => self.give_up(close),
            // Only what was no carrier: the session lives, and hears itself what is wrong with it.
            Retry::AtOnce | Retry::Afresh | Retry::Never => self.pause_after_loss(at_least),
        }
    }

    /// The token that there is has run out, or was said to have.
    pub(super) fn want_fresh_token(&mut self) {
        if self.token == TokenState::Usual && self.dialer.tokens.is_some() {
            self.token = TokenState::FreshWanted;
        }
    }

    pub(super) fn pause_after_loss(&mut self, at_least: Option<Duration>) {
        let wait = self.pauses.after_loss(at_least, random());
        self.pause(wait);
    }

    /// For how long nothing has carried the session, if nothing does.
    pub(super) fn adrift_for(&self) -> Duration {
        now().saturating_duration_since(self.adrift)
    }

    pub(super) fn pause_after_failure(&mut self, at_least: Option<Duration>) {
        self.attempts = self.attempts.saturating_add(1);
        if self.max_attempts.is_some_and(|max| self.attempts >= max) {
            let (attempts, reason) = (self.attempts, Arc::clone(&self.reason));
            let text = format!("no session came to be, attempts: {attempts}; {reason}");
            self.give_up(Close::new(CloseCode::TimedOut, text));
            self.gave_up = Some(ConnectError::Unreachable { attempts, reason });
            return;
        }
        let now = now();
        let took = now.saturating_duration_since(self.trying.unwrap_or(now));
        let adrift = self.adrift_for();
        let wait = self.pauses.after_failure(Attempt { took, adrift }, at_least, random());
        self.pause(wait);
    }

    fn pause(&mut self, wait: Duration) {
        self.trying = None;
        let until = now() + wait;
        tracing::debug!(session = %self.session, reason = %self.reason, ?wait, "waiting");
        self.report = Some(Command::Waiting { reason: Arc::clone(&self.reason), retry_at: Some(until) });
        self.step = Step::Waiting(Box::pin(tokio::time::sleep_until(until.into())));
    }

    pub(super) fn give_up(&mut self, close: Close) {
        self.report = Some(Command::Abort(close));
        self.step = Step::Over;
    }

    /// Replaces a session that the server has forgotten or ended for a reason that need not come again.
    pub(super) fn renew(&mut self, ended: &Ended, now: Instant) -> Option<Session> {
        let afresh = match ended.by {
            EndedBy::Peer => ended.close.code.retry() == Retry::Afresh,
            // Nobody answered what was sent behind `hello`; any other time that ran out is that of our own close.
            EndedBy::Timeout => ended.close.code == CloseCode::UnknownSession,
            EndedBy::Local => false,
        };
        if !afresh {
            return None;
        }
        let session = match begin(&self.config, now) {
            Ok(session) => session,
            Err(error) => {
                tracing::error!(error = %error, "no new session: no randomness");
                return None;
            }
        };
        self.session = session.id();
        self.renewal = Renewal::default();
        self.moving = None;
        let carrier = self.carrier.take();
        if carrier.is_some() {
            self.adrift = now;
        }
        if let Some(carrier) = self.bound.drain(..).find(|bound| Some(bound.attachment) == carrier) {
            if carrier.opened_at.is_some_and(|at| now.saturating_duration_since(at) >= SHORT_LIFE) {
                self.pauses.reset();
            }
        }
        self.new_round();
        self.reason = ended.close.to_string().into();
        self.step = Step::Rest;
        let known = std::mem::take(&mut self.welcomed);
        // Servers of which each knows its own sessions only may welcome it and not know it in turn.
        let lately = |at: Instant| now.saturating_duration_since(at) < SHORT_LIFE;
        let again = self.renewed_at.replace(now).is_some_and(lately);
        let at_least = ended.close.detail.retry_after_ms.map(Duration::from_millis);
        match ended.close.code {
            // The server answers, and knows of no reason to wait.
            CloseCode::UnknownSession if known && !again => {}
            CloseCode::GoingAway => self.pause_after_failure(at_least),
            _ => self.pause_after_loss(at_least),
        }
        Some(session)
    }
}

/// A random number for jitter. Without one the pauses are the longest.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    use super::super::moving::tests::fresh;
    use super::*;
    use crate::client::dial::Dialer;
    use crate::client::token::{Freshness, TokenSource};
    use crate::socket::Supervisor as _;
    use crate::socket::ends::client_session;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_is_welcomed_and_not_known_again_and_again_does_not_hammer() {
        let close = Close::new(CloseCode::UnknownSession, "");
        let ended = Ended { close, by: EndedBy::Peer, undelivered: Vec::new() };
        for (after, waits) in [(SECOND, true), (10 * SECOND, false)] {
            let mut supervisor = fresh();
            for time in 0..4 {
                supervisor.welcomed = true;
                assert!(supervisor.ended(&ended, now()).is_some());
                assert_eq!(matches!(supervisor.step, Step::Waiting(_)), waits && time > 0, "{after:?}");
                tokio::time::advance(after).await;
            }
        }
    }

    /// Whatever comes between, a dial asks for a fresh token until one was got and attached with.
    #[tokio::test(start_paused = true)]
    async fn a_fresh_token_is_asked_for_until_there_is_one() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let source = Arc::clone(&asked);
        let tokens = TokenSource::new(move |freshness| {
            source.lock().unwrap().push(freshness);
            async { Err("its server is being restarted".into()) }
        });
        let mut supervisor = fresh();
        let Ok(dialer) = Arc::try_unwrap(std::mem::replace(&mut supervisor.dialer, fresh().dialer)) else {
            panic!("nobody dials")
        };
        supervisor.dialer = Arc::new(Dialer { tokens: Some(tokens), ..dialer });
        supervisor.closed(TransportKind::WebSocket, Close::new(CloseCode::AuthExpired, ""));
        let (session, mut cx) = (client_session(1), Context::from_waker(Waker::noop()));
        for _ in 0..8 {
            tokio::time::advance(SECOND).await;
            assert!(matches!(supervisor.poll_command(&mut cx, &session), Poll::Ready(_) | Poll::Pending));
            supervisor.network_changed();
        }
        let asked = asked.lock().unwrap();
        assert!(asked.len() > 2 && asked.iter().all(|asked| *asked == Freshness::Fresh), "{asked:?}");
        assert!(!matches!(supervisor.step, Step::Over));
    }
}
