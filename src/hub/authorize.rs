//! Who may do what in which room: one seam.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::frame::SessionId;
use crate::socket::{Principal, Sender};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// To be told what is said.
    Join,
    /// To say something.
    Publish,
    /// To be told who is there.
    Presence,
    /// To be told what was said before, on joining or as pages.
    History,
}

/// Who asks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Visitor {
    /// The session.
    pub session: SessionId,
    /// Who the authenticator says it is, if there is one.
    pub principal: Option<Principal>,
    sender: Sender,
}

impl Visitor {
    pub(super) fn of(sender: &Sender) -> Self {
        Self { session: sender.id(), principal: sender.principal().cloned(), sender: sender.clone() }
    }

    /// What the authenticator granted besides, of this type ([`Grant::with`](crate::server::Grant::with)): a role, a tenant.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.sender.extension()
    }
}

/// Decides what clients may do. It is asked at each operation, and again about `Join` for each joined room when the
/// session is carried again after nothing carried it, or by another kind of transport.
///
/// It is not asked about what the server's own code does with a [`Room`](super::Room).
///
/// A plain function will do that looks at what it is asked and returns a future that does not borrow it; one that knows at once
/// returns a [`ready`](std::future::ready) one:
///
/// ```
/// use std::future::ready;
/// use throughline::Hub;
/// use throughline::hub::{Action, Visitor};
///
/// let hub = Hub::builder().authorize(|visitor: &Visitor, room: &str, action: Action| {
///     let own = visitor.principal.as_ref().is_some_and(|who| room.strip_prefix("of-") == Some(who.as_str()));
///     ready(own || (room == "news" && action != Action::Publish))
/// });
/// # let _ = hub.build();
/// ```
#[async_trait]
pub trait Authorize: Send + Sync + 'static {
    /// Whether this visitor may do this in the room of this name. It is the client's choice, of 1 to 256 bytes.
    ///
    /// While it decides, other operations and messages of this session wait. It may be asked again when the handler
    /// lets go of [`Live::recv`](super::Live::recv) before it has answered.
    async fn allow(&self, visitor: &Visitor, room: &str, action: Action) -> bool;
}

#[async_trait]
impl<F, R> Authorize for F
where
    F: Fn(&Visitor, &str, Action) -> R + Send + Sync + 'static,
    R: Future<Output = bool> + Send + 'static,
{
    async fn allow(&self, visitor: &Visitor, room: &str, action: Action) -> bool {
        self(visitor, room, action).await
    }
}

/// An authoriser: clients may join any room, hear, see who is there and what was said; only the server says anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnly;

#[async_trait]
impl Authorize for ReadOnly {
    async fn allow(&self, _: &Visitor, _: &str, action: Action) -> bool {
        action != Action::Publish
    }
}

/// An authoriser, whatever its type.
#[derive(Clone)]
pub(super) struct Seam(pub(super) Arc<dyn Authorize>);

impl fmt::Debug for Seam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorize")
    }
}
