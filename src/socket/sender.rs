//! The half of a socket that sends, cloneable.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::sync::oneshot;

use crate::frame::{Body, Close, CloseCode, Message, MessageKind, Seq, SessionId};

use super::history::Passage;
use super::shared::Outgoing;
use super::waiters::Waiter;
use super::{AckError, Command, MisfitWatch, Principal, RequestError, SendError, Shared, State, StateWatch};

/// Sends on a session. Clones send on the same one, each message in the order of the calls.
///
/// It does not keep the session open: that ends with its [`Socket`](super::Socket).
#[derive(Clone, Debug)]
pub struct Sender {
    pub(super) shared: Arc<Shared>,
    wrap: Option<Wrap>,
}

/// How a layer above sends messages and requests of the application's own, so that nobody takes them for its own.
pub(crate) type Wrap = fn(Body) -> Result<Body, SendError>;

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, wrap: None }
    }

    /// The same, for the application above a layer.
    pub(crate) fn wrapping(self, wrap: Wrap) -> Self {
        Self { wrap: Some(wrap), ..self }
    }

    fn own(&self, body: Body) -> Result<Body, SendError> {
        match self.wrap {
            Some(wrap) => wrap(body),
            None => Ok(body),
        }
    }

    /// The public id of the session.
    pub fn id(&self) -> SessionId {
        self.shared.lock().id
    }

    /// Server: who the authenticator says this is, if there is one.
    pub fn principal(&self) -> Option<&Principal> {
        self.shared.principal()
    }

    /// Server: what the authenticator granted besides, of this type ([`Grant::with`](crate::server::Grant::with)).
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.shared.identity.extension()
    }

    /// Whether something carries the session now.
    pub fn state(&self) -> State {
        self.shared.lock().state.clone()
    }

    /// Which transports carried the session, or (on a client) were tried in vain, when, and why each ended: the answer to
    /// "why is this user on long-polling?". Oldest first, the newest 32; what carries the session now stands last.
    ///
    /// A client that begins a new session in place of a lost one goes on with the same history.
    pub fn transport_history(&self) -> Vec<Passage> {
        self.shared.history()
    }

    /// Watches the state.
    pub fn watch(&self) -> StateWatch {
        let seen = self.shared.lock().state_version;
        StateWatch { shared: Arc::clone(&self.shared), seen }
    }

    /// Watches what the peer tells of plain messages, sent from now on, that do not fit the type that it receives.
    pub fn watch_misfits(&self) -> MisfitWatch {
        MisfitWatch::new(&self.shared)
    }

    /// Sends a message. It is delivered once and in order after what was sent before, whatever the transports do.
    ///
    /// Returns when the message is accepted, not when it has arrived. While the send buffer is full it waits, by
    /// default at most 30 s; then the session is ended with `slow_consumer`.
    ///
    /// # Errors
    /// When the session is closed, the peer too slow, or the body too large.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message was not sent.
    pub async fn send(&self, body: impl Into<Body>) -> Result<(), SendError> {
        let body = self.own(body.into())?;
        self.accept(Outgoing { kind: MessageKind::Plain, body, waiter: None }).await
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// [`SendError::Full`] when there is none; else as [`Sender::send`].
    pub fn try_send(&self, body: impl Into<Body>) -> Result<(), SendError> {
        let outgoing = Outgoing { kind: MessageKind::Plain, body: self.own(body.into())?, waiter: None };
        self.try_accept(outgoing).map_err(|(error, _)| error)
    }

    /// Sends a message and waits until the peer has received it.
    ///
    /// The peer is asked for the receipt: it takes a round trip.
    ///
    /// # Errors
    /// When it is not accepted, or the session ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped the message may or may not have been sent.
    pub async fn send_acked(&self, body: impl Into<Body>) -> Result<(), AckError> {
        let body = self.own(body.into())?;
        let (waiter, receipt) = oneshot::channel();
        let waiter = Some(Waiter::Receipt(waiter));
        self.accept(Outgoing { kind: MessageKind::Plain, body, waiter }).await?;
        match receipt.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(unknown)) => Err(AckError::Lost { unknown }),
            Err(_) => Err(AckError::Lost { unknown: true }),
        }
    }

    /// Sends a request and waits for its reply. It is delivered, and answered, at most once, whatever the transports
    /// do; to wait for a limited time, wrap it in a timeout.
    ///
    /// # Errors
    /// When it is not accepted, the peer says that it failed, or the session ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped the request may have been sent; its reply is then discarded, and counts among those that
    /// wait until it has come.
    pub async fn request(&self, body: impl Into<Body>) -> Result<Body, RequestError> {
        let body = self.own(body.into())?;
        let (waiter, reply) = oneshot::channel();
        let waiter = Some(Waiter::Reply(waiter));
        self.accept(Outgoing { kind: MessageKind::Request, body, waiter }).await?;
        reply.await.unwrap_or(Err(RequestError::Lost))
    }

    /// Answers a request. The first answer counts; to a message that is no request it goes unheard.
    ///
    /// # Errors
    /// See [`Sender::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn reply(&self, request: &Message, body: impl Into<Body>) -> Result<(), SendError> {
        self.accept(Outgoing { kind: MessageKind::Reply(request.seq), body: body.into(), waiter: None }).await
    }

    /// Answers a request with a failure: a code for programs, a message for people.
    ///
    /// # Errors
    /// See [`Sender::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn fail(&self, request: &Message, code: &str, message: &str) -> Result<(), SendError> {
        let body = serde_json::json!({ "code": code, "message": message });
        let body = Body::try_from(body).map_err(|_| SendError::TooLarge { limit: 0 })?;
        self.accept(Outgoing { kind: MessageKind::Failure(request.seq), body, waiter: None }).await
    }

    /// Says that a message failed, if there is room.
    pub(super) fn try_fail(&self, seq: Seq, failure: Body) -> Result<(), SendError> {
        let outgoing = Outgoing { kind: MessageKind::Failure(seq), body: failure, waiter: None };
        self.try_accept(outgoing).map_err(|(error, _)| error)
    }

    /// Ends the session in order: what was accepted is delivered first. Returns at once.
    pub fn close(&self, code: CloseCode, reason: impl Into<Cow<'static, str>>) {
        self.shared.ask_close(Close::new(code, reason));
    }

    /// Ends the session at once, what was accepted unsaid.
    pub(crate) fn abort(&self, close: Close) {
        // A full mailbox belongs to a session that cannot go on either way: it still hears that it is to end.
        if self.shared.deposit(Command::Abort(close.clone())).is_err() {
            self.shared.ask_close(close);
        }
    }

    /// Waits until the session has ended, and says how.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn closed(&self) -> Close {
        let mut watch = self.watch();
        let mut state = watch.state();
        loop {
            if let State::Closed { close } = state {
                return close;
            }
            state = watch.changed().await;
        }
    }

    /// Waits until the send buffer is at most half full, or the session is closed.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn roomy(&self) {
        self.roomy_for(0).await;
    }

    /// The same, and until there is room for a message of so many bytes.
    pub(crate) async fn roomy_for(&self, size: u64) {
        poll_fn(|cx| {
            let mut inner = self.shared.lock();
            let (messages, bytes) = inner.load();
            let bound = self.shared.bound;
            let half = messages <= bound.messages as usize / 2 && bytes <= bound.bytes / 2;
            if (half && inner.has_room(size, bound)) || inner.is_closed() {
                return Poll::Ready(());
            }
            inner.senders.register(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Accepts a message now, or gives it back.
    fn try_accept(&self, outgoing: Outgoing) -> Result<(), (SendError, Outgoing)> {
        let size = outgoing.body.len() as u64;
        let mut inner = self.shared.lock();
        if inner.is_closed() {
            return Err((SendError::Closed, outgoing));
        }
        if size > inner.max_message {
            return Err((SendError::TooLarge { limit: inner.max_message }, outgoing));
        }
        if !inner.has_room(size, self.shared.bound) {
            return Err((SendError::Full, outgoing));
        }
        inner.queued_bytes += size;
        inner.outgoing.push_back(outgoing);
        let driver = inner.driver.take();
        drop(inner);
        driver.into_iter().for_each(Waker::wake);
        Ok(())
    }

    async fn accept(&self, outgoing: Outgoing) -> Result<(), SendError> {
        let mut waiting = match self.try_accept(outgoing) {
            Ok(()) => return Ok(()),
            Err((SendError::Full, outgoing)) => Some(outgoing),
            Err((error, _)) => return Err(error),
        };
        let room = poll_fn(|cx| {
            let Some(outgoing) = waiting.take() else { return Poll::Ready(Ok(())) };
            // Registered first: room that appears in between is not missed.
            self.shared.lock().senders.register(cx.waker());
            match self.try_accept(outgoing) {
                Ok(()) => Poll::Ready(Ok(())),
                Err((SendError::Full, outgoing)) => {
                    waiting = Some(outgoing);
                    Poll::Pending
                }
                Err((error, _)) => Poll::Ready(Err(error)),
            }
        });
        let Some(patience) = self.shared.patience else { return room.await };
        match tokio::time::timeout(patience, room).await {
            Ok(accepted) => accepted,
            Err(_) => {
                let close = Close::new(CloseCode::SlowConsumer, "messages were taken too slowly");
                // A full mailbox belongs to a session that cannot go on either way.
                let _ = self.shared.deposit(Command::Abort(close));
                Err(SendError::SlowConsumer)
            }
        }
    }
}
