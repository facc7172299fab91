//! What the server does for one session while it lives: runs the handler, asks about fresh tokens, and strikes it
//! off the registry when it is over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::frame::{Close, CloseCode, Json, TransportKind};
use crate::session::{Ended, Session};
use crate::socket::{Command, Notice, Shared, Supervisor};

use super::auth::Grant;
use super::{Inner, now};

type Asking = Pin<Box<dyn Future<Output = Result<Grant, Close>> + Send>>;

/// Owned by the session's driver, and so its entry in the registry lasts exactly as long as the driver does.
pub(super) struct Steward {
    server: Arc<Inner>,
    shared: Arc<Shared>,
    /// The authenticator's word on the latest fresh token.
    asking: Option<Asking>,
}

impl Steward {
    pub(super) fn new(server: Arc<Inner>, shared: Arc<Shared>) -> Self {
        Self { server, shared, asking: None }
    }

    /// Starts the handler: a session is attached for the first time once.
    fn start(&self, transport: TransportKind) {
        tracing::debug!(session = %self.shared.id(), %transport, principal = ?self.shared.principal(), "the handler starts");
        (self.server.start)(&self.server.tasks, self.shared.socket(), self.server.hub.clone());
    }

    fn ask(&mut self, token: Json) {
        let (server, shared) = (Arc::clone(&self.server), Arc::clone(&self.shared));
        self.asking = Some(Box::pin(async move {
            server.authenticate_again(shared.id(), &token, shared.principal()).await
        }));
    }

    fn conclude(&self, answer: Result<Grant, Close>) -> Option<Command> {
        match answer.map(Grant::into_parts) {
            Ok((identity, expires)) if identity.principal.as_ref() == self.shared.principal() => {
                Some(Command::AcceptAuth { expires_ms: expires.map_or(0, millis) })
            }
            Ok(_) => {
                let close = Close::new(CloseCode::Forbidden, "the token is another principal's");
                Some(Command::Abort(close))
            }
            // It cannot be said just now: the old token holds until it runs out.
            Err(close) if close.code == CloseCode::Overloaded => None,
            Err(close) => Some(Command::Abort(close)),
        }
    }
}

/// A time in whole milliseconds; what is less than one still runs out.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, crate::frame::MAX_NUMBER)
}

impl Supervisor for Steward {
    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Attached { transport, resumed: false, .. } => self.start(transport),
            Notice::Auth(token) => self.ask(token),
            _ => {}
        }
    }

    fn poll_command(&mut self, cx: &mut Context<'_>, _: &Session) -> Poll<Command> {
        while let Some(asking) = &mut self.asking {
            let Poll::Ready(answer) = asking.as_mut().poll(cx) else { break };
            self.asking = None;
            if let Some(command) = self.conclude(answer) {
                return Poll::Ready(command);
            }
        }
        Poll::Pending
    }

    fn is_at_rest(&self) -> bool {
        self.asking.is_none()
    }

    fn ended(&mut self, _ended: &Ended, _now: Instant) -> Option<Session> {
        self.asking = None;
        None
    }
}

impl Drop for Steward {
    fn drop(&mut self) {
        self.server.registry.end(now(), self.shared.id(), &self.shared);
        self.server.tasks.reap();
    }
}
