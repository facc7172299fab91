//! Messages as values of the application's own types.

use std::marker::PhantomData;
use std::pin::pin;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::frame::{Body, JsonError, Message, MessageKind, SessionId};

use super::misfit::{self, Complaint, MISFIT};
use super::{AckError, Conversation, MisfitWatch, RecvError, RequestError, SendError, Socket};

/// A socket, or another [`Conversation`], whose messages are values: those that come are of type `In`, those that go of type `Out`. An enum tagged by
/// one of its members (`#[serde(tag = "type")]`) makes a good protocol.
///
/// What does not fit `In` never ends the session and never reaches the application. Its sender is told: a request is answered
/// by a failure with the code [`MISFIT`], and of other messages [`Typed::watch_misfits`] tells at the other end, of all that
/// came within a second at once. Both are counted ([`Typed::misfits`]) and told through `tracing`, without their content.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use throughline::Socket;
///
/// #[derive(Deserialize)]
/// #[serde(tag = "type", rename_all = "snake_case")]
/// enum Ask {
///     Reserve { seat: u32 },
///     Release { seat: u32 },
/// }
///
/// #[derive(Serialize)]
/// #[serde(tag = "type", rename_all = "snake_case")]
/// enum Tell {
///     Reserved { seat: u32 },
///     Free { seat: u32 },
/// }
///
/// async fn seats(socket: Socket) {
///     let mut socket = socket.typed::<Ask, Tell>();
///     while let Ok(asked) = socket.recv().await {
///         let answer = match asked.value {
///             Ask::Reserve { seat } => Tell::Reserved { seat },
///             Ask::Release { seat } => Tell::Free { seat },
///         };
///         let _ = socket.reply(&asked, &answer).await;
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Typed<In, Out, S = Socket> {
    socket: S,
    misfits: u64,
    /// A request that is still to be told that it does not fit, and why.
    refused: Option<(Message, String)>,
    /// What is to be told of other messages.
    complaint: Complaint,
    types: PhantomData<fn(&Out) -> In>,
}

/// A message that fits.
#[derive(Debug)]
pub struct Received<In> {
    /// What it says.
    pub value: In,
    /// Its number and kind; the body has become the value.
    message: Message,
}

impl<In> Received<In> {
    /// Whether it wants an answer.
    pub fn is_request(&self) -> bool {
        self.message.kind == MessageKind::Request
    }
}

/// Why a value was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedSendError {
    /// It has no JSON form.
    #[error(transparent)]
    Value(#[from] JsonError),
    /// The message was not accepted.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Why a value that was to be acknowledged was not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedAckError {
    /// It has no JSON form.
    #[error(transparent)]
    Value(#[from] JsonError),
    /// The message was not accepted, or not acknowledged.
    #[error(transparent)]
    Ack(#[from] AckError),
}

/// Why a request has no reply of the type that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedRequestError {
    /// What was to be asked has no JSON form.
    #[error(transparent)]
    Value(#[from] JsonError),
    /// It has no reply.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The reply does not fit.
    #[error("the reply does not fit")]
    Misfit(#[source] serde_json::Error),
}

impl Socket {
    /// The socket with messages as values: those that come are of type `In`, those that go of type `Out`.
    pub fn typed<In: DeserializeOwned, Out: Serialize>(self) -> Typed<In, Out> {
        Typed::over(self)
    }
}

impl<In: DeserializeOwned, Out: Serialize, S: Conversation> Typed<In, Out, S> {
    pub(crate) fn over(socket: S) -> Self {
        Self { socket, misfits: 0, refused: None, complaint: Complaint::default(), types: PhantomData }
    }

    /// Receives the next message that fits, requests included.
    ///
    /// # Errors
    /// See [`Socket::recv`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Result<Received<In>, RecvError> {
        loop {
            if let Some((request, reason)) = &self.refused {
                // A session that is closed says so when it is received from.
                let _ = self.socket.fail(request, MISFIT, reason).await;
                self.refused = None;
            }
            let message = self.listen().await?;
            let value = message.body.to();
            // Kept to be answered, and not for what it says.
            let message = Message { body: Body::from(Vec::new()), ..message };
            match value {
                Ok(value) => return Ok(Received { value, message }),
                Err(misfit) => self.refuse(message, &misfit),
            }
        }
    }

    /// Waits for a message, and tells of those before it what is to be told meanwhile.
    async fn listen(&mut self) -> Result<Message, RecvError> {
        let Self { socket, complaint, .. } = self;
        if complaint.is_settled() {
            return socket.recv().await;
        }
        let sender = socket.lend().sender();
        let mut hearing = pin!(socket.recv());
        let heard = loop {
            let Some(due) = complaint.tell(Instant::now(), |seq, failure| sender.try_fail(seq, failure))
            else {
                break hearing.await;
            };
            if let Ok(heard) = timeout_at(due, hearing.as_mut()).await {
                break heard;
            }
        };
        if heard.is_err() {
            complaint.forget();
        }
        heard
    }

    fn refuse(&mut self, message: Message, misfit: &serde_json::Error) {
        self.misfits = self.misfits.saturating_add(1);
        self.socket.count_misfit();
        let (line, column) = (misfit.line(), misfit.column());
        tracing::debug!(session = %self.id(), seq = %message.seq, line, column, "a message does not fit");
        if message.kind == MessageKind::Request {
            self.refused = Some((message, misfit::reason(misfit)));
        } else {
            self.complaint.add(message.seq, misfit::reason(misfit));
        }
    }

    /// How many messages came that do not fit.
    pub fn misfits(&self) -> u64 {
        self.misfits
    }

    /// Watches what the peer tells of values sent, other than requests, that do not fit the type that it receives.
    pub fn watch_misfits(&self) -> MisfitWatch {
        self.socket.lend().watch_misfits()
    }

    /// Sends a value; see [`Sender::send`](super::Sender::send).
    ///
    /// # Errors
    /// As there; also when it has no JSON form.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, it was not sent.
    pub async fn send(&self, value: &Out) -> Result<(), TypedSendError> {
        Ok(self.socket.send(Body::json(value)?).await?)
    }

    /// Sends a value if there is room; see [`Sender::try_send`](super::Sender::try_send).
    ///
    /// # Errors
    /// As there; also when it has no JSON form.
    pub fn try_send(&self, value: &Out) -> Result<(), TypedSendError> {
        Ok(self.socket.try_send(Body::json(value)?)?)
    }

    /// Sends a value and waits until the peer has received it; see [`Sender::send_acked`](super::Sender::send_acked).
    ///
    /// # Errors
    /// As there; also when it has no JSON form.
    ///
    /// # Cancel safety
    /// When the future is dropped the value may or may not have been sent.
    pub async fn send_acked(&self, value: &Out) -> Result<(), TypedAckError> {
        Ok(self.socket.send_acked(Body::json(value)?).await?)
    }

    /// Sends a value as a request and waits for a reply of some type; see [`Sender::request`](super::Sender::request).
    ///
    /// # Errors
    /// As there; also when the value has no JSON form, or the reply does not fit.
    ///
    /// # Cancel safety
    /// When the future is dropped the request may have been sent; its reply is then discarded.
    pub async fn request<Reply: DeserializeOwned>(&self, value: &Out) -> Result<Reply, TypedRequestError> {
        let reply = self.socket.request(Body::json(value)?).await?;
        reply.to().map_err(TypedRequestError::Misfit)
    }

    /// Answers a request; to a message that is none it goes unheard.
    ///
    /// # Errors
    /// See [`Typed::send`].
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn reply<Reply: Serialize>(
        &self,
        request: &Received<In>,
        value: &Reply,
    ) -> Result<(), TypedSendError> {
        Ok(self.socket.reply(&request.message, Body::json(value)?).await?)
    }

    /// Answers a request with a failure: a code for programs, a message for people.
    ///
    /// # Errors
    /// See [`Sender::send`](super::Sender::send).
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the answer was not sent.
    pub async fn fail(&self, request: &Received<In>, code: &str, message: &str) -> Result<(), SendError> {
        self.socket.fail(&request.message, code, message).await
    }

    /// The public id of the session.
    pub fn id(&self) -> SessionId {
        self.socket.id()
    }

    /// The handle below.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The same, to be changed. What is received from it is not held against the types.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The handle without the types.
    pub fn into_inner(self) -> S {
        self.socket
    }
}
