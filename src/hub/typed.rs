//! Messages as values, of a session that a hub serves.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{Body, Message};
use crate::socket::{Conversation, RecvError, Sealed, SendError, Socket, Typed};

use super::Live;
use super::live::wrapped;

impl Live {
    /// The session with the application's own messages as values: those that come are of type `In`, those that go of type
    /// `Out`. What its client asks about rooms is answered as before. What does not fit is counted for the operator, too
    /// ([`Stats::misfits`](super::Stats::misfits)).
    pub fn typed<In: DeserializeOwned, Out: Serialize>(self) -> Typed<In, Out, Self> {
        Typed::over(self)
    }
}

impl Sealed for Live {
    fn lend(&self) -> &Socket {
        &self.socket
    }

    fn prepare(&self, body: Body) -> Result<Body, SendError> {
        wrapped(body)
    }

    fn count_misfit(&self) {
        self.hub.counters.misfits.one();
    }
}

impl Conversation for Live {
    async fn recv(&mut self) -> Result<Message, RecvError> {
        Self::recv(self).await
    }
}
