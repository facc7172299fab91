//! The way from a room to a socket.

use tokio::runtime::Handle;

use crate::frame::{Body, Close, CloseCode};
use crate::room::{Line, Offer};
use crate::socket::{SendError, Sender, State};

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

    /// Ends the session, to which something could not be told: it is too slow, or takes smaller messages only. False: it has
    /// ended.
    pub(super) fn end(&self, code: CloseCode) -> bool {
        let is_open = !matches!(self.sender.state(), State::Closed { .. });
        let reason = match code {
            CloseCode::TooLarge => "a message for it is larger than it takes",
            _ => "messages were taken too slowly",
        };
        self.sender.abort(Close::new(code, reason));
        is_open
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
