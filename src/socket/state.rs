//! Whether a session is carried, as a value that can be watched.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::frame::{Close, TransportKind};

use super::shared::Shared;

/// Whether something carries a session now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Client: on the way to the first `welcome`.
    Connecting,
    /// A transport carries the session.
    Connected {
        /// Its kind.
        transport: TransportKind,
    },
    /// Nothing carries the session; what is sent waits. The client dials, the server waits to be dialled.
    Reconnecting {
        /// Why, for people.
        reason: Arc<str>,
        /// Client: when it dials next, if it is not dialling now.
        retry_at: Option<Instant>,
    },
    /// The session has ended.
    Closed {
        /// Why.
        close: Close,
    },
}

/// Watches the state of a session.
#[derive(Debug)]
pub struct StateWatch {
    pub(super) shared: Arc<Shared>,
    pub(super) seen: u64,
}

impl StateWatch {
    /// The state now; the next [`StateWatch::changed`] waits for another one.
    pub fn state(&mut self) -> State {
        let inner = self.shared.lock();
        self.seen = inner.state_version;
        inner.state.clone()
    }

    /// Waits for a state that this watch has not seen, and returns it. States in between are passed over;
    /// after [`State::Closed`] there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) -> State {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// Waits for a state that this watch has not seen, in poll form; see [`StateWatch::changed`].
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<State> {
        let mut inner = self.shared.lock();
        if inner.state_version == self.seen {
            inner.state_wakers.register(cx.waker());
            return Poll::Pending;
        }
        self.seen = inner.state_version;
        Poll::Ready(inner.state.clone())
    }
}
