//! The door: judges what was said first, and brings transports to their sessions.

use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::frame::{
    Batch, Close, CloseCode, DecodeError, Epoch, Frame, Hello, Poll, Push, SessionId, TransportKind,
};
use crate::session::{Config, Receipts, Session};
use crate::socket::{Command, Driver, Identity, Launch, NotTaken, PushAnswer, Shared, launch};
use crate::transport::Transport;

use super::auth::Presented;
use super::registry::{Claim, Opened};
use super::steward::Steward;
use super::{Inner, now};

/// How long a WebSocket that is refused may take to hear why.
const PARTING: Duration = Duration::from_secs(2);

/// Which bounds and times a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Of a client that speaks the protocol.
    Full,
    /// It lives as long as its plain WebSocket.
    Plain,
    /// Only a plain event stream carries it.
    Events,
}

/// Who asks, and for which session.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) presented: Presented,
    /// What the query names.
    pub(super) session: Option<SessionId>,
}

impl Visitor {
    /// Refuses a body that speaks of another session than the query.
    pub(super) fn check(&self, session: SessionId) -> Result<(), Close> {
        match self.session {
            Some(named) if named != session => Err(broken("the query names another session than the body")),
            _ => Ok(()),
        }
    }
}

/// A transport and what it said first.
pub(super) struct Arrival {
    pub(super) hello: Box<Hello>,
    pub(super) transport: Box<dyn Transport>,
    /// Frames that came in the same body.
    pub(super) behind: Vec<Frame>,
}

/// What is left of an arrival that was not let in.
pub(super) struct Refused {
    pub(super) close: Close,
    pub(super) transport: Option<Box<dyn Transport>>,
}

/// A close for what is not of the protocol.
pub(super) fn broken(reason: &'static str) -> Close {
    Close::new(CloseCode::ProtocolError, reason)
}

fn unknown() -> Close {
    Close::new(CloseCode::UnknownSession, "no such session")
}

fn busy() -> Close {
    Close::new(CloseCode::Overloaded, "too many requests of this session at once")
}

impl Inner {
    /// Takes one of the places for transports without a session.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Close> {
        let place = Arc::clone(&self.unattached).try_acquire_owned();
        place.map_err(|_| {
            Close::new(CloseCode::Overloaded, "too many transports are on their way to a session")
        })
    }

    /// Refuses everybody once the server drains.
    pub(super) fn check_draining(&self) -> Result<(), Close> {
        match self.draining.get() {
            Some(_) => Err(Close::new(CloseCode::Draining, "the server is going down")),
            None => Ok(()),
        }
    }

    /// Refuses transports that are not offered.
    pub(super) fn check_offered(&self, kind: TransportKind) -> Result<(), Close> {
        if self.settings.session.transports.contains(&kind) {
            return Ok(());
        }
        Err(Close::new(CloseCode::NotAcceptable, format!("{kind} is not offered here")))
    }

    /// Judges a `hello` and runs the session if it is new.
    pub(super) async fn let_in(
        self: &Arc<Self>,
        visitor: &Visitor,
        sort: Sort,
        arrival: Arrival,
    ) -> Result<(), Refused> {
        if let Some(driver) = self.bring_in(visitor, sort, arrival).await? {
            self.tasks.spawn(driver);
        }
        Ok(())
    }

    /// Judges a `hello`: asks the authenticator, then looks for the session or makes it. The driver of a new one is
    /// to be run.
    pub(super) async fn bring_in(
        self: &Arc<Self>,
        visitor: &Visitor,
        sort: Sort,
        arrival: Arrival,
    ) -> Result<Option<Driver>, Refused> {
        let Arrival { hello, transport, behind } = arrival;
        let judged = async {
            self.check_draining()?;
            visitor.check(hello.session)?;
            self.check_offered(hello.transport)?;
            let grant = self.authenticate(&visitor.presented, hello.session, hello.auth.as_ref()).await?;
            let (identity, expires) = grant.into_parts();
            let offer = match sort {
                Sort::Full => self.offer(visitor, &hello, identity.principal.as_ref())?,
                Sort::Plain | Sort::Events => None,
            };
            // It may have begun while the authenticator took its time.
            self.check_draining()?;
            Ok((identity, expires, offer))
        };
        let (identity, expires, offer) = match judged.await {
            Ok(granted) => granted,
            Err(close) => return Err(Refused { close, transport: Some(transport) }),
        };
        let (id, key, epoch) = (hello.session, hello.key.clone(), hello.epoch);
        let receipts = match sort {
            Sort::Full | Sort::Plain => Receipts::Given,
            Sort::Events => Receipts::Absent,
        };
        let claim = Claim { id, key: &key, epoch, receipts };
        let mut command = Command::Hello { hello, transport, behind, expires, offer };
        // A session that ends between being found and being told is looked up once more.
        for _ in 0..2 {
            let make = |epoch| self.make(sort, id, epoch, identity.clone());
            let opened = match self.registry.open(now(), claim, identity.principal.as_ref(), make) {
                Ok(opened) => opened,
                Err(close) => return Err(Refused { close, transport: transport_of(command) }),
            };
            let (shared, made) = match opened {
                Opened::Found(shared) => (shared, None),
                Opened::Made(shared, driver) => (shared, Some(driver)),
            };
            let taken = shared.deposit(command);
            if made.is_some() {
                self.tell_late(&shared);
            }
            command = match taken {
                Ok(()) => return Ok(made),
                Err(NotTaken::Full(command)) => {
                    return Err(Refused { close: busy(), transport: transport_of(command) });
                }
                Err(NotTaken::Finished(command)) => command,
            };
        }
        Err(Refused { close: unknown(), transport: transport_of(command) })
    }

    fn make(
        self: &Arc<Self>,
        sort: Sort,
        id: SessionId,
        epoch: Epoch,
        identity: Identity,
    ) -> (Arc<Shared>, Driver) {
        let config: &Arc<Config> = match sort {
            Sort::Full => &self.settings.session,
            Sort::Plain => &self.settings.plain_session,
            Sort::Events => &self.settings.events_session,
        };
        let session = Session::server(Arc::clone(config), id, epoch, now());
        let patience = self.settings.patience;
        launch(Launch { session, identity, patience }, |shared| {
            Box::new(Steward::new(Arc::clone(self), Arc::clone(shared)))
        })
    }

    /// The drain that began meanwhile has not seen this session.
    fn tell_late(&self, shared: &Arc<Shared>) {
        if let Some(close) = self.draining.get() {
            shared.ask_close(close.clone());
        }
    }

    /// Brings a `poll` to its session.
    pub(super) fn deliver_poll(&self, poll: Box<Poll>, transport: Box<dyn Transport>) -> Result<(), Close> {
        let (id, key, epoch) = (poll.session, poll.key.clone(), Some(poll.epoch));
        self.deliver(
            Claim { id, key: &key, epoch, receipts: Receipts::Given },
            Command::Poll { poll, transport },
        )
    }

    /// Brings a `push` to its session, and waits for its answer.
    pub(super) async fn deliver_push(
        &self,
        push: Push,
        frames: Vec<Frame>,
        malformed: Option<DecodeError>,
    ) -> Result<PushAnswer, Close> {
        let claim =
            Claim { id: push.session, key: &push.key, epoch: Some(push.epoch), receipts: Receipts::Given };
        let (answer, answered) = oneshot::channel();
        let command = Command::Push { attachment: push.attachment, frames, malformed, answer };
        self.deliver(claim, command)?;
        match answered.await {
            Ok(answer) => Ok(answer),
            // The session ended before it looked: what is left of it says how.
            Err(_) => match self.registry.find(now(), claim) {
                Ok(_) => Err(unknown()),
                Err(close) => Err(close),
            },
        }
    }

    /// Gives an existing session a command.
    pub(super) fn deliver(&self, claim: Claim<'_>, mut command: Command) -> Result<(), Close> {
        for _ in 0..2 {
            command = match self.registry.find(now(), claim)?.deposit(command) {
                Ok(()) => return Ok(()),
                Err(NotTaken::Full(_)) => return Err(busy()),
                Err(NotTaken::Finished(command)) => command,
            };
        }
        Err(unknown())
    }
}

fn transport_of(command: Command) -> Option<Box<dyn Transport>> {
    match command {
        Command::Hello { transport, .. } => Some(transport),
        _ => None,
    }
}

/// Tells a transport why it is refused, if that is to be said in band, and ends it in order.
pub(super) async fn dismiss(mut transport: Box<dyn Transport>, close: Option<Close>) {
    let mut frame = close.map(Frame::Close);
    let said = std::future::poll_fn(|cx| {
        if frame.is_some() {
            ready!(transport.poll_ready(cx))?;
            if let Some(frame) = frame.take() {
                transport.start_send(&frame);
            }
        }
        transport.poll_close(cx)
    });
    // Who does not listen need not know.
    let _ = tokio::time::timeout(PARTING, said).await;
}

/// The frames behind the first one of a body, and what is wrong behind them.
pub(super) fn rest(batch: Batch) -> (Vec<Frame>, Option<DecodeError>) {
    let (mut frames, mut malformed) = (Vec::new(), None);
    for frame in batch {
        match frame {
            Ok(frame) => frames.push(frame),
            Err(error) => malformed = Some(error),
        }
    }
    (frames, malformed)
}
