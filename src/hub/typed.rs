//! Messages as values, of a session that a hub serves.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{Body, Message, SessionId};
use crate::socket::{Conversation, RecvError, RequestError, Sealed, SendError, Typed};

use super::Live;

impl Live {
    /// The session with the application's own messages as values: those that come are of type `In`, those that go of type
    /// `Out`. What its client asks about rooms is answered as before. What does not fit is counted for the operator, too
    /// ([`Stats::misfits`](super::Stats::misfits)).
    pub fn typed<In: DeserializeOwned, Out: Serialize>(self) -> Typed<In, Out, Self> {
        Typed::over(self)
    }
}

impl Sealed for Live {}

impl Conversation for Live {
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

    fn count_misfit(&self) {
        self.hub.counters.misfits.one();
    }
}
