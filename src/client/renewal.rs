//! A fresh token before the old one runs out, so that nothing need end for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::frame::{Json, SessionId};

use super::dial::{DialError, Dialer};
use super::token::Freshness;

/// The shortest time between two tokens, whatever the server says.
const AT_MOST_EACH: Duration = Duration::from_millis(100);

/// When a token is replaced, and with what.
#[derive(Default)]
pub(super) enum Renewal {
    /// No token runs out, or its source had none: then the server says `auth_expired` in time.
    #[default]
    NotDue,
    Until(Pin<Box<Sleep>>),
    Fetching(Pin<Box<dyn Future<Output = Result<Option<Json>, DialError>> + Send>>),
}

impl Renewal {
    /// Notes that the server took a token, which runs out after so long if it says so: three quarters of it pass.
    pub(super) fn granted(&mut self, expires: Option<Duration>) {
        *self = match expires {
            Some(expires) => Self::Until(Box::pin(tokio::time::sleep((expires / 4 * 3).max(AT_MOST_EACH)))),
            None => Self::NotDue,
        };
    }

    /// The fresh token, once it is due and there. Pending as well when none is due.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        dialer: &Arc<Dialer>,
        session: SessionId,
    ) -> Poll<Json> {
        loop {
            match self {
                Self::NotDue => return Poll::Pending,
                Self::Until(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    let dialer = Arc::clone(dialer);
                    *self = Self::Fetching(Box::pin(async move { dialer.token(Freshness::Fresh).await }));
                }
                Self::Fetching(fetching) => {
                    let fetched = ready!(fetching.as_mut().poll(cx));
                    *self = Self::NotDue;
                    match fetched {
                        Ok(Some(token)) => return Poll::Ready(token),
                        Ok(None) => {}
                        Err(error) => tracing::debug!(%session, reason = %error.reason, "no fresh token"),
                    }
                }
            }
        }
    }
}
