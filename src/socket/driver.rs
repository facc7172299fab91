//! The task that owns one session and moves it over successive transports.
//!
//! Each turn takes in what handles and carriers brought, lets the session decide, and writes what it lends, with one
//! flush per carrier. The driver knows no rule of the protocol. It has one timer, armed lazily.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::time::Sleep;

use crate::frame::{Attachment, Close, CloseCode, Frame, Hello, Poll as PollFrame, Role, Seq};
use crate::session::{
    Config, Ended, EndedBy, Event, Greeting, Return, SendError as Refused, Session, Undelivered, Via,
};
use crate::transport::{Received, Transport, TransportError};

use super::carriers::Carriers;
use super::shared::{BeginStream, Command, Incoming, Outgoing, Principal, PushAnswer, Shared, Wakers};
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
    pub(crate) config: Arc<Config>,
    pub(crate) principal: Option<Principal>,
    /// How long a sender waits for room before the session is ended; `None` waits for ever.
    pub(crate) patience: Option<std::time::Duration>,
}

/// Makes a session's shared state and the driver that is to be spawned. The supervisor is made with both at hand.
pub(crate) fn launch(
    launch: Launch,
    supervisor: impl FnOnce(&Arc<Shared>) -> Box<dyn Supervisor>,
) -> (Arc<Shared>, Driver) {
    let Launch { session, config, principal, patience } = launch;
    let shared = Shared::new(session.id(), principal, &config, patience);
    let driver = Driver {
        supervisor: supervisor(&shared),
        shared: Arc::clone(&shared),
        session,
        config,
        carriers: Carriers::default(),
        outgoing: VecDeque::new(),
        incoming: VecDeque::new(),
        handed: 0,
        stale: 0,
        waiters: Waiters::default(),
        state: State::Connecting,
        ended: None,
        said_close: false,
        linger_until: None,
        sleep: None,
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
pub(crate) struct Driver {
    shared: Arc<Shared>,
    supervisor: Box<dyn Supervisor>,
    session: Session,
    config: Arc<Config>,
    carriers: Carriers,
    /// Swapped with the handles' queue.
    outgoing: VecDeque<Outgoing>,
    /// Collected for the application during a turn.
    incoming: VecDeque<Incoming>,
    /// Messages that the application has not taken, and how many of them a session before this one brought: taking
    /// those opens no window of this one.
    handed: u64,
    stale: u64,
    /// Who waits for receipts and replies.
    waiters: Waiters,
    state: State,
    ended: Option<Box<Ended>>,
    /// Whether the session's close was written to a carrier.
    said_close: bool,
    linger_until: Option<Instant>,
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
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
            let again = this.publish(cx) || again;
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
        while let Poll::Ready(command) = self.supervisor.poll_command(cx) {
            self.obey(now, command);
            self.drain_events(now);
        }
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now);
            self.drain_events(now);
            self.carriers.shrink();
        }
        let more = self.receive(now, cx);
        self.transmit(now, cx);
        self.said_close |= self.carriers.poll_leaving(now, cx);
        more
    }

    /// Takes over what the handles left: one lock.
    fn collect(&mut self, now: Instant) {
        let mut inner = self.shared.lock();
        inner.driver = None;
        std::mem::swap(&mut self.outgoing, &mut inner.outgoing);
        // Counted as held until `publish` counts anew.
        inner.held.0 += self.outgoing.len();
        inner.held.1 = inner.held.1.saturating_add(std::mem::take(&mut inner.queued_bytes));
        let close = if self.session.is_open() { inner.close.clone() } else { None };
        let commands = std::mem::take(&mut inner.commands);
        drop(inner);
        let mut queue = std::mem::take(&mut self.outgoing);
        queue.drain(..).for_each(|outgoing| self.send(now, outgoing));
        // An idle session keeps no room for bursts.
        self.outgoing = if queue.capacity() <= 64 { queue } else { VecDeque::new() };
        let taken = self.shared.collect_taken();
        if taken > 0 {
            let stale = taken.min(self.stale);
            self.stale -= stale;
            self.handed = self.handed.saturating_sub(taken);
            self.session.acknowledge(now, taken - stale);
        }
        if let Some(close) = close {
            self.session.close(now, close);
        }
        for command in commands {
            self.obey(now, command);
        }
        self.drain_events(now);
    }

    fn send(&mut self, now: Instant, outgoing: Outgoing) {
        let Outgoing { kind, body, waiter } = outgoing;
        if body.len() as u64 > self.session.max_message_bytes() {
            // The peer takes less than was known when the message was accepted.
            let reason = "a message that was accepted is larger than the peer takes";
            self.session.abort(now, Close::new(CloseCode::TooLarge, reason));
            self.drain_events(now);
        }
        // A message that was accepted while the session ended is reported like the others that were not sent.
        if let Some(ended) = &mut self.ended {
            ended.undelivered.push(Undelivered::unsent(kind, body));
            return waiter.into_iter().for_each(|waiter| waiter.refuse(Refused::Closed));
        }
        match (self.session.send(kind, body), waiter) {
            (Ok(ticket), Some(waiter)) => self.waiters.add(ticket, waiter),
            (Err(refused), Some(waiter)) => waiter.refuse(refused),
            (_, None) => {}
        }
    }

    fn obey(&mut self, now: Instant, command: Command) {
        match command {
            Command::Hello { hello, transport, behind, expires } => {
                if self.greet(now, &hello, transport, behind) {
                    self.session.grant(now, expires);
                }
            }
            Command::Return { received, begin, expires } => self.welcome_back(now, received, begin, expires),
            Command::Poll { poll, transport } => self.take_poll(now, &poll, transport),
            Command::Push { attachment, frames, malformed, answer } => {
                if let Some(close) = self.session.expiry() {
                    let _ = answer.send(PushAnswer::Close(close));
                    return;
                }
                for frame in frames {
                    self.session.handle_frame(now, attachment, Via::Push, frame);
                }
                if let Some(error) = malformed {
                    self.session.handle_malformed(now, attachment, &error);
                }
                let answered = match self.session.end() {
                    Some(close) => PushAnswer::Close(close.clone()),
                    None => PushAnswer::Ack(self.session.push_answer(attachment)),
                };
                // Nobody there any more: the client repeats what was not answered.
                let _ = answer.send(answered);
            }
            Command::AcceptAuth { expires_ms } => self.session.accept_auth(now, expires_ms),
            Command::Introduce { transport, intent, auth } => {
                let kind = transport.kind();
                if let Some(attachment) = self.session.introduce(now, kind, intent, auth) {
                    self.drain_events(now);
                    self.carriers.bind(attachment, transport, now);
                    self.supervisor.notice(Notice::Introduced { attachment });
                }
            }
            Command::RefreshAuth(token) => self.session.refresh_auth(token),
            Command::Waiting { reason, retry_at } => self.state = State::Reconnecting { reason, retry_at },
            Command::Move(ask) => match self.session.role() {
                Role::Server => self.session.ask_move(ask),
                Role::Client => self.supervisor.notice(Notice::MoveAsked(ask)),
            },
            Command::Cut => {
                for attachment in self.carriers.cut() {
                    self.session.handle_detach(now, attachment);
                }
            }
            Command::Abort(close) => self.session.abort(now, close),
        }
    }

    /// Says whether the transport was bound.
    fn greet(
        &mut self,
        now: Instant,
        hello: &Hello,
        transport: Box<dyn Transport>,
        behind: Vec<Frame>,
    ) -> bool {
        match self.session.handle_hello(now, hello) {
            Greeting::Bound(attachment) => {
                self.drain_events(now);
                self.carriers.bind(attachment, transport, now);
                for frame in behind {
                    self.session.handle_frame(now, attachment, Via::Carrier, frame);
                }
                true
            }
            Greeting::Refused(close) => {
                self.refuse(now, transport, close);
                false
            }
        }
    }

    fn welcome_back(
        &mut self,
        now: Instant,
        received: Seq,
        begin: BeginStream,
        expires: Option<std::time::Duration>,
    ) {
        match self.session.handle_return(now, received) {
            Ok(Return { attachment, from, lost }) => {
                self.session.grant(now, expires);
                self.drain_events(now);
                self.carriers.bind(attachment, begin(from, lost), now);
            }
            Err(close) => self.refuse(now, begin(received, false), close),
        }
    }

    fn take_poll(&mut self, now: Instant, poll: &PollFrame, transport: Box<dyn Transport>) {
        match self.session.handle_poll(now, poll) {
            Greeting::Bound(attachment) => {
                self.drain_events(now);
                self.carriers.bind(attachment, transport, now);
            }
            Greeting::Refused(close) => self.refuse(now, transport, close),
        }
    }

    fn refuse(&mut self, now: Instant, transport: Box<dyn Transport>, close: Close) {
        self.drain_events(now);
        self.carriers.dismiss(transport, Some(close), now);
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
            Ok(Received::PollEnded) => self.session.handle_poll_ended(now, attachment),
            Err(error) => self.lose(now, attachment, &error),
        }
    }

    fn lose(&mut self, now: Instant, attachment: Attachment, error: &TransportError) {
        tracing::trace!(session = %self.session.id(), %attachment, %error, "transport ended");
        self.supervisor.notice(Notice::Failed { attachment, error });
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

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Message(message) => {
                    self.handed += 1;
                    self.incoming.push_back(Incoming::Message(message));
                }
                Event::Reply { ticket, answer } => self.waiters.answer(ticket, answer),
                Event::Attached { attachment, transport, resumed } => {
                    self.state = State::Connected { transport };
                    let (session, role) = (self.session.id(), self.session.role().as_str());
                    tracing::debug!(%session, %transport, role, %attachment, resumed, "attached");
                    let offered = self.session.offered();
                    self.supervisor.notice(Notice::Attached { attachment, transport, resumed, offered });
                }
                Event::Detached { attachment, reason, close } => {
                    tracing::debug!(session = %self.session.id(), %attachment, ?reason, "detached");
                    self.carriers.leave(attachment, close, now);
                    let adrift = self.session.attachment().is_none() && !self.session.is_moving();
                    if adrift && matches!(self.state, State::Connected { .. }) {
                        self.state =
                            State::Reconnecting { reason: reason.to_string().into(), retry_at: None };
                    }
                    self.supervisor.notice(Notice::Detached { attachment, reason: &reason });
                }
                Event::Auth(token) => self.supervisor.notice(Notice::Auth(token)),
                Event::MoveAsked(ask) => self.supervisor.notice(Notice::MoveAsked(ask)),
                Event::Ended(ended) => self.end(now, ended),
                // The application hears of a token's fate only when it is refused.
                Event::AuthAccepted { expires_ms } => {
                    let expires = (expires_ms > 0).then(|| std::time::Duration::from_millis(expires_ms));
                    self.supervisor.notice(Notice::AuthAccepted { expires });
                }
            }
        }
    }

    fn end(&mut self, now: Instant, mut ended: Ended) {
        tracing::debug!(session = %self.session.id(), close = %ended.close, by = ?ended.by, "ended");
        self.waiters.settle(self.session.acked_ticket());
        let Some(next) = self.supervisor.ended(&ended, now) else {
            self.waiters.fail(&ended);
            self.state = State::Closed { close: ended.close.clone() };
            // A client that nothing carries has nobody to tell.
            let lingers =
                ended.by == EndedBy::Local && !self.said_close && self.session.role() == Role::Server;
            self.linger_until = lingers.then(|| now + self.config.close_timeout);
            self.ended = Some(Box::new(ended));
            return;
        };
        for attachment in self.carriers.cut() {
            tracing::trace!(%attachment, "dropped with its session");
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

    /// Hands over to the handles: one lock. Says whether there is something to collect already; if not, the waker
    /// is registered.
    fn publish(&mut self, cx: &mut Context<'_>) -> bool {
        self.waiters.settle(self.session.acked_ticket());
        let held = self.session.held();
        let (mut receiver, mut senders) = (None, Wakers::default());
        let mut inner = self.shared.lock();
        if inner.abandoned {
            // Nobody receives: what still comes counts as taken.
            let messages = self.incoming.iter().filter(|incoming| matches!(incoming, Incoming::Message(_)));
            self.shared.count_taken(messages.count() as u64);
            self.incoming.clear();
        } else if !self.incoming.is_empty() {
            if inner.incoming.is_empty() {
                std::mem::swap(&mut inner.incoming, &mut self.incoming);
            } else {
                inner.incoming.append(&mut self.incoming);
            }
            receiver = inner.receiver.take();
        }
        if held.0 < inner.held.0 || held.1 < inner.held.1 {
            senders = inner.senders.take();
        }
        inner.held = held;
        let taken = self.shared.press(self.session.is_pressing());
        inner.max_message = self.session.max_message_bytes();
        inner.id = self.session.id();
        if let Some(ended) = self.ended.take() {
            inner.keep_end(ended);
            receiver = receiver.or_else(|| inner.receiver.take());
            senders = inner.senders.take();
        }
        let watchers = inner.set_state(self.state.clone());
        let waiting = !inner.outgoing.is_empty()
            || !inner.commands.is_empty()
            || taken
            || (inner.close.is_some() && self.session.is_open());
        if !waiting {
            inner.driver = Some(cx.waker().clone());
        }
        drop(inner);
        receiver.into_iter().for_each(Waker::wake);
        senders.wake();
        watchers.wake();
        waiting
    }

    /// Sets the timer. False: what is due has come already.
    fn arm(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let deadlines = [self.session.poll_timeout(), self.carriers.deadline(), self.linger_until];
        let Some(due) = deadlines.into_iter().flatten().min() else { return true };
        if due <= now {
            return false;
        }
        // A timer that fires too early costs a look; one that is moved at every message costs more.
        match &mut self.sleep {
            Some((at, _)) if *at <= due => {}
            Some((at, sleep)) => {
                *at = due;
                sleep.as_mut().reset(due.into());
            }
            None => self.sleep = Some((due, Box::pin(tokio::time::sleep_until(due.into())))),
        }
        let Some((_, sleep)) = &mut self.sleep else { return true };
        if sleep.as_mut().poll(cx).is_pending() {
            return true;
        }
        self.sleep = None;
        false
    }

    /// Whether the session has ended and all has been said.
    fn is_over(&mut self, now: Instant) -> bool {
        if !self.session.is_ended() || self.carriers.len() > 0 || self.carriers.is_leaving() {
            return false;
        }
        self.said_close || self.linger_until.is_none_or(|until| until <= now)
    }
}

impl Drop for Driver {
    /// However it ends, nobody waits for ever.
    fn drop(&mut self) {
        let now = tokio::time::Instant::now().into_std();
        if !self.session.is_ended() {
            self.session.abort(now, Close::new(CloseCode::InternalError, "the driver was dropped"));
        }
        while let Some(event) = self.session.poll_event() {
            if let Event::Ended(ended) = event {
                self.waiters.fail(&ended);
                self.state = State::Closed { close: ended.close.clone() };
                self.ended = Some(Box::new(ended));
            }
        }
        self.finish();
    }
}

impl Driver {
    fn finish(&mut self) {
        let mut inner = self.shared.lock();
        inner.finished = true;
        let commands = std::mem::take(&mut inner.commands);
        inner.incoming.append(&mut self.incoming);
        if let Some(ended) = self.ended.take() {
            inner.keep_end(ended);
        }
        let (receiver, senders) = (inner.receiver.take(), inner.senders.take());
        let watchers = inner.set_state(self.state.clone());
        drop(inner);
        drop(commands);
        receiver.into_iter().for_each(Waker::wake);
        senders.wake();
        watchers.wake();
    }
}
