//! A socket whose client may ask about rooms.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::frame::{Body, CloseCode, Message, MessageKind, SessionId};
use crate::room::payload::{Begin, Join, Operation, Read, Who, escape};
use crate::socket::{
    AckError, MisfitWatch, Principal, RecvError, RequestError, SendError, Sender, Socket, State, StateWatch,
};

use super::authorize::{Action, Visitor};
use super::courier;
use super::line::SocketLine;
use super::ops::{self, Asked, Owed, Refused};
use super::pace::Pace;
use super::table::now;
use super::{Inner, JoinError, Room};

/// One end of a session whose client may ask about rooms. [`Hub::serve`](super::Hub::serve) makes it of a socket.
///
/// [`Live::recv`] gives the application's own messages, and answers what the client asks about rooms while it waits for
/// them: a handler that does not receive keeps its client waiting. Dropped, the session leaves its rooms and is closed,
/// as a dropped socket is.
#[derive(Debug)]
pub struct Live {
    pub(super) hub: Arc<Inner>,
    pub(super) socket: Socket,
    watch: StateWatch,
    line: SocketLine,
    pub(super) visitor: Visitor,
    pub(super) who: Who,
    /// The rooms that it has joined, and perhaps been taken out of since.
    pub(super) joined: HashSet<Arc<str>>,
    /// The operation that is being decided: kept here, so that a dropped `recv` does not lose it.
    asked: Option<Asked>,
    /// What is to be sent before anything else is received.
    pub(super) owed: VecDeque<Owed>,
    /// The rooms about which the authoriser is to be asked again.
    recheck: VecDeque<Arc<str>>,
    pace: Pace,
}

impl Live {
    pub(super) fn new(hub: Arc<Inner>, socket: Socket) -> Self {
        let visitor = Visitor::of(&socket.sender());
        let who = match &visitor.principal {
            Some(principal) => Who::Principal(principal.as_str().to_owned()),
            None => Who::Session(visitor.session),
        };
        let line = SocketLine::new(socket.sender());
        hub.directory.enter(visitor.session, line.clone());
        visitor.principal.iter().for_each(|principal| courier::deliver(&hub, principal));
        let mut watch = socket.watch();
        watch.state();
        Self {
            hub,
            socket,
            watch,
            line,
            visitor,
            who,
            joined: HashSet::new(),
            asked: None,
            owed: VecDeque::new(),
            recheck: VecDeque::new(),
            pace: Pace::new(),
        }
    }

    /// The public id of the session.
    pub fn id(&self) -> SessionId {
        self.visitor.session
    }

    /// Who the authenticator says this is, if there is one.
    pub fn principal(&self) -> Option<&Principal> {
        self.socket.principal()
    }

    /// What the authenticator granted besides, of this type ([`Grant::with`](crate::server::Grant::with)).
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.socket.extension()
    }

    /// A handle that sends the application's own messages, for other tasks. It does not keep the session open.
    pub fn sender(&self) -> Sender {
        self.socket.sender().wrapping(wrapped)
    }

    /// The socket below: how it is carried, and what has carried it. What it sends by itself is not wrapped: see
    /// [`Live::send`].
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether something carries the session now.
    pub fn state(&self) -> State {
        self.socket.state()
    }

    /// Watches what the client tells of plain messages that do not fit the type that it receives; see
    /// [`Sender::watch_misfits`](crate::socket::Sender::watch_misfits).
    pub fn watch_misfits(&self) -> MisfitWatch {
        self.socket.watch_misfits()
    }

    /// Receives the next message of the application, requests included, and answers what the client asks about rooms
    /// until there is one.
    ///
    /// # Errors
    /// [`RecvError::Ended`] once the session has ended; it has left all rooms then.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: what was begun goes on with the next call.
    pub async fn recv(&mut self) -> Result<Message, RecvError> {
        loop {
            self.pay().await;
            if self.decide().await || self.check_again().await {
                continue;
            }
            let Some(message) = self.listen().await else {
                self.recheck = self.joined.iter().cloned().collect();
                continue;
            };
            let message = match message {
                Ok(message) => message,
                Err(ended) => {
                    self.leave_all();
                    return Err(ended);
                }
            };
            if let Some(message) = self.sort(message) {
                return Ok(message);
            }
        }
    }

    /// Sends what is owed, in order.
    async fn pay(&mut self) {
        while let Some(owed) = self.owed.front() {
            let paid = match owed {
                Owed::Answer(request, Ok(body)) => self.socket.reply(request, body.clone()).await,
                Owed::Answer(request, Err(Refused { code, message })) => {
                    self.socket.fail(request, code, message).await
                }
                Owed::Notice(body) => self.socket.send(body.clone()).await,
            };
            if let (Err(SendError::TooLarge { .. }), Some(Owed::Answer(_, answer @ Ok(_)))) =
                (paid, self.owed.front_mut())
            {
                *answer =
                    Err(Refused { code: "too_large", message: "the answer is larger than the peer takes" });
                continue;
            }
            // A session that is closed says so when it is received from.
            self.owed.pop_front();
        }
    }

    /// Decides and does what was asked. False: nothing was.
    async fn decide(&mut self) -> bool {
        let Some(asked) = &self.asked else { return false };
        let allowed = ops::is_allowed(&self.hub, &self.visitor, &asked.operation).await;
        // From here on nothing waits: what is done is also answered.
        let Some(asked) = self.asked.take() else { return false };
        let answer = if allowed {
            self.perform(&asked)
        } else {
            self.hub.counters.forbidden.one();
            Err(Refused::FORBIDDEN)
        };
        self.owed.extend(asked.owe(answer));
        true
    }

    /// Asks again about a room after the session has come back. False: there is none to ask about.
    async fn check_again(&mut self) -> bool {
        let Some(name) = self.recheck.front().cloned() else { return false };
        if let Some(seam) = &self.hub.authorize {
            let room = Room::new(Arc::clone(&self.hub), Arc::clone(&name));
            if room.has(self.id()) && !seam.0.allow(&self.visitor, &name, Action::Join).await {
                self.hub.counters.forbidden.one();
                self.depart(&room, Refused::FORBIDDEN);
            }
        }
        self.recheck.pop_front();
        true
    }

    /// Waits for a message; `None`: the session is carried again.
    async fn listen(&mut self) -> Option<Result<Message, RecvError>> {
        poll_fn(|cx| {
            while let Poll::Ready(state) = self.watch.poll_changed(cx) {
                match state {
                    State::Connected { .. } => return Poll::Ready(None),
                    // There is no other state behind it.
                    State::Closed { .. } => break,
                    _ => {}
                }
            }
            self.socket.poll_recv(cx).map(Some)
        })
        .await
    }

    /// Gives the application what is its own.
    fn sort(&mut self, message: Message) -> Option<Message> {
        if message.kind.is_answer() {
            return Some(message);
        }
        let Message { seq, kind, body } = message;
        let empty = |body| Message { seq, kind, body };
        let nothing = || empty(Body::from(crate::frame::Json::null()));
        match Operation::read(body) {
            Read::App(body) => return Some(empty(body)),
            // Who leaves asks for less.
            Read::Layer(operation) if matches!(operation, Operation::Leave { .. }) || self.in_time() => {
                self.asked = Some(Asked { message: nothing(), operation });
            }
            Read::Layer(operation) => self.refuse(nothing(), operation.room(), Refused::TOO_OFTEN),
            Read::Unknown { .. } | Read::Malformed { .. } if !self.in_time() => {
                self.refuse(nothing(), "", Refused::TOO_OFTEN);
            }
            Read::Unknown { .. } if kind == MessageKind::Request => {
                self.refuse(nothing(), "", Refused::UNKNOWN);
            }
            // A later version's ([V5]).
            Read::Unknown { tag } => tracing::debug!(session = %self.id(), tag, "an unknown operation"),
            Read::Malformed { tag, error } => {
                self.hub.counters.malformed.one();
                tracing::debug!(session = %self.id(), tag, %error, "a malformed operation");
                self.refuse(nothing(), "", Refused::MALFORMED);
            }
        }
        None
    }

    /// Whether another operation does not come too often. It is counted.
    fn in_time(&mut self) -> bool {
        let in_time = self.pace.allows(self.hub.rate, now());
        if !in_time {
            self.hub.counters.too_often.one();
        }
        in_time
    }

    fn refuse(&mut self, message: Message, room: &str, why: Refused) {
        self.owed.extend(ops::owe(message, room, Err(why)));
    }

    /// Makes the session a member of a room, or begins its stream anew. The authoriser is not asked, and the client need
    /// not have asked either: it is told like one that has.
    ///
    /// # Errors
    /// When the name is not one, or there are too many rooms.
    pub fn join(&mut self, join: &Join) -> Result<Begin, JoinError> {
        let room = Room::new(Arc::clone(&self.hub), join.room.as_str().into());
        self.enter(&room, join)
    }

    pub(super) fn enter(&mut self, room: &Room, join: &Join) -> Result<Begin, JoinError> {
        if !self.joined.contains(room.name()) && self.joined.len() >= self.hub.max_joined {
            // Some may have been taken from it.
            let (hub, id) = (&self.hub, self.visitor.session);
            self.joined.retain(|name| Room::new(Arc::clone(hub), Arc::clone(name)).has(id));
            if self.joined.len() >= self.hub.max_joined {
                return Err(JoinError::TooManyJoined);
            }
        }
        let begin = room.enter(self.visitor.session, &self.who, &self.line, join)?;
        self.joined.insert(room.name().into());
        Ok(begin)
    }

    fn leave_all(&mut self) {
        for name in self.joined.drain() {
            Room::new(Arc::clone(&self.hub), name).leave(self.visitor.session);
        }
    }
}

/// The application's own messages. What would look like the layer's is wrapped, and unwrapped by the client.
impl Live {
    /// Sends a message; see [`Sender::send`](crate::socket::Sender::send).
    ///
    /// # Errors
    /// As there; a body that nests too deep to be wrapped is `TooLarge`.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message was not sent.
    pub async fn send(&self, body: impl Into<Body>) -> Result<(), SendError> {
        self.socket.send(wrapped(body.into())?).await
    }

    /// Sends a message if there is room; see [`Sender::try_send`](crate::socket::Sender::try_send).
    ///
    /// # Errors
    /// See [`Live::send`].
    pub fn try_send(&self, body: impl Into<Body>) -> Result<(), SendError> {
        self.socket.try_send(wrapped(body.into())?)
    }

    /// Sends a message and waits until the client has received it; see
    /// [`Sender::send_acked`](crate::socket::Sender::send_acked).
    ///
    /// # Errors
    /// See [`Live::send`]; also when the session ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped the message may or may not have been sent.
    pub async fn send_acked(&self, body: impl Into<Body>) -> Result<(), AckError> {
        self.socket.send_acked(wrapped(body.into())?).await
    }

    /// Sends a request and waits for its reply; see [`Sender::request`](crate::socket::Sender::request).
    ///
    /// # Errors
    /// See [`Live::send`]; also when it fails, or the session ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped the request may have been sent; its reply is then discarded.
    pub async fn request(&self, body: impl Into<Body>) -> Result<Body, RequestError> {
        self.socket.request(wrapped(body.into())?).await
    }

    /// Answers a request; see [`Sender::reply`](crate::socket::Sender::reply).
    ///
    /// # Errors
    /// See [`Live::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn reply(&self, request: &Message, body: impl Into<Body>) -> Result<(), SendError> {
        self.socket.reply(request, body).await
    }

    /// Answers a request with a failure; see [`Sender::fail`](crate::socket::Sender::fail).
    ///
    /// # Errors
    /// See [`Live::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn fail(&self, request: &Message, code: &str, message: &str) -> Result<(), SendError> {
        self.socket.fail(request, code, message).await
    }

    /// Ends the session in order; see [`Sender::close`](crate::socket::Sender::close).
    pub fn close(&self, code: CloseCode, reason: impl Into<std::borrow::Cow<'static, str>>) {
        self.socket.close(code, reason);
    }
}

/// Too deep is said as too large: neither can be sent to this peer.
pub(super) fn wrapped(body: Body) -> Result<Body, SendError> {
    escape(body).map_err(|_| SendError::TooLarge { limit: 0 })
}

impl Drop for Live {
    fn drop(&mut self) {
        self.hub.directory.leave(self.visitor.session);
        self.leave_all();
    }
}
