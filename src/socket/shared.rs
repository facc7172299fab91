//! What a socket's handles and its driver share: one lock over queues in both directions.
//!
//! One lock in, one lock out, one look before sleeping: the driver swaps whole queues, and registers its waker
//! only when it is about to sleep, so that what is sent while it runs costs no wake. Wakers are woken after
//! unlocking.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, throughline_loom)))]
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

#[cfg(all(test, throughline_loom))]
use loom::sync::{Mutex, MutexGuard};

use http::Extensions;

use crate::frame::{Attachment, Body, Close, Message, MessageKind, SessionId, TransportKind, Window};
use crate::session::{Ended, Receipts, SendError, Session, Undelivered};

use super::command::{Command, MAX_COMMANDS, NotTaken};
use super::history::{History, Passage};
use super::misfit::Told;
use super::state::State;
use super::waiters::Waiter;

/// Who the authenticator says this is. The name is the application's; it may stand in logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// A principal by name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known of who a session belongs to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) principal: Option<Principal>,
    /// What the authenticator granted besides.
    pub(crate) extensions: Option<Arc<Extensions>>,
}

impl Identity {
    pub(crate) fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.as_ref()?.get()
    }
}

impl From<Option<Principal>> for Identity {
    fn from(principal: Option<Principal>) -> Self {
        Self { principal, extensions: None }
    }
}

/// A message on its way to the driver.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) kind: MessageKind,
    pub(super) body: Body,
    pub(super) waiter: Option<Waiter>,
}

/// What is on its way to the application.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(Message),
    /// The session was lost, and another has begun.
    Lost(Box<Ended>),
}

/// A few wakers, each kept once.
#[derive(Debug, Default)]
pub(super) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(super) fn register(&mut self, waker: &Waker) {
        if !self.0.iter().any(|known| known.will_wake(waker)) {
            self.0.push(waker.clone());
        }
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    #[inline]
    pub(super) fn wake(self) {
        if !self.0.is_empty() {
            self.0.into_iter().for_each(Waker::wake);
        }
    }
}

/// In the order in which it is touched: a publication goes to thousands of sessions that have all left the cache, so what a
/// `try_send` needs stands together, and behind it what a turn of the driver needs besides.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Inner {
    /// To the driver.
    pub(super) outgoing: VecDeque<Outgoing>,
    /// Bodies in `outgoing`.
    pub(super) queued_bytes: u64,
    /// Messages and bytes that the session holds.
    pub(super) held: (usize, u64),
    pub(super) max_message: u64,
    /// The application asks to close.
    pub(super) close: Option<Close>,
    /// Set only while the driver sleeps.
    pub(super) driver: Option<Waker>,
    /// The driver is gone.
    pub(super) finished: bool,
    /// The application's handle is gone: nobody receives.
    pub(super) abandoned: bool,
    /// The state is [`State::Closed`].
    closed: bool,
    pub(super) state: State,
    pub(super) history: History,
    /// To the driver.
    pub(super) commands: Vec<Command>,
    /// From the driver.
    pub(super) incoming: VecDeque<Incoming>,
    pub(super) receiver: Option<Waker>,
    /// Who waits for room to send.
    pub(super) senders: Wakers,
    pub(super) id: SessionId,
    pub(super) state_version: u64,
    pub(super) state_wakers: Wakers,
    /// How the session ended, until the application has been told.
    pub(super) ended: Option<Box<Ended>>,
    /// What the peer tells of messages that do not fit it, once somebody has asked to hear of it.
    pub(super) misfits: Option<Box<Told>>,
}

/// What a socket's handles and its driver share.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shared {
    /// How much may wait to be sent or acknowledged.
    pub(super) bound: Window,
    /// Messages that the application took since the driver last looked.
    taken: AtomicU32,
    /// Whether each message that is taken matters to the peer now.
    pressing: AtomicBool,
    inner: Mutex<Inner>,
    #[cfg(feature = "server")]
    receipts: Receipts,
    pub(super) identity: Identity,
    /// How long `send` waits before the session is ended for slowness.
    pub(super) patience: Option<std::time::Duration>,
}

impl Shared {
    pub(super) fn new(
        session: &Session,
        identity: Identity,
        patience: Option<std::time::Duration>,
    ) -> Arc<Self> {
        let config = session.config();
        let inner = Inner {
            id: session.id(),
            commands: Vec::new(),
            outgoing: VecDeque::new(),
            queued_bytes: 0,
            close: None,
            driver: None,
            incoming: VecDeque::new(),
            receiver: None,
            held: (0, 0),
            senders: Wakers::default(),
            max_message: config.limits.max_message_bytes as u64,
            abandoned: false,
            closed: false,
            state: State::Connecting,
            state_version: 0,
            state_wakers: Wakers::default(),
            ended: None,
            misfits: None,
            finished: false,
            history: History::default(),
        };
        let bound = match config.receipts {
            Receipts::Given => config.send_buffer,
            // The session drops the oldest instead.
            Receipts::Absent => Window { messages: u32::MAX, bytes: u64::MAX },
        };
        let (taken, pressing) = (AtomicU32::new(0), AtomicBool::new(false));
        Arc::new(Self {
            inner: Mutex::new(inner),
            taken,
            pressing,
            #[cfg(feature = "server")]
            receipts: config.receipts,
            identity,
            bound,
            patience,
        })
    }

    /// A panic while the lock was held cannot leave the queues broken: nothing in between unwinds.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a message as taken by the application, and wakes the driver if the peer may be waiting to hear of it.
    ///
    /// At each message, and not when the application comes back for more than there is: a handler that works long
    /// on one message of many, or waits for an answer that needs room in the window, must not hold that room back.
    pub(super) fn note_taken(&self) {
        // The driver tells whether it presses before it looks at the count: one of the two sees the other.
        self.count_taken(1);
        if self.pressing.load(Ordering::SeqCst) {
            let driver = self.lock().driver.take();
            driver.into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn count_taken(&self, count: u32) {
        self.taken.fetch_add(count, Ordering::SeqCst);
    }

    /// Takes the count of messages that were taken.
    pub(super) fn collect_taken(&self) -> u32 {
        match self.taken.load(Ordering::SeqCst) {
            0 => 0,
            _ => self.taken.swap(0, Ordering::SeqCst),
        }
    }

    /// Says whether the driver wants to hear of each message that is taken; and if so, whether there are any.
    pub(super) fn press(&self, pressing: bool) -> bool {
        self.pressing.store(pressing, Ordering::SeqCst);
        pressing && self.taken.load(Ordering::SeqCst) > 0
    }

    /// Gives the driver a command.
    pub(crate) fn deposit(&self, command: Command) -> Result<(), NotTaken> {
        let mut inner = self.lock();
        if inner.finished {
            return Err(NotTaken::Finished(command));
        }
        if inner.commands.len() >= MAX_COMMANDS {
            return Err(NotTaken::Full(command));
        }
        inner.commands.push(command);
        let driver = inner.driver.take();
        drop(inner);
        driver.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Asks for a close in order.
    pub(crate) fn ask_close(&self, close: Close) {
        let mut inner = self.lock();
        inner.close.get_or_insert(close);
        let driver = inner.driver.take();
        drop(inner);
        driver.into_iter().for_each(Waker::wake);
    }

    /// The session's id; of a client, the latest one's.
    pub(crate) fn id(&self) -> SessionId {
        self.lock().id
    }

    /// Whether the peer acknowledges what it receives.
    #[cfg(feature = "server")]
    pub(crate) fn receipts(&self) -> Receipts {
        self.receipts
    }

    /// Who the authenticator says this is, if there is one.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.identity.principal.as_ref()
    }

    /// How the session ended, if it has.
    pub(crate) fn end(&self) -> Option<Close> {
        match &self.lock().state {
            State::Closed { close } => Some(close.clone()),
            _ => None,
        }
    }

    /// Which transports carried the session, and why they ended.
    pub(super) fn history(&self) -> Vec<Passage> {
        let inner = self.lock();
        let transport = match inner.state {
            State::Connected { transport } => Some(transport),
            _ => None,
        };
        inner.history.all(transport)
    }

    /// Client: a transport was tried in vain, for so long.
    pub(crate) fn note_failure(
        &self,
        transport: TransportKind,
        now: Instant,
        took: Duration,
        code: &str,
        text: &str,
    ) {
        self.lock().history.fail(transport, now, took, code, text);
    }

    /// Client: what carries the session since just now was dialled so long ago.
    pub(crate) fn note_opening(&self, attachment: Attachment, transport: TransportKind, took: Duration) {
        self.lock().history.opened(attachment, transport, took);
    }

    /// Whether the driver is gone.
    pub(crate) fn is_finished(&self) -> bool {
        self.lock().finished
    }
}

impl Inner {
    /// The driver's turn begins: it needs no waking, and takes all commands.
    pub(super) fn begin_turn(&mut self) -> Vec<Command> {
        self.driver = None;
        std::mem::take(&mut self.commands)
    }

    /// The driver's turn ends: from here on it is woken. Not if something has come that it did not see, here or where
    /// the caller looked; then it says so.
    pub(super) fn end_turn(&mut self, waker: &Waker, elsewhere: bool) -> bool {
        let waits = elsewhere || !self.outgoing.is_empty() || !self.commands.is_empty();
        if !waits {
            self.driver = Some(waker.clone());
        }
        waits
    }

    /// The driver is over: no command is taken any more. Those that were and will not be obeyed are to be dropped, by
    /// which whoever waits for an answer learns of it.
    pub(super) fn finish(&mut self) -> Vec<Command> {
        self.finished = true;
        std::mem::take(&mut self.commands)
    }

    pub(super) fn set_state(&mut self, state: &State) -> Wakers {
        if self.state == *state {
            return Wakers::default();
        }
        self.state = state.clone();
        self.closed = matches!(state, State::Closed { .. });
        self.state_version += 1;
        self.state_wakers.take()
    }

    /// Keeps how the session ended for the application, with what was accepted in the meantime.
    pub(super) fn keep_end(&mut self, mut ended: Box<Ended>) {
        for Outgoing { kind, body, waiter } in std::mem::take(&mut self.outgoing) {
            ended.undelivered.push(Undelivered::unsent(kind, body));
            waiter.into_iter().for_each(|waiter| waiter.refuse(SendError::Closed));
        }
        self.queued_bytes = 0;
        self.ended = Some(ended);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.close.is_some() || self.is_over()
    }

    /// Whether nothing more is told of the session.
    pub(super) fn is_over(&self) -> bool {
        self.finished || self.closed
    }

    /// Messages and bytes that wait to be sent or acknowledged.
    pub(super) fn load(&self) -> (usize, u64) {
        (self.outgoing.len() + self.held.0, self.queued_bytes.saturating_add(self.held.1))
    }

    /// Whether a message of this size may be accepted now.
    pub(super) fn has_room(&self, size: u64, bound: Window) -> bool {
        let (messages, bytes) = self.load();
        messages == 0 || (messages < bound.messages as usize && bytes.saturating_add(size) <= bound.bytes)
    }
}
