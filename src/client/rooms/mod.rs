//! The client's half of rooms: a client's socket, and the rooms that it has joined.
//!
//! It owns what a client keeps of each room, its position above all, and takes the rooms up again from there when its
//! session was lost. It speaks the second layer (`docs/PROTOCOL.md`, "Rooms") and must not know the server's half.

mod ledger;
mod room;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::frame::{Body, CloseCode, Message, SessionId};
use crate::room::payload::{Notice, Operation, PayloadError, Position, Read, Refusal, escape};
use crate::session::Ended;
use crate::socket::{RecvError, RequestError, SendError, Sender, Socket, State, StateWatch};

use ledger::Ledger;

pub use room::{JoinedRoom, RoomError};

/// How many rooms are taken up again at once: far fewer than requests may wait.
const AT_ONCE: usize = 16;

/// How long a room waits that could not be asked for because too many requests wait for their replies.
const CROWDED: Duration = Duration::from_millis(250);

/// A client's socket with rooms.
///
/// [`Rooms::recv`] gives everything in one order, as it came: the application's own messages, and what rooms tell.
/// Operations ([`JoinedRoom`]) may be awaited meanwhile, in other tasks or beside `recv`. Where much is said they must not
/// be awaited in its place: an answer comes behind what was sent before, and that waits for room in the window.
///
/// While the session lives, changes of transport are not seen here. When it was lost, the rooms are joined again from
/// their positions in the session that takes its place: each begins with a [`Notice::Begin`] that says whether anything
/// is missing, or ends with a [`Notice::Left`].
///
/// ```no_run
/// use throughline::client::rooms::{Event, Rooms};
/// use throughline::room::payload::{Join, Notice};
/// use throughline::Client;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let mut rooms = Rooms::over(Client::connect("http://127.0.0.1:3000/live").await?);
/// let lobby = rooms.room("lobby");
/// lobby.join(Join { last: Some(20), presence: true, ..Join::default() }).await?;
/// lobby.publish("hello").await?;
/// while let Ok(event) = rooms.recv().await {
///     match event {
///         Event::Room(Notice::Said(said)) => println!("{} {}", said.at, said.body),
///         Event::Room(Notice::Missed(missed)) => println!("({} not shown)", missed.count),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Rooms {
    socket: Socket,
    ledger: Arc<Mutex<Ledger>>,
    /// What rooms tell that did not come from the socket.
    told: VecDeque<Notice>,
    /// Rooms to be taken up again, and those that are being.
    waiting: VecDeque<String>,
    joining: Vec<Joining>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms")
            .field("socket", &self.socket)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// A room that is being taken up again.
struct Joining {
    room: String,
    answer: Pin<Box<dyn Future<Output = Result<Body, RequestError>> + Send>>,
}

/// What a client with rooms receives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message of the application's own, requests included.
    Message(Message),
    /// What a room tells.
    Room(Notice),
    /// A message of the application's own that was kept while this principal had no session.
    Kept(Body),
    /// The session was lost and another has begun: what this end sent and was not acknowledged is listed, operations on
    /// rooms as [`Operation::read`] understands them. The rooms are being joined again.
    Lost(Ended),
}

impl Rooms {
    /// Rooms over the socket of a client.
    pub fn over(socket: Socket) -> Self {
        Self {
            socket,
            ledger: Arc::default(),
            told: VecDeque::new(),
            waiting: VecDeque::new(),
            joining: Vec::new(),
        }
    }

    /// A room by its name, joined or not.
    pub fn room(&self, name: impl Into<String>) -> JoinedRoom {
        JoinedRoom::new(self.socket.sender(), Arc::clone(&self.ledger), name.into())
    }

    /// Where the stream of a room stands, by what [`Rooms::recv`] has given. Kept elsewhere, it lets a later client go on
    /// from there.
    pub fn position(&self, room: &str) -> Option<Position> {
        lock(&self.ledger).position(room)
    }

    /// A handle that sends the application's own messages, and answers requests, for other tasks. It does not keep the session
    /// open.
    pub fn sender(&self) -> Sender {
        self.socket.sender().wrapping(wrapped)
    }

    /// The socket below. What it sends by itself is not wrapped: see [`Rooms::sender`].
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The public id of the session; it changes when a lost session is followed by a new one.
    pub fn id(&self) -> SessionId {
        self.socket.id()
    }

    /// Whether something carries the session now.
    pub fn state(&self) -> State {
        self.socket.state()
    }

    /// Watches the state.
    pub fn watch(&self) -> StateWatch {
        self.socket.watch()
    }

    /// Receives what comes next.
    ///
    /// # Errors
    /// [`RecvError::Ended`] once the session has ended for good.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Result<Event, RecvError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives what comes next, in poll form; see [`Rooms::recv`].
    ///
    /// # Errors
    /// See [`Rooms::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, RecvError>> {
        loop {
            self.poll_joining(cx);
            if let Some(notice) = self.told.pop_front() {
                return Poll::Ready(Ok(Event::Room(notice)));
            }
            let message = match self.socket.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(message)) => message,
                Poll::Ready(Err(RecvError::Lost(ended))) => {
                    self.joining.clear();
                    {
                        let mut ledger = lock(&self.ledger);
                        self.told.extend(ledger.left_with_session());
                        self.waiting = ledger.to_join_again();
                    }
                    self.poll_joining(cx);
                    return Poll::Ready(Ok(Event::Lost(unwrapped(ended))));
                }
                Poll::Ready(Err(RecvError::Ended(ended))) => {
                    return Poll::Ready(Err(RecvError::Ended(unwrapped(ended))));
                }
            };
            if let Some(event) = self.sort(message) {
                return Poll::Ready(Ok(event));
            }
        }
    }

    fn sort(&mut self, message: Message) -> Option<Event> {
        let Message { seq, kind, body } = message;
        match Notice::read(body) {
            Read::App(body) => Some(Event::Message(Message { seq, kind, body })),
            Read::Layer(notice) => lock(&self.ledger).note(&notice).then(|| match notice {
                Notice::Kept { body, .. } => Event::Kept(body),
                notice => Event::Room(notice),
            }),
            Read::Unknown { tag } => {
                tracing::debug!(session = %self.id(), tag, "an unknown notice");
                None
            }
            Read::Malformed { tag, error } => {
                tracing::debug!(session = %self.id(), tag, %error, "a malformed notice");
                None
            }
        }
    }

    /// Goes on with taking up rooms again.
    fn poll_joining(&mut self, cx: &mut Context<'_>) {
        loop {
            while self.joining.len() < AT_ONCE {
                let Some(room) = self.waiting.pop_front() else { break };
                self.join_again(room);
            }
            let before = self.joining.len();
            let (ledger, told) = (&self.ledger, &mut self.told);
            self.joining.retain_mut(|joining| match joining.answer.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(answer) => {
                    // Success is told by the stream itself, and a session that is lost again by the socket.
                    if let Err(RequestError::Failed { code, message }) = answer {
                        let refusal = Refusal { room: joining.room.clone(), code, message };
                        lock(ledger).drop_room(&joining.room);
                        told.push_back(Notice::Left(refusal));
                    }
                    false
                }
            });
            if self.joining.len() == before || self.waiting.is_empty() {
                return;
            }
        }
    }

    fn join_again(&mut self, room: String) {
        let Some(join) = lock(&self.ledger).join_again(&room) else { return };
        let Ok(body) = Operation::Join(join).write() else { return };
        let sender = self.socket.sender();
        let answer = Box::pin(async move {
            loop {
                match sender.request(body.clone()).await {
                    Err(RequestError::TooMany) => tokio::time::sleep(CROWDED).await,
                    answer => return answer,
                }
            }
        });
        self.joining.push(Joining { room, answer });
    }

    /// Sends a message of the application's own; see [`Sender::send`](crate::socket::Sender::send).
    ///
    /// # Errors
    /// As there; a body that nests too deep to be wrapped is `TooLarge`.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message was not sent.
    pub async fn send(&self, body: impl Into<Body>) -> Result<(), SendError> {
        self.socket.send(wrapped(body.into())?).await
    }

    /// Sends a request of the application's own; see [`Sender::request`](crate::socket::Sender::request).
    ///
    /// # Errors
    /// As there, and as [`Rooms::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped the request may have been sent; its reply is then discarded.
    pub async fn request(&self, body: impl Into<Body>) -> Result<Body, RequestError> {
        self.socket.request(wrapped(body.into())?).await
    }

    /// Answers a request that the server made; see [`Sender::reply`](crate::socket::Sender::reply).
    ///
    /// # Errors
    /// See [`Rooms::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn reply(&self, request: &Message, body: impl Into<Body>) -> Result<(), SendError> {
        self.socket.reply(request, body).await
    }

    /// Answers a request with a failure; see [`Sender::fail`](crate::socket::Sender::fail).
    ///
    /// # Errors
    /// See [`Rooms::send`].
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
fn wrapped(body: Body) -> Result<Body, SendError> {
    escape(body).map_err(|_: PayloadError| SendError::TooLarge { limit: 0 })
}

/// What was sent by [`Rooms::send`] and [`Rooms::request`] as it was given.
fn unwrapped(mut ended: Ended) -> Ended {
    for message in &mut ended.undelivered {
        if let Read::App(body) = Operation::read(message.body.clone()) {
            message.body = body;
        }
    }
    ended
}

/// Nothing in this room unwinds while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
