//! Which transports a client is offered: the application's say, asked at every `hello`.
//!
//! It implements `docs/PROTOCOL.md`, "The server's say".

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::frame::{Close, CloseCode, Hello, TransportKind};
use crate::session::Config;
use crate::socket::Principal;

use super::Inner;
use super::auth::Attempt;
use super::door::Visitor;

/// Says which transports a client is offered: see [`Builder::policy`](super::Builder::policy).
pub(super) type Policy = Arc<dyn Fn(&Attempt<'_>) -> Offer + Send + Sync>;

/// What a client is offered: the server's own list, changed by what is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    first: Vec<TransportKind>,
    forbidden: Vec<TransportKind>,
    reason: Option<Cow<'static, str>>,
}

impl Offer {
    /// The server's own list ([`Builder::transports`](super::Builder::transports)) as it is.
    pub fn usual() -> Self {
        Self::default()
    }

    /// Puts these first, in this order; the others follow in theirs. What the server does not offer is not offered.
    #[must_use]
    pub fn prefer(mut self, transports: impl IntoIterator<Item = TransportKind>) -> Self {
        self.first = transports.into_iter().collect();
        self
    }

    /// Takes a transport off the list. A `hello` by it is refused, and the client tries another with the same session.
    #[must_use]
    pub fn forbid(mut self, transport: TransportKind) -> Self {
        self.forbidden.push(transport);
        self
    }

    /// Why: told to a client whose transport is forbidden, and in tracing.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The list that comes of a server's own.
    fn apply(&self, own: &[TransportKind]) -> Vec<TransportKind> {
        let mut list: Vec<TransportKind> = Vec::with_capacity(own.len());
        for kind in self.first.iter().filter(|kind| own.contains(kind)).chain(own) {
            if !list.contains(kind) && !self.forbidden.contains(kind) {
                list.push(*kind);
            }
        }
        list
    }
}

/// The settings of sessions by what they are offered: there are only so many orders of three.
#[derive(Debug, Default)]
pub(super) struct Offers(Mutex<Vec<Arc<Config>>>);

impl Offers {
    fn config(&self, own: &Arc<Config>, transports: Vec<TransportKind>) -> Arc<Config> {
        if own.transports == transports {
            return Arc::clone(own);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.iter().find(|config| config.transports == transports) {
            return Arc::clone(config);
        }
        let config = Arc::new(Config { transports, ..Config::clone(own) });
        known.push(Arc::clone(&config));
        config
    }
}

impl Inner {
    /// Asks the policy, if there is one, what this client is offered: the settings of its session.
    ///
    /// # Errors
    /// With the close for a `hello` by a transport that it is not offered.
    pub(super) fn offer(
        &self,
        visitor: &Visitor,
        hello: &Hello,
        principal: Option<&Principal>,
    ) -> Result<Option<Arc<Config>>, Close> {
        let Some(policy) = &self.settings.policy else { return Ok(None) };
        let attempt = Attempt::new(&visitor.presented, hello.session, hello.auth.as_ref(), principal);
        let Ok(offer) = catch_unwind(AssertUnwindSafe(|| policy(&attempt))) else {
            // As with the authenticator: nobody is to lose a session by it.
            tracing::error!(session = %hello.session, "the policy panicked");
            return Err(Close::new(CloseCode::Overloaded, "the policy failed"));
        };
        let own = &self.settings.session;
        let offered = offer.apply(&own.transports);
        let reason = offer.reason.as_deref().unwrap_or("by the server's policy");
        if !offered.contains(&hello.transport) {
            tracing::debug!(session = %hello.session, transport = %hello.transport, reason, "not offered");
            let text = format!("{} is not offered to this client: {reason}", hello.transport);
            return Err(Close::new(CloseCode::NotAcceptable, text));
        }
        if offered != own.transports {
            tracing::debug!(session = %hello.session, ?offered, reason, "offered");
        }
        Ok(Some(self.offers.config(own, offered)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TransportKind::{LongPolling, Sse, WebSocket};

    #[test]
    fn an_offer_reorders_and_forbids_and_adds_nothing() {
        let own = [WebSocket, Sse];
        assert_eq!(Offer::usual().apply(&own), own);
        assert_eq!(Offer::usual().prefer([LongPolling, Sse, Sse]).apply(&own), [Sse, WebSocket]);
        assert_eq!(Offer::usual().forbid(WebSocket).apply(&own), [Sse]);
        assert_eq!(Offer::usual().prefer([WebSocket]).forbid(WebSocket).forbid(Sse).apply(&own), []);
    }

    #[test]
    fn sessions_that_are_offered_the_same_share_their_settings() {
        let (offers, own) = (Offers::default(), Arc::new(Config::default()));
        assert!(Arc::ptr_eq(&offers.config(&own, own.transports.clone()), &own));
        let one = offers.config(&own, vec![Sse]);
        assert!(Arc::ptr_eq(&one, &offers.config(&own, vec![Sse])));
        assert_eq!(one.transports, [Sse]);
    }
}
