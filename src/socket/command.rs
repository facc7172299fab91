//! What a driver is asked for besides sending. Its mailbox is in `shared`; what it does then is in `driver/commands`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::frame::{Ack, Attachment, Close, DecodeError, Frame, Hello, Json, Move, Poll as PollFrame, Seq};
use crate::session::{Config, Intent, Lesson};
use crate::transport::Transport;

/// How many commands wait for a driver at most: a client has two requests open at once, replays aside.
pub(super) const MAX_COMMANDS: usize = 16;

/// The answer to a push.
#[derive(Debug)]
pub(crate) enum PushAnswer {
    /// What was received.
    Ack(Ack),
    /// The session is over, or ended by what was pushed.
    Close(Close),
}

/// What is asked of a driver besides sending.
pub(crate) enum Command {
    /// Server: a transport brought a `hello` whose key fits, perhaps with frames behind it.
    Hello {
        hello: Box<Hello>,
        transport: Box<dyn Transport>,
        behind: Vec<Frame>,
        /// For how long the authenticator's word holds.
        expires: Option<Duration>,
        /// The settings with what this client is offered, if that is not the same for all.
        offer: Option<Arc<Config>>,
    },
    /// Server: a stream for a peer that gives no receipts and has seen all up to `received`.
    Return { received: Seq, begin: BeginStream, expires: Option<Duration> },
    /// Server: a request that waits to be answered.
    Poll { poll: Box<PollFrame>, transport: Box<dyn Transport> },
    /// Server: frames that came in a request of their own.
    Push {
        attachment: Attachment,
        frames: Vec<Frame>,
        malformed: Option<DecodeError>,
        answer: oneshot::Sender<PushAnswer>,
    },
    /// Server: the fresh token was accepted.
    AcceptAuth { expires_ms: u64 },
    /// Client: a transport was dialled.
    Introduce { transport: Box<dyn Transport>, intent: Intent, auth: Option<Json> },
    /// Client: a fresh token.
    RefreshAuth(Json),
    /// Client: nothing carries the session, and this is why and until when.
    Waiting { reason: Arc<str>, retry_at: Option<Instant> },
    /// The application asks for another transport.
    Move(Move),
    /// Client: give a candidate up, unless it is attached or about to be.
    Withdraw(Attachment),
    /// Client: what is known of the network.
    Learn(Lesson),
    /// Client: the application says that the network has changed.
    NetworkChanged,
    /// Cut all transports, as a dead network would.
    Cut,
    /// End at once.
    Abort(Close),
}

/// Makes a stream that begins behind a message, and says whether any before are lost.
pub(crate) type BeginStream = Box<dyn FnOnce(Seq, bool) -> Box<dyn Transport> + Send>;

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hello { .. } => "Hello",
            Self::Return { .. } => "Return",
            Self::Poll { .. } => "Poll",
            Self::Push { .. } => "Push",
            Self::AcceptAuth { .. } => "AcceptAuth",
            Self::Introduce { .. } => "Introduce",
            Self::RefreshAuth(_) => "RefreshAuth",
            Self::Waiting { .. } => "Waiting",
            Self::Move(_) => "Move",
            Self::Withdraw(_) => "Withdraw",
            Self::Learn(_) => "Learn",
            Self::NetworkChanged => "NetworkChanged",
            Self::Cut => "Cut",
            Self::Abort(_) => "Abort",
        })
    }
}

/// Why a command was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The driver has finished: look the session up again.
    Finished(Command),
    /// Too much waits already.
    Full(Command),
}
