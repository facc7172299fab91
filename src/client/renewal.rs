//! A fresh token before the old one runs out, so that nothing need end for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::frame::{Json, SessionId};

use super::dial::{DialError, Dialer};
use super::token::Freshness;

/// The shortest time between two tokens, whatever the server says.
const AT_MOST_EACH: Duration = Duration::from_millis(100);

/// A token that runs out so soon is not asked for once more.
const SOON: Duration = Duration::from_secs(1);

/// When a token is replaced, and with what.
#[derive(Default)]
pub(super) enum Renewal {
    /// No token runs out, or its source had none: then the server says `auth_expired` in time.
    #[default]
    NotDue,
    /// Until then the token that there is will do, and when that runs out.
    Until(Pin<Box<Sleep>>, Instant),
    Fetching(Pin<Box<dyn Future<Output = Result<Option<Json>, DialError>> + Send>>, Instant),
}

impl Renewal {
    /// Notes that the server took a token, which runs out after so long if it says so: three quarters of it pass.
    pub(super) fn granted(&mut self, expires: Option<Duration>) {
        *self = match expires {
            Some(expires) => Self::until(Instant::now() + expires),
            None => Self::NotDue,
        };
    }

    fn until(runs_out: Instant) -> Self {
        let left = runs_out.saturating_duration_since(Instant::now());
        Self::Until(Box::pin(tokio::time::sleep((left / 4 * 3).max(AT_MOST_EACH))), runs_out)
    }

    /// The fresh token, once it is due and there; `None` if the old one has run out before its source had another, however often
    /// it was asked. Pending as well when none is due.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        dialer: &Arc<Dialer>,
        session: SessionId,
    ) -> Poll<Option<Json>> {
        loop {
            match self {
                Self::NotDue => return Poll::Pending,
                Self::Until(sleep, runs_out) => {
                    ready!(sleep.as_mut().poll(cx));
                    let (dialer, runs_out) = (Arc::clone(dialer), *runs_out);
                    let fetching = Box::pin(async move { dialer.token(Freshness::Fresh).await });
                    *self = Self::Fetching(fetching, runs_out);
                }
                Self::Fetching(fetching, runs_out) => {
                    let (fetched, runs_out) = (ready!(fetching.as_mut().poll(cx)), *runs_out);
                    *self = Self::NotDue;
                    match fetched {
                        Ok(Some(token)) => return Poll::Ready(Some(token)),
                        Ok(None) => {}
                        Err(error) => {
                            tracing::debug!(%session, reason = %error.reason, "no fresh token");
                            if Instant::now() + SOON >= runs_out {
                                return Poll::Ready(None);
                            }
                            *self = Self::until(runs_out);
                        }
                    }
                }
            }
        }
    }
}
