//! The handle that applications hold, and the task that drives a session over its transports.
//!
//! This room owns the [`Socket`] and its cloneable [`Sender`], the queues between them and the driver, and the
//! driver itself, which owns one [`Session`](crate::session::Session) by value and knows none of its rules. It
//! must not know how transports are made: a supervisor of the layer above brings them.

mod carriers;
mod command;
mod conversation;
mod driver;
#[cfg(test)]
pub(crate) mod ends;
mod error;
mod history;
#[cfg(all(test, throughline_loom))]
mod interleavings;
mod misfit;
mod sender;
mod shared;
mod state;
mod supervisor;
#[cfg(test)]
mod tests;
mod typed;
mod waiters;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::frame::{Body, Close, CloseCode, Message, Move, SessionId, TransportKind};
use crate::session::EndedBy;

use shared::{Incoming, Inner};

pub use conversation::Conversation;
pub(crate) use conversation::Sealed;
pub use error::{AckError, RecvError, RequestError, SendError};
pub use history::{Ending, Passage, Traffic};
pub use misfit::{MISFIT, Misfit, MisfitWatch};
pub use sender::Sender;
pub use shared::Principal;
pub use state::{State, StateWatch};
pub use typed::{Received, Typed, TypedAckError, TypedRequestError, TypedSendError};

pub(crate) use command::Command;
#[cfg(feature = "server")]
pub(crate) use command::{NotTaken, PushAnswer};
#[cfg(feature = "server")]
pub(crate) use driver::Driver;
#[cfg(any(feature = "client", feature = "server"))]
pub(crate) use driver::{Launch, launch};
#[cfg(any(feature = "client", feature = "server"))]
pub(crate) use shared::Identity;
pub(crate) use shared::Shared;
#[cfg(any(feature = "client", feature = "server"))]
pub(crate) use supervisor::{Notice, Supervisor};

/// One end of a session, as an application holds it.
///
/// It is the same on both sides, and it outlives every transport: while the session moves from WebSocket to
/// long-polling and back, [`Socket::recv`] just stays pending.
///
/// # Guarantees
/// Between two ends that both live, each message is received exactly once and in order, both ways. When an end
/// forgets the session, the other's next [`Socket::recv`] says so, with the messages whose fate is unknown.
///
/// Dropping the socket closes the session in order: what was accepted before is still delivered. Dropping it
/// while its thread panics closes with `internal_error`.
#[derive(Debug)]
pub struct Socket {
    sender: Sender,
    /// What was taken over from the driver and not yet by the application.
    local: VecDeque<Incoming>,
}

impl Socket {
    fn new(shared: Arc<Shared>) -> Self {
        Self { sender: Sender::new(shared), local: VecDeque::new() }
    }

    /// The public id of the session. On a client it changes when a lost session is followed by a new one.
    pub fn id(&self) -> SessionId {
        self.sender.id()
    }

    /// Server: who the authenticator says this is, if there is one.
    pub fn principal(&self) -> Option<&Principal> {
        self.sender.principal()
    }

    /// Server: what the authenticator granted besides, of this type ([`Grant::with`](crate::server::Grant::with)).
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.sender.extension()
    }

    /// A handle that sends, for other tasks. It does not keep the session open.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Whether something carries the session now.
    pub fn state(&self) -> State {
        self.sender.state()
    }

    /// Which transports carried the session, or were tried in vain, when, and why each ended; see
    /// [`Sender::transport_history`].
    pub fn transport_history(&self) -> Vec<Passage> {
        self.sender.transport_history()
    }

    /// Watches the state.
    pub fn watch(&self) -> StateWatch {
        self.sender.watch()
    }

    /// Watches what the peer tells of plain messages that do not fit the type that it receives; see
    /// [`Sender::watch_misfits`].
    pub fn watch_misfits(&self) -> MisfitWatch {
        self.sender.watch_misfits()
    }

    /// Sends a message; see [`Sender::send`].
    ///
    /// # Errors
    /// See [`Sender::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message was not sent.
    pub async fn send(&self, body: impl Into<Body>) -> Result<(), SendError> {
        self.sender.send(body).await
    }

    /// Sends a message if there is room; see [`Sender::try_send`].
    ///
    /// # Errors
    /// See [`Sender::try_send`].
    pub fn try_send(&self, body: impl Into<Body>) -> Result<(), SendError> {
        self.sender.try_send(body)
    }

    /// Sends a message and waits until the peer has received it; see [`Sender::send_acked`].
    ///
    /// # Errors
    /// See [`Sender::send_acked`].
    ///
    /// # Cancel safety
    /// When the future is dropped the message may or may not have been sent.
    pub async fn send_acked(&self, body: impl Into<Body>) -> Result<(), AckError> {
        self.sender.send_acked(body).await
    }

    /// Sends a request and waits for its reply; see [`Sender::request`].
    ///
    /// # Errors
    /// See [`Sender::request`].
    ///
    /// # Cancel safety
    /// When the future is dropped the request may have been sent; its reply is then discarded.
    pub async fn request(&self, body: impl Into<Body>) -> Result<Body, RequestError> {
        self.sender.request(body).await
    }

    /// Answers a request; see [`Sender::reply`].
    ///
    /// # Errors
    /// See [`Sender::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn reply(&self, request: &Message, body: impl Into<Body>) -> Result<(), SendError> {
        self.sender.reply(request, body).await
    }

    /// Answers a request with a failure; see [`Sender::fail`].
    ///
    /// # Errors
    /// See [`Sender::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn fail(&self, request: &Message, code: &str, message: &str) -> Result<(), SendError> {
        self.sender.fail(request, code, message).await
    }

    /// Receives the next message, requests included.
    ///
    /// Receiving is what opens the window for the peer: a message counts as taken when this has returned it.
    /// Replies to own requests do not come here.
    ///
    /// # Errors
    /// [`RecvError::Ended`] once all messages have been received and the session has ended, and from then on.
    /// [`RecvError::Lost`] on a client, once, when a new session has taken the place of a lost one.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Result<Message, RecvError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives the next message, in poll form; see [`Socket::recv`].
    ///
    /// # Errors
    /// See [`Socket::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, RecvError>> {
        if let Some(incoming) = self.local.pop_front() {
            return Poll::Ready(self.take(incoming));
        }
        let mut inner = self.sender.shared.lock();
        std::mem::swap(&mut self.local, &mut inner.incoming);
        let ended = if self.local.is_empty() { Self::end(&mut inner) } else { None };
        if self.local.is_empty() && ended.is_none() {
            inner.receiver = Some(cx.waker().clone());
            // An idle socket keeps no room for messages it may never get again.
            if self.local.capacity() > 64 {
                self.local = VecDeque::new();
            }
        }
        drop(inner);
        if let Some(incoming) = self.local.pop_front() {
            return Poll::Ready(self.take(incoming));
        }
        ended.map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }

    fn take(&mut self, incoming: Incoming) -> Result<Message, RecvError> {
        match incoming {
            Incoming::Message(message) => {
                self.sender.shared.note_taken();
                Ok(message)
            }
            Incoming::Lost(ended) => Err(RecvError::Lost(*ended)),
        }
    }

    fn end(inner: &mut Inner) -> Option<RecvError> {
        if let Some(ended) = inner.ended.take() {
            return Some(RecvError::Ended(*ended));
        }
        match &inner.state {
            State::Closed { close } => Some(RecvError::Ended(crate::session::Ended {
                close: close.clone(),
                by: EndedBy::Local,
                undelivered: Vec::new(),
            })),
            _ => None,
        }
    }

    /// Ends the session in order: what was accepted is delivered first. Returns at once; [`Socket::closed`]
    /// waits for the end.
    pub fn close(&self, code: CloseCode, reason: impl Into<std::borrow::Cow<'static, str>>) {
        self.sender.close(code, reason);
    }

    /// Waits until the session has ended, and says how.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn closed(&self) -> Close {
        self.sender.closed().await
    }

    /// Moves the session to another transport while the old one goes on delivering: a client dials it at once, a
    /// server asks its client to.
    ///
    /// Where a transport of this kind carries the session already, it moves to a fresh one of the same kind: off a path
    /// that has become bad, or off a node that is to be emptied. Where nothing carries it, the client comes back by this
    /// kind first. A move that fails leaves the session where it is, and so does one to a kind that the client may not
    /// use.
    pub fn move_to(&self, transport: TransportKind) {
        let ask = Move { transport: Some(transport), within_ms: 0 };
        // A full mailbox means that much else is being asked of the driver: this was a wish, not an order.
        let _ = self.sender.shared.deposit(Command::Move(ask));
    }

    /// Client: tells that the network may be another one: a change of address or interface, a wake-up from sleep.
    ///
    /// Pauses are forgotten: a session that nothing carries is dialled for at once. What carries it is asked for a sign
    /// of life, and where that is not the best transport, the best is tried again. On a server it does nothing.
    pub fn network_changed(&self) {
        // A full mailbox means that much is being asked of the driver already.
        let _ = self.sender.shared.deposit(Command::NetworkChanged);
    }

    /// Cuts the transport that carries the session, as a dead network would: for tests and demonstrations.
    pub fn cut(&self) {
        let _ = self.sender.shared.deposit(Command::Cut);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let close = if std::thread::panicking() {
            Close::new(CloseCode::InternalError, "the handler failed")
        } else {
            Close::new(CloseCode::Normal, "")
        };
        {
            let mut inner = self.sender.shared.lock();
            inner.abandoned = true;
            inner.incoming = VecDeque::new();
        }
        self.sender.shared.ask_close(close);
    }
}
