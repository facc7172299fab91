//! Keeps one session carried: dials, falls back, backs off, moves.
//!
//! It is polled by the driver and decides when to dial; the [`Plan`] decides what, [`Pauses`] how long to wait, the
//! session what a transport may do once it is introduced. It implements the client's side of `docs/PROTOCOL.md`,
//! "Negotiation" and "Closing".

mod aftermath;
mod bound;
mod dialling;
mod hope;
mod moving;
mod probing;
mod racing;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::frame::{Attachment, Close, SessionId, SessionKey, TransportKind};
use crate::session::{Config, Ended, Intent, Lesson, Session};
use crate::socket::{Command, Notice, Shared, Supervisor};
use crate::transport::BoxError;

use super::ConnectError;
use super::backoff::{Backoff, Pauses};
use super::dial::{DialError, Dialer, Dialled, Verdict};
use super::learning::Learning;
use super::plan::Plan;
use super::renewal::Renewal;
use super::token::Freshness;
use super::verdicts::Network;
use bound::Bound;
use dialling::Dialling;
pub(super) use hope::Hope;
use moving::Moving;
use probing::Probing;

/// Makes the client end of a new session.
pub(super) fn begin(config: &Arc<Config>, now: Instant) -> Result<Session, BoxError> {
    let (mut id, mut key) = ([0; 16], [0; 32]);
    getrandom::fill(&mut id)?;
    getrandom::fill(&mut key)?;
    let (id, key) = (SessionId::from_bytes(id), SessionKey::from_bytes(key));
    Ok(Session::client(Arc::clone(config), id, key, now))
}

/// Hears whether the session came to be: once.
pub(super) type First = oneshot::Sender<Result<(), ConnectError>>;

/// What a client's session is kept carried with.
pub(super) struct Means {
    pub(super) dialer: Dialer,
    pub(super) config: Arc<Config>,
    pub(super) plan: Plan,
    pub(super) backoff: Backoff,
    pub(super) max_attempts: Option<u32>,
    /// The least time that a transport has for itself between its opening and the next one's.
    pub(super) head_start: Duration,
    /// How long a session may be without any progress at its begin, and whether that counts while no host is reached.
    pub(super) hope: Hope,
    pub(super) network: Network,
}

pub(super) struct ClientSupervisor {
    dialer: Arc<Dialer>,
    config: Arc<Config>,
    plan: Plan,
    pauses: Pauses,
    max_attempts: Option<u32>,
    head_start: Duration,
    /// How long the last opening took.
    opening: Duration,
    hope: Hope,
    network: Network,
    /// When the application last said that the network had changed, and which attachments were dialled before.
    changed_at: Option<Instant>,
    stale: Option<Attachment>,
    learning: Learning,
    probing: Probing,
    /// Failed ones in a row.
    attempts: u32,
    /// Since when an attempt is under way, of whatever transports; since when nothing carries the session.
    trying: Option<Instant>,
    adrift: Instant,
    round: Round,
    session: SessionId,
    /// Whether a server has ever welcomed this session.
    welcomed: bool,
    step: Step,
    /// What the session has, the carrier included.
    bound: Vec<Bound>,
    carrier: Option<Attachment>,
    /// When the next transport is dialled beside those that are not welcomed yet.
    race: Option<Pin<Box<Sleep>>>,
    /// Whether it was put off because the next one was demoted.
    lingered: bool,
    /// Dials that take so long that others were begun beside them.
    stalled: Vec<Dialling>,
    /// What the driver has been given and will name.
    introducing: Option<(Target, Instant)>,
    /// What the session is to know of the network.
    lesson: Option<Lesson>,
    /// Candidates that another was quicker than.
    losers: Vec<Attachment>,
    /// What had no welcome when another, which began later, had its.
    outrun: Vec<TransportKind>,
    /// A move that was asked for and has not begun.
    moving: Option<Moving>,
    token: TokenState,
    renewal: Renewal,
    /// When a session was last replaced by another.
    renewed_at: Option<Instant>,
    /// Why nothing carries the session.
    reason: Arc<str>,
    /// What the driver is to hear next.
    report: Option<Command>,
    first: Option<First>,
    gave_up: Option<ConnectError>,
    /// Where failures are noted for the application.
    shared: Option<Arc<Shared>>,
}

/// What is being done for the session. One transport is dialled, and perhaps others still that take long; those that are
/// open and not welcomed yet may be several.
enum Step {
    /// Nothing: what is bound carries it or will; where nothing is bound the next dial is due.
    Rest,
    Dialling(Dialling),
    /// Until it is time to dial again.
    Waiting(Pin<Box<Sleep>>),
    /// The session is over.
    Over,
}

#[derive(Clone, Copy)]
struct Target {
    kind: TransportKind,
    /// Whether somebody asked for this transport by name.
    wished: bool,
}

/// What has failed since the plan began with the best.
#[derive(Default)]
struct Round {
    not_offered: Option<Close>,
    otherwise: bool,
    /// How long to wait before the next round, at least.
    wait: Option<Duration>,
    /// How often in a row somebody turned requests down for now.
    turned_down: usize,
    /// Whether somebody did: each request takes another's turn.
    rationed: bool,
}

/// Where a client stands with `auth_expired`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenState {
    Usual,
    /// Dials are to bear a fresh token.
    FreshWanted,
    /// A fresh token was got, and nothing has attached since.
    FreshTried,
}

impl ClientSupervisor {
    pub(super) fn new(means: Means, session: SessionId, first: First) -> Self {
        let Means { dialer, config, plan, backoff, max_attempts, head_start, hope, network } = means;
        let mut new = Self {
            dialer: Arc::new(dialer),
            config,
            plan,
            pauses: Pauses::new(backoff),
            max_attempts,
            head_start,
            opening: Duration::ZERO,
            hope,
            network,
            changed_at: None,
            stale: None,
            learning: Learning::default(),
            probing: Probing::default(),
            attempts: 0,
            trying: None,
            adrift: now(),
            round: Round::default(),
            session,
            welcomed: false,
            step: Step::Rest,
            bound: Vec::new(),
            carrier: None,
            race: None,
            lingered: false,
            stalled: Vec::new(),
            introducing: None,
            lesson: None,
            losers: Vec::new(),
            outrun: Vec::new(),
            moving: None,
            token: TokenState::Usual,
            renewal: Renewal::default(),
            renewed_at: None,
            reason: "".into(),
            report: None,
            first: Some(first),
            gave_up: None,
            shared: None,
        };
        new.remember();
        new
    }

    /// Has failures noted in the history of a socket.
    pub(super) fn note_in(mut self, shared: &Arc<Shared>) -> Self {
        self.shared = Some(Arc::clone(shared));
        self
    }

    /// Notes that a transport was tried in vain since it was dialled.
    fn note_failure(&self, kind: TransportKind, dialled: Instant, code: &str, text: &str) {
        let (now, shared) = (now(), self.shared.as_ref());
        let took = now.saturating_duration_since(dialled);
        tracing::debug!(session = %self.session, transport = %kind, code, reason = text, ?took, "tried in vain");
        shared.into_iter().for_each(|shared| shared.note_failure(kind, now, took, code, text));
    }

    /// Begins to dial.
    fn dial(&mut self, target: Target) {
        let freshness = match self.token {
            TokenState::FreshWanted | TokenState::FreshTried => Freshness::Fresh,
            TokenState::Usual => Freshness::Any,
        };
        let adrift = if self.carrier.is_some() { Duration::ZERO } else { self.adrift_for() };
        self.dialer.adapt(adrift);
        self.trying.get_or_insert_with(now);
        tracing::debug!(session = %self.session, transport = %target.kind, "dialling");
        self.step = Step::Dialling(Dialling::new(&self.dialer, self.session, target, freshness));
        // It is alone until it has its token, and then for its time.
        (self.race, self.lingered) = (None, false);
    }

    fn dial_next(&mut self) {
        let now = now();
        if self.plan.next(now).is_none() {
            self.new_round();
        }
        match self.plan.next(now) {
            Some(kind) => self.dial(Target { kind, wished: false }),
            None => self.pause_after_failure(None),
        }
    }

    fn dialled(
        &mut self,
        target: Target,
        began: Instant,
        dialled: Result<Dialled, DialError>,
    ) -> Option<Command> {
        match dialled {
            Ok(Dialled { transport, auth, freshness }) => {
                self.hope.reached = true;
                if freshness == Freshness::Fresh && self.token == TokenState::FreshWanted {
                    self.token = TokenState::FreshTried;
                }
                self.opening = now().saturating_duration_since(began);
                self.race_after(self.opening);
                // What is bound goes on carrying, or is about to.
                let gone = self.bound.iter().all(|bound| Some(bound.attachment) <= self.stale);
                let intent = if gone { Intent::Attach } else { Intent::Candidate };
                self.introducing = Some((target, began));
                Some(Command::Introduce { transport, intent, auth })
            }
            Err(error) => {
                self.note_failure(target.kind, began, "failed", &error.reason);
                self.hope.reached |= error.verdict != Verdict::Host;
                if self.bound.is_empty() && self.stalled.is_empty() && matches!(self.step, Step::Rest) {
                    self.failed(target.kind, error);
                } else {
                    self.fell_out(target.kind, error.verdict);
                }
                None
            }
        }
    }

    fn new_round(&mut self) {
        self.plan.restart();
        self.round = Round { rationed: self.round.rationed, ..Round::default() };
    }
}

impl Supervisor for ClientSupervisor {
    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Introduced { attachment } => self.introduced(attachment),
            Notice::Attached { attachment, transport, offered, .. } => {
                self.attached(attachment, transport, offered)
            }
            Notice::Failed { attachment, error } => {
                if let Some(bound) = self.bound.iter_mut().find(|bound| bound.attachment == attachment) {
                    bound.failure = Some(DialError::of(error));
                }
            }
            Notice::Detached { attachment, reason, departure } => {
                self.detached(attachment, reason, departure);
            }
            Notice::Proved { attachment, owing } => self.proved(attachment, owing),
            Notice::NetworkChanged => self.network_changed(),
            Notice::MoveAsked(ask) => self.move_asked(ask),
            Notice::AuthAccepted { expires } => self.renewal.granted(expires),
            Notice::Auth(_) => {}
        }
    }

    fn poll_command(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<Command> {
        loop {
            if let Some(command) = self.report.take() {
                return Poll::Ready(command);
            }
            if let Poll::Ready(renewed) = self.renewal.poll(cx, &self.dialer, self.session) {
                match renewed {
                    Some(token) => return Poll::Ready(Command::RefreshAuth(token)),
                    None => self.want_fresh_token(),
                }
            }
            if let Some(lesson) = self.lesson.take() {
                return Poll::Ready(Command::Learn(lesson));
            }
            if let Some(loser) = self.losers.pop() {
                return Poll::Ready(Command::Withdraw(loser));
            }
            if self.poll_hope(cx, session) {
                continue;
            }
            if let Poll::Ready(command) = self.poll_stalled(cx) {
                return Poll::Ready(command);
            }
            self.poll_moving(cx);
            self.poll_probing(cx);
            self.poll_race(cx);
            match &mut self.step {
                Step::Rest if self.bound.is_empty() && self.stalled.is_empty() => self.dial_next(),
                Step::Rest | Step::Over => return Poll::Pending,
                Step::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    let reason = Arc::clone(&self.reason);
                    self.step = Step::Rest;
                    self.report = Some(Command::Waiting { reason, retry_at: None });
                }
                Step::Dialling(dialling) => {
                    let Some(dialled) = ready!(dialling.poll(cx, &self.dialer)) else {
                        // One that takes long to open gets company as well.
                        self.race_stalled();
                        continue;
                    };
                    let (target, began) = (dialling.target, dialling.began);
                    self.step = Step::Rest;
                    if let Some(command) = self.dialled(target, began, dialled) {
                        return Poll::Ready(command);
                    }
                }
            }
        }
    }

    fn ended(&mut self, ended: &Ended, now: Instant) -> Option<Session> {
        // The numbers of the next session's attachments begin anew.
        self.losers.clear();
        self.outrun.clear();
        self.stalled.clear();
        (self.race, self.introducing, self.stale, self.report) = (None, None, None, None);
        let session = self.renew(ended, now);
        if session.is_none() {
            self.step = Step::Over;
            self.renewal = Renewal::default();
            self.moving = None;
            self.probing = Probing::default();
            self.bound.clear();
            if let Some(first) = self.first.take() {
                let error = self.gave_up.take().unwrap_or_else(|| ConnectError::Refused(ended.close.clone()));
                // Whoever started the session may not wait for it.
                let _ = first.send(Err(error));
            }
        }
        session
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
