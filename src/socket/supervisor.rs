//! What the layer above does for a session: the seam between the driver and whoever makes transports.

use std::task::{Context, Poll};
use std::time::Instant;

use crate::frame::{Attachment, Json, Move, TransportKind};
use crate::session::{Departure, DetachReason, Ended, Session};
use crate::transport::TransportError;

use super::command::Command;

/// What a supervisor hears of its session.
#[derive(Debug)]
pub(crate) enum Notice<'a> {
    /// A transport carries the session; on the server the handler runs when it had not been attached before.
    Attached {
        attachment: Attachment,
        transport: TransportKind,
        resumed: bool,
        /// Client: what the server offers, best first.
        offered: &'a [TransportKind],
    },
    /// A bound transport failed; [`Notice::Detached`] follows if the session gives it up.
    Failed { attachment: Attachment, error: &'a TransportError },
    /// A transport was given up.
    Detached { attachment: Attachment, reason: &'a DetachReason, departure: Departure },
    /// Client: what carries the session was proved, with or without own messages that wait.
    Proved { attachment: Attachment, owing: bool },
    /// A transport that was dialled got this number.
    Introduced { attachment: Attachment },
    /// Server: a fresh token.
    Auth(Json),
    /// Client: the server took the latest token, which runs out after so long if it says so.
    AuthAccepted { expires: Option<std::time::Duration> },
    /// Client: the application says that the network has changed.
    NetworkChanged,
    /// Client: the server, or the application, asks for another transport.
    MoveAsked(Move),
}

/// What the layer above does for a session: dialling on a client, handlers and authentication on a server.
///
/// It is polled by the driver, in the driver's task.
pub(crate) trait Supervisor: Send {
    /// Hears what happened.
    fn notice(&mut self, notice: Notice<'_>);

    /// The next command. Called at every turn but while it is at rest, and in another one after it has heard anything. Pending, it has seen to
    /// being woken for whatever it waits for besides. How the session does may be looked at.
    fn poll_command(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<Command>;

    /// After [`Supervisor::poll_command`] was pending: whether it waits for nothing, so that it need not be polled before it has
    /// heard something.
    fn is_at_rest(&self) -> bool {
        false
    }

    /// Hears the end; `Some` is a new session in place of the old one.
    fn ended(&mut self, ended: &Ended, now: Instant) -> Option<Session>;
}
