//! Where a client's credentials come from.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::frame::Json;
use crate::transport::BoxError;

/// How new a token must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Any that is still good: one that was kept will do.
    Any,
    /// A new one: the last is about to expire, or has.
    Fresh,
}

type Fetching = Pin<Box<dyn Future<Output = Result<Json, BoxError>> + Send>>;

/// Makes the `auth` of each `hello`.
#[derive(Clone)]
pub(super) struct TokenSource(Arc<dyn Fn(Freshness) -> Fetching + Send + Sync>);

impl TokenSource {
    pub(super) fn new<F, R>(source: F) -> Self
    where
        F: Fn(Freshness) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Json, BoxError>> + Send + 'static,
    {
        Self(Arc::new(move |freshness| Box::pin(source(freshness))))
    }

    pub(super) fn fetch(&self, freshness: Freshness) -> Fetching {
        (self.0)(freshness)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}
