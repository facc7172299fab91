//! The way from a room to a socket.

use tokio::runtime::Handle;

use crate::frame::{Body, Close, CloseCode};
use crate::room::{Line, Offer};
use crate::socket::{SendError, Sender};

/// A socket as rooms see it.
#[derive(Clone, Debug)]
pub(super) struct SocketLine {
    sender: Sender,
    /// Where what waits for it can be sent later.
    runtime: Option<Handle>,
}

impl SocketLine {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, runtime: Handle::try_current().ok() }
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }

    /// Sends what must not be missed unknowingly: without room for it, the session ends.
    pub(super) fn tell(&self, body: &Body) -> bool {
        match self.offer(body) {
            Offer::Taken => true,
            Offer::Full => {
                self.end();
                false
            }
            Offer::Refused | Offer::Gone => false,
        }
    }

    /// Ends the session for being too slow.
    pub(super) fn end(&self) {
        self.sender.abort(Close::new(CloseCode::SlowConsumer, "messages were taken too slowly"));
    }
}

impl Line for SocketLine {
    fn offer(&self, payload: &Body) -> Offer {
        match self.sender.try_send(payload.clone()) {
            Ok(()) => Offer::Taken,
            Err(SendError::Full) => Offer::Full,
            Err(SendError::TooLarge { .. }) => Offer::Refused,
            Err(SendError::Closed | SendError::SlowConsumer) => Offer::Gone,
        }
    }
}
