//! Handles whose messages can be values.

use std::future::Future;

use crate::frame::{Body, Message, SessionId};

use super::{RecvError, RequestError, SendError, Socket};

/// Keeps [`Conversation`] to the handles of this crate.
pub(crate) trait Sealed {}

/// A handle of a session whose messages can be values ([`Typed`](super::Typed)): a [`Socket`], or the
/// [`Live`](../hub/struct.Live.html) that a hub makes of one. What each method does is said there; nobody else's handles can
/// be one.
#[expect(private_bounds, reason = "it may get further methods")]
pub trait Conversation: Sealed + Send + Sync {
    /// The public id of the session.
    fn id(&self) -> SessionId;

    /// Receives the next message.
    fn recv(&mut self) -> impl Future<Output = Result<Message, RecvError>> + Send;

    /// Sends a message.
    fn send(&self, body: Body) -> impl Future<Output = Result<(), SendError>> + Send;

    /// Sends a request and waits for its reply.
    fn request(&self, body: Body) -> impl Future<Output = Result<Body, RequestError>> + Send;

    /// Answers a request.
    fn reply(&self, request: &Message, body: Body) -> impl Future<Output = Result<(), SendError>> + Send;

    /// Answers a request with a failure.
    fn fail(
        &self,
        request: &Message,
        code: &str,
        message: &str,
    ) -> impl Future<Output = Result<(), SendError>> + Send;

    /// A message has come that does not fit.
    fn count_misfit(&self) {}
}

impl Sealed for Socket {}

impl Conversation for Socket {
    fn id(&self) -> SessionId {
        Self::id(self)
    }

    async fn recv(&mut self) -> Result<Message, RecvError> {
        Self::recv(self).await
    }

    async fn send(&self, body: Body) -> Result<(), SendError> {
        Self::send(self, body).await
    }

    async fn request(&self, body: Body) -> Result<Body, RequestError> {
        Self::request(self, body).await
    }

    async fn reply(&self, request: &Message, body: Body) -> Result<(), SendError> {
        Self::reply(self, request, body).await
    }

    async fn fail(&self, request: &Message, code: &str, message: &str) -> Result<(), SendError> {
        Self::fail(self, request, code, message).await
    }
}
