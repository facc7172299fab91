//! The task that owns one session and moves it over successive transports.
//!
//! Each turn takes in what handles and carriers brought, lets the session decide, and writes what it lends, with one
//! flush per carrier. The driver knows no rule of the protocol. It has one timer, armed lazily. What it exchanges with
//! the handles is in `handles`, what it is told to do in `commands`.

mod commands;
mod handles;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

use crate::frame::{Attachment, Role};
use crate::session::{Ended, EndedBy, Event, Session, Via};
use crate::transport::{Received, TransportError};

use super::carriers::Carriers;
use super::shared::{Identity, Incoming, Outgoing, Shared};
use super::supervisor::{Notice, Supervisor};
use super::waiters::Waiters;
use super::{Socket, State};

/// How many things one turn reads from one carrier before the others have theirs.
const READS_PER_TURN: usize = 256;

/// How many turns one poll takes before other tasks have theirs.
const TURNS_PER_POLL: usize = 4;

/// What it takes to run a session.
pub(crate) struct Launch {
    pub(crate) session: Session,
    pub(crate) identity: Identity,
    /// How long a sender waits for room before the session is ended; `None` waits for ever.
    pub(crate) patience: Option<std::time::Duration>,
}

/// Makes a session's shared state and the driver that is to be spawned. The supervisor is made with both at hand.
pub(crate) fn launch(
    launch: Launch,
    supervisor: impl FnOnce(&Arc<Shared>) -> Box<dyn Supervisor>,
) -> (Arc<Shared>, Driver) {
    let Launch { session, identity, patience } = launch;
    let shared = Shared::new(&session, identity, patience);
    let driver = Driver {
        supervisor: supervisor(&shared),
        shared: Arc::clone(&shared),
        session,
        carriers: Carriers::default(),
        outgoing: VecDeque::new(),
        incoming: VecDeque::new(),
        handed: 0,
        stale: 0,
        waiters: Waiters::default(),
        state: State::Connecting,
        ended: None,
        said_close: false,
        lingers: false,
        revisit: false,
        rests: false,
        sleep: None,
        rings: tokio::time::Instant::now().into_std(),
        sleeper: 0,
    };
    (shared, driver)
}

impl Shared {
    /// Makes the application's handle. There is to be one per session.
    pub(crate) fn socket(self: &Arc<Self>) -> Socket {
        Socket::new(Arc::clone(self))
    }
}

/// The future that drives one session until its end.
///
/// What every turn touches stands together, with the session's like: see [`Session`].
#[repr(C)]
pub(crate) struct Driver {
    supervisor: Box<dyn Supervisor>,
    /// Messages that the application has not taken, and how many of them a session before this one brought: taking
    /// those opens no window of this one.
    handed: u32,
    stale: u32,
    ended: Option<Box<Ended>>,
    /// Whom the timer wakes: the address of the waker that it holds, or 0.
    sleeper: usize,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When the timer rings, if there is one: it is not to be asked at every turn.
    rings: Instant,
    shared: Arc<Shared>,
    /// Who waits for receipts and replies.
    waiters: Waiters,
    state: State,
    /// Swapped with the handles' queue.
    outgoing: VecDeque<Outgoing>,
    /// Collected for the application during a turn.
    incoming: VecDeque<Incoming>,
    carriers: Carriers,
    /// Whether the session's close was written to a carrier.
    said_close: bool,
    /// Whether the close waits for a carrier that may still come.
    lingers: bool,
    /// Whether the supervisor has heard anything since it was polled: it may have a command.
    revisit: bool,
    /// Whether the supervisor need not be polled before it is told something.
    rests: bool,
    session: Session,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        for _ in 0..TURNS_PER_POLL {
            let now = tokio::time::Instant::now().into_std();
            let again = this.turn(now, cx);
            if this.is_over(now) {
                return Poll::Ready(());
            }
            let again = this.publish(cx) || again || this.shrink_used();
            if !again && this.arm(now, cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Driver {
    /// One round of taking in, deciding, and writing. Says whether there is more to read.
    fn turn(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        self.collect(now);
        while !self.rests {
            let Poll::Ready(command) = self.supervisor.poll_command(cx, &self.session) else {
                self.rests = self.supervisor.is_at_rest();
                break;
            };
            self.obey(now, command);
            self.drain_events(now);
        }
        let more = self.receive(now, cx);
        // The timer is set at the earliest deadline or before.
        let due = self.sleep.is_none() || self.rings <= now;
        if due && self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.carriers.tell_arrived(&mut self.session, now);
            self.session.handle_timeout(now);
            self.drain_events(now);
            self.carriers.shrink();
        }
        self.transmit(now, cx);
        self.said_close |= self.carriers.poll_leaving(now, cx);
        more | std::mem::take(&mut self.revisit)
    }

    /// Reads from all carriers. Says whether one has more.
    fn receive(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let (mut at, mut more) = (0, false);
        // After the end nothing that comes matters any more.
        while at < self.carriers.len() && !self.session.is_ended() {
            let before = self.carriers.len();
            more |= self.receive_from(at, now, cx);
            // Another may have come to stand in its place.
            at += usize::from(self.carriers.len() == before);
        }
        if self.session.role() == Role::Client {
            self.carriers.tell_arrived(&mut self.session, now);
        }
        more
    }

    /// Reads from one carrier. Says whether it has more.
    fn receive_from(&mut self, at: usize, now: Instant, cx: &mut Context<'_>) -> bool {
        let before = self.carriers.len();
        for _ in 0..READS_PER_TURN {
            let Some((attachment, brought)) = self.carriers.poll_recv(at, cx) else { return false };
            let over = brought.is_err();
            self.hand_over(now, attachment, brought);
            // After each, so that the session's queue of events stays as short as it can be.
            self.drain_events(now);
            if over || self.session.is_ended() || self.carriers.len() != before {
                return false;
            }
        }
        true
    }

    fn hand_over(&mut self, now: Instant, attachment: Attachment, brought: Result<Received, TransportError>) {
        match brought {
            Ok(Received::Frame(frame)) => self.session.handle_frame(now, attachment, Via::Carrier, frame),
            Ok(Received::Answer(frame)) => self.session.handle_frame(now, attachment, Via::Push, frame),
            Ok(Received::PushEnded { answered }) => self.session.handle_push_ended(now, attachment, answered),
            Ok(Received::PushRefused) => self.session.handle_push_refused(now, attachment),
            Ok(Received::PollEnded) => self.session.handle_poll_ended(now, attachment),
            Err(error) => self.lose(now, attachment, &error),
        }
    }

    fn lose(&mut self, now: Instant, attachment: Attachment, error: &TransportError) {
        tracing::trace!(session = %self.session.id(), %attachment, %error, "transport ended");
        self.tell(Notice::Failed { attachment, error });
        if let TransportError::Decode(error) = error {
            // The transport may still take the close that says so.
            self.session.handle_malformed(now, attachment, error);
            return;
        }
        self.carriers.remove(attachment);
        self.session.handle_detach(now, attachment);
    }

    fn transmit(&mut self, now: Instant, cx: &mut Context<'_>) {
        let transmitted = self.carriers.transmit(&mut self.session, cx);
        self.said_close |= transmitted.said_close;
        for (attachment, error) in transmitted.ended {
            self.lose(now, attachment, &error);
        }
        self.drain_events(now);
        if self.session.is_ended() {
            self.carriers.leave_all(&mut self.session, now);
        }
    }

    /// Gives back what large messages took, when all of them have passed. Says whether there was any.
    fn shrink_used(&mut self) -> bool {
        let shrunk = self.carriers.shrink_used();
        if shrunk {
            self.session.shrink();
        }
        shrunk
    }

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            // Of all else the supervisor hears.
            self.revisit |= !matches!(event, Event::Message(_) | Event::Reply { .. } | Event::Failed { .. });
            match event {
                Event::Message(message) => {
                    self.handed += 1;
                    self.incoming.push_back(Incoming::Message(message));
                }
                Event::Reply { ticket, answer } => self.waiters.answer(ticket, answer),
                Event::Failed { seq, failure } => self.note_failed(seq, &failure),
                Event::Attached { attachment, transport, resumed } => {
                    self.state = State::Connected { transport };
                    let (session, role) = (self.session.id(), self.session.role().as_str());
                    tracing::debug!(%session, %transport, role, %attachment, resumed, "attached");
                    self.shared.lock().history.begin(attachment, transport, now);
                    let offered = self.session.offered();
                    self.rests = false;
                    self.supervisor.notice(Notice::Attached { attachment, transport, resumed, offered });
                }
                Event::Detached { attachment, reason, close, departure } => {
                    tracing::debug!(session = %self.session.id(), %attachment, ?reason, "detached");
                    self.note_end(Some(attachment), now, reason.code(), &reason);
                    self.carriers.leave(attachment, close, now);
                    let adrift = self.session.attachment().is_none() && !self.session.is_moving();
                    if adrift && matches!(self.state, State::Connected { .. }) {
                        self.state =
                            State::Reconnecting { reason: reason.to_string().into(), retry_at: None };
                    }
                    self.tell(Notice::Detached { attachment, reason: &reason, departure });
                }
                Event::Proved { attachment } => {
                    if let State::Connected { transport } = self.state {
                        self.shared.lock().history.prove(attachment, transport, now);
                    }
                    let owing = self.session.held().0 > 0;
                    tracing::debug!(session = %self.session.id(), %attachment, "proved");
                    self.tell(Notice::Proved { attachment, owing });
                }
                Event::Auth(token) => self.tell(Notice::Auth(token)),
                Event::MoveAsked(ask) => self.tell(Notice::MoveAsked(ask)),
                Event::Ended(ended) => self.end(now, ended),
                // The application hears of a token's fate only when it is refused.
                Event::AuthAccepted { expires_ms } => {
                    let expires = (expires_ms > 0).then(|| std::time::Duration::from_millis(expires_ms));
                    self.tell(Notice::AuthAccepted { expires });
                }
            }
        }
    }

    /// Tells the supervisor something, which may have a command then.
    fn tell(&mut self, notice: Notice<'_>) {
        self.rests = false;
        self.supervisor.notice(notice);
    }

    /// Notes in the history that a transport carries the session no more, if it did.
    fn note_end(
        &self,
        attachment: Option<Attachment>,
        now: Instant,
        code: &str,
        text: &dyn std::fmt::Display,
    ) {
        if let State::Connected { transport } = self.state {
            self.shared.lock().history.end(attachment, transport, now, code, &text.to_string());
        }
    }

    fn end(&mut self, now: Instant, mut ended: Ended) {
        self.note_end(None, now, ended.close.code.as_str(), &ended.close);
        let (session, close) = (self.session.id(), &ended.close);
        tracing::debug!(%session, code = %close.code, reason = ?close.reason, by = ?ended.by, "ended");
        self.waiters.settle(self.session.acked_ticket());
        self.rests = false;
        let Some(next) = self.supervisor.ended(&ended, now) else {
            self.waiters.fail(&ended);
            self.state = State::Closed { close: ended.close.clone() };
            // A client that nothing carries has nobody to tell.
            self.lingers =
                ended.by == EndedBy::Local && !self.said_close && self.session.role() == Role::Server;
            self.ended = Some(Box::new(ended));
            return;
        };
        for attachment in self.carriers.cut() {
            tracing::trace!(session = %self.session.id(), %attachment, "dropped with its session");
        }
        let was_known = self.session.epoch().is_some();
        self.session = next;
        self.stale = self.handed;
        // What was never put on a transport goes to the new session, with whoever waits for it; but an answer only
        // means something in the session that asked.
        let (unknown, unsent): (Vec<_>, Vec<_>) = std::mem::take(&mut ended.undelivered)
            .into_iter()
            .partition(|m| m.is_unknown() || m.kind.is_answer());
        let mut carried = Vec::with_capacity(unsent.len());
        ended.undelivered = unknown;
        for message in unsent {
            let waiter = self.waiters.remove(message.ticket);
            carried.push(Outgoing { kind: message.kind, body: message.body, waiter });
        }
        self.waiters.fail(&ended);
        carried.into_iter().for_each(|outgoing| self.send(now, outgoing));
        self.state = State::Reconnecting { reason: ended.close.to_string().into(), retry_at: None };
        // A session that no server ever had is not lost.
        if was_known || !ended.undelivered.is_empty() {
            self.incoming.push_back(Incoming::Lost(Box::new(ended)));
        }
    }

    /// Sets the timer. False: what is due has come already.
    fn arm(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let deadlines = [self.session.poll_timeout(), self.carriers.deadline(), self.linger_until()];
        let Some(due) = deadlines.into_iter().flatten().min() else { return true };
        // A timer that fires too early costs a look; one that is moved, or even asked, at every message costs more.
        match &mut self.sleep {
            Some(_) if self.rings <= due => {}
            Some(sleep) => {
                sleep.as_mut().reset(due.into());
                (self.rings, self.sleeper) = (due, 0);
            }
            None => {
                self.sleep = Some(Box::pin(tokio::time::sleep_until(due.into())));
                (self.rings, self.sleeper) = (due, 0);
            }
        }
        let Some(sleep) = self.sleep.as_mut().filter(|_| due > now) else { return false };
        let waker = cx.waker().data().addr();
        if self.sleeper == waker && self.rings > now {
            return true;
        }
        if sleep.as_mut().poll(cx).is_pending() {
            self.sleeper = waker;
            return true;
        }
        (self.sleep, self.sleeper) = (None, 0);
        false
    }

    /// Until when a close that was not said waits for a carrier.
    fn linger_until(&self) -> Option<Instant> {
        let ended_at = self.session.ended_at().filter(|_| self.lingers)?;
        Some(ended_at + self.session.config().close_timeout)
    }

    /// Whether the session has ended and all has been said.
    fn is_over(&mut self, now: Instant) -> bool {
        if !self.session.is_ended() || self.carriers.len() > 0 || self.carriers.is_leaving() {
            return false;
        }
        self.said_close || self.linger_until().is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod size {
    #[test]
    fn a_driver_fits_the_class_of_its_task() {
        let size = size_of::<super::Driver>();
        assert!(size <= 792, "{size} bytes: its task would take the next class of the allocator");
    }
}
