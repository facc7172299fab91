//! Who is it? The application's answer, asked at every `hello` and for every fresh token.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, COOKIE, HeaderValue};
use http::{Extensions, HeaderMap, Method, Uri, request};

use crate::frame::{Close, CloseCode, Json, SessionId};
use crate::socket::{Identity, Principal};

use super::Inner;

/// Says who a client is.
///
/// It runs at every `hello`, before the session is looked up, and again when a client sends a fresh token. What it
/// returns must be the same principal each time a client comes back to a session: another one is refused.
///
/// A plain function will do that looks at the [`Attempt`] and returns a future that does not borrow it:
///
/// ```
/// use throughline::server::{Attempt, Denied, Grant, Server};
/// # async fn look_up(token: Option<String>) -> Option<String> { token }
/// # async fn handler(_: throughline::Socket, _: throughline::Hub) {}
///
/// let builder = Server::builder().authenticator(|attempt: &Attempt<'_>| {
///     let token = attempt.auth().and_then(|auth| auth.to::<String>().ok());
///     async move {
///         match look_up(token).await {
///             Some(name) => Ok(Grant::to(name)),
///             None => Err(Denied::Unauthorized("no valid token".into())),
///         }
///     }
/// });
/// # let _ = builder.serve(handler);
/// ```
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Judges an attempt. It has [`Builder::auth_deadline`](super::Builder::auth_deadline) to do so. If it takes
    /// longer, or panics, the client is told `overloaded` and comes back later.
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Grant, Denied>;
}

#[async_trait]
impl<F, R> Authenticator for F
where
    F: Fn(&Attempt<'_>) -> R + Send + Sync,
    R: Future<Output = Result<Grant, Denied>> + Send + 'static,
{
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Grant, Denied> {
        self(attempt).await
    }
}

/// What an [`Authenticator`] sees.
///
/// Where a request shows no sign that a page of this origin or of an allowed one made it, the credentials that a
/// browser adds by itself are left out of the headers: cookies, and `Authorization` of the schemes Basic, Digest,
/// Negotiate and NTLM. See [`Builder::allow_origin`](super::Builder::allow_origin).
#[derive(Debug)]
pub struct Attempt<'a> {
    request: &'a Presented,
    session: SessionId,
    auth: Option<&'a Json>,
    principal: Option<&'a Principal>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        request: &'a Presented,
        session: SessionId,
        auth: Option<&'a Json>,
        principal: Option<&'a Principal>,
    ) -> Self {
        Self { request, session, auth, principal }
    }

    /// The method of the request that brought the `hello`; of a fresh token, `GET`.
    pub fn method(&self) -> &'a Method {
        &self.request.method
    }

    /// Its URI; of a fresh token, `/`.
    pub fn uri(&self) -> &'a Uri {
        &self.request.uri
    }

    /// Its headers; of a fresh token, none.
    pub fn headers(&self) -> &'a HeaderMap {
        &self.request.headers
    }

    /// What layers before this one attached to the request: the address of the client, say.
    pub fn extensions(&self) -> &'a Extensions {
        &self.request.extensions
    }

    /// What the `hello` bears for the authenticator, or the fresh token.
    pub fn auth(&self) -> Option<&'a Json> {
        self.auth
    }

    /// The public id of the session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether a session that lives is asked about, for a fresh token: then there is no request, only
    /// [`Attempt::auth`] and [`Attempt::principal`]. Who grants by headers or cookies must grant here by those two.
    pub fn is_renewal(&self) -> bool {
        self.request.is_renewal
    }

    /// Of a fresh token: whose session it is. For a policy: who the authenticator says this is.
    pub fn principal(&self) -> Option<&'a Principal> {
        self.principal
    }
}

/// What an authenticator grants.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    principal: Option<Principal>,
    extensions: Extensions,
    expires: Option<Duration>,
}

impl Grant {
    /// To somebody by name.
    pub fn to(name: impl Into<std::sync::Arc<str>>) -> Self {
        Self { principal: Some(Principal::new(name)), ..Self::default() }
    }

    /// To somebody who has no name.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// For a time. When it is over without a fresh token, the session's transports end with `auth_expired`, and the
    /// client comes back with one.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires = Some(time);
        self
    }

    /// With something to keep for the session, one of each type: a role, a tenant, the address that the request came from.
    /// The handler has it as [`Socket::extension`](crate::Socket::extension), an authoriser as
    /// [`Visitor::extension`](crate::hub::Visitor::extension). What the first `hello` was granted stays for the session's
    /// life; later ones and fresh tokens change nothing in it.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.extensions.insert(value);
        self
    }

    pub(super) fn into_parts(self) -> (Identity, Option<Duration>) {
        let Self { principal, extensions, expires } = self;
        let extensions = (!extensions.is_empty()).then(|| Arc::new(extensions));
        (Identity { principal, extensions }, expires)
    }
}

/// Why an authenticator refuses. The reason goes to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// It is not known who this is: `unauthorized`, HTTP 401.
    #[error("unauthorized: {0}")]
    Unauthorized(Cow<'static, str>),
    /// It is known, and may not: `forbidden`, HTTP 403.
    #[error("forbidden: {0}")]
    Forbidden(Cow<'static, str>),
    /// It cannot be said just now: `overloaded`, HTTP 429. The client comes back later.
    #[error("unavailable: {0}")]
    Unavailable(Cow<'static, str>),
}

impl From<Denied> for Close {
    fn from(denied: Denied) -> Self {
        let (code, reason) = match denied {
            Denied::Unauthorized(reason) => (CloseCode::Unauthorized, reason),
            Denied::Forbidden(reason) => (CloseCode::Forbidden, reason),
            Denied::Unavailable(reason) => (CloseCode::Overloaded, reason),
        };
        Self::new(code, reason)
    }
}

/// What of a request an authenticator may see.
#[derive(Debug, Default)]
pub(super) struct Presented {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
    is_renewal: bool,
}

impl Presented {
    /// `ambient`: whether the credentials that a browser adds by itself count.
    pub(super) fn new(parts: request::Parts, ambient: bool) -> Self {
        let request::Parts { method, uri, mut headers, extensions, .. } = parts;
        if !ambient {
            headers.remove(COOKIE);
            if headers.get_all(AUTHORIZATION).iter().any(is_ambient) {
                headers.remove(AUTHORIZATION);
            }
        }
        Self { method, uri, headers, extensions, is_renewal: false }
    }
}

/// Whether a browser sends such credentials by itself.
fn is_ambient(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let scheme = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    [&b"basic"[..], b"digest", b"negotiate", b"ntlm"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

impl Inner {
    /// Asks the authenticator, if there is one, about a `hello`.
    pub(super) async fn authenticate(
        &self,
        request: &Presented,
        session: SessionId,
        auth: Option<&Json>,
    ) -> Result<Grant, Close> {
        self.ask(Attempt { request, session, auth, principal: None }).await
    }

    /// Asks the authenticator about a fresh token.
    pub(super) async fn authenticate_again(
        &self,
        session: SessionId,
        auth: &Json,
        principal: Option<&Principal>,
    ) -> Result<Grant, Close> {
        let request = Presented { is_renewal: true, ..Presented::default() };
        self.ask(Attempt { request: &request, session, auth: Some(auth), principal }).await
    }

    async fn ask(&self, attempt: Attempt<'_>) -> Result<Grant, Close> {
        let Some(authenticator) = &self.settings.authenticator else { return Ok(Grant::anonymous()) };
        let asked = caught(async { authenticator.authenticate(&attempt).await });
        match tokio::time::timeout(self.settings.auth_deadline, asked).await {
            Ok(Some(Ok(grant))) => Ok(grant),
            Ok(Some(Err(denied))) => {
                tracing::debug!(session = %attempt.session, %denied, "refused by the authenticator");
                Err(denied.into())
            }
            // Nobody is to lose a session by it: as with one that takes too long, it cannot be said just now.
            Ok(None) => {
                tracing::error!(session = %attempt.session, "the authenticator panicked");
                Err(Close::new(CloseCode::Overloaded, "the authenticator failed"))
            }
            Err(_) => {
                tracing::warn!(session = %attempt.session, "the authenticator takes too long");
                Err(Close::new(CloseCode::Overloaded, "the authenticator takes too long"))
            }
        }
    }
}

/// What a future comes to; none if it panics. What panicked is dropped and not looked at again.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(authorization: &str, ambient: bool) -> Presented {
        let request = http::Request::builder().header(COOKIE, "a=b").header(AUTHORIZATION, authorization);
        Presented::new(request.body(()).unwrap().into_parts().0, ambient)
    }

    #[test]
    fn credentials_that_a_browser_adds_are_hidden_unless_they_count() {
        for scheme in ["Basic dTpw", "basic dTpw", "Digest x", "Negotiate x", "NTLM x"] {
            let hidden = presented(scheme, false);
            assert!(!hidden.headers.contains_key(AUTHORIZATION), "{scheme}");
            assert!(!hidden.headers.contains_key(COOKIE));
            assert!(presented(scheme, true).headers.contains_key(AUTHORIZATION));
        }
        assert!(presented("Bearer abc", false).headers.contains_key(AUTHORIZATION));
        assert!(presented("Bearer abc", true).headers.contains_key(COOKIE));
    }
}
