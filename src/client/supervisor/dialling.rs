//! A transport on its way: first its token, then the connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use crate::client::dial::{DialError, Dialer, Dialled};
use crate::client::token::Freshness;
use crate::frame::{Json, SessionId};

use super::{Target, now};

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, DialError>> + Send>>;

/// A transport that is being dialled.
pub(super) struct Dialling {
    pub(super) target: Target,
    /// When that began. The time that a token takes is none of the transport's.
    pub(super) began: Instant,
    session: SessionId,
    stage: Stage,
}

enum Stage {
    Token(Freshness, Pending<Option<Json>>),
    Opening(Pending<Dialled>),
}

impl Dialling {
    pub(super) fn new(
        dialer: &Arc<Dialer>,
        session: SessionId,
        target: Target,
        freshness: Freshness,
    ) -> Self {
        let dialer = Arc::clone(dialer);
        let token = Box::pin(async move { dialer.token(freshness).await });
        Self { target, began: now(), session, stage: Stage::Token(freshness, token) }
    }

    /// What it comes to; `None` once, when the token is there and the transport begins to open.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        dialer: &Arc<Dialer>,
    ) -> Poll<Option<Result<Dialled, DialError>>> {
        match &mut self.stage {
            Stage::Opening(opening) => opening.as_mut().poll(cx).map(Some),
            Stage::Token(freshness, token) => Poll::Ready(match ready!(token.as_mut().poll(cx)) {
                Err(error) => Some(Err(error)),
                Ok(auth) => {
                    let (dialer, kind, session) = (Arc::clone(dialer), self.target.kind, self.session);
                    let freshness = *freshness;
                    let open = async move {
                        let transport = dialer.open(kind, session).await?;
                        Ok(Dialled { transport, auth, freshness })
                    };
                    (self.began, self.stage) = (now(), Stage::Opening(Box::pin(open)));
                    None
                }
            }),
        }
    }
}
