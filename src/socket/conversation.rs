//! Handles whose messages can be values.

use std::future::Future;

use crate::frame::{Body, Message, SessionId};

use super::{AckError, RecvError, RequestError, SendError, Socket};

/// Keeps [`Conversation`] to the handles of this crate, and says where they differ.
pub(crate) trait Sealed {
    /// The socket that it sends by.
    fn lend(&self) -> &Socket;

    /// A message or a request as it must be sent.
    fn prepare(&self, body: Body) -> Result<Body, SendError> {
        Ok(body)
    }

    /// A message has come that does not fit.
    fn count_misfit(&self) {}
}

/// A handle of a session whose messages can be values ([`Typed`](super::Typed)): a [`Socket`], or the
/// [`Live`](../hub/struct.Live.html) that a hub makes of one. What each method does is said there; nobody else's handles can
/// be one.
#[expect(private_bounds, reason = "it may get further methods")]
pub trait Conversation: Sealed + Send + Sync {
    /// Receives the next message.
    fn recv(&mut self) -> impl Future<Output = Result<Message, RecvError>> + Send;

    /// The public id of the session.
    fn id(&self) -> SessionId {
        self.lend().id()
    }

    /// Sends a message.
    fn send(&self, body: Body) -> impl Future<Output = Result<(), SendError>> + Send {
        async move { self.lend().send(self.prepare(body)?).await }
    }

    /// Sends a message if there is room.
    fn try_send(&self, body: Body) -> Result<(), SendError> {
        self.lend().try_send(self.prepare(body)?)
    }

    /// Sends a message and waits until the peer has received it.
    fn send_acked(&self, body: Body) -> impl Future<Output = Result<(), AckError>> + Send {
        async move { self.lend().send_acked(self.prepare(body)?).await }
    }

    /// Sends a request and waits for its reply.
    fn request(&self, body: Body) -> impl Future<Output = Result<Body, RequestError>> + Send {
        async move { self.lend().request(self.prepare(body)?).await }
    }

    /// Answers a request.
    fn reply(&self, request: &Message, body: Body) -> impl Future<Output = Result<(), SendError>> + Send {
        self.lend().reply(request, body)
    }

    /// Answers a request with a failure.
    fn fail(
        &self,
        request: &Message,
        code: &str,
        message: &str,
    ) -> impl Future<Output = Result<(), SendError>> + Send {
        self.lend().fail(request, code, message)
    }
}

impl Sealed for Socket {
    fn lend(&self) -> &Socket {
        self
    }
}

impl Conversation for Socket {
    async fn recv(&mut self) -> Result<Message, RecvError> {
        Self::recv(self).await
    }
}
