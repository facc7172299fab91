//! What stands for TLS without the feature `tls`: URLs that need it are refused before anything is dialled.

use http::Uri;

use super::ConnectError;
use super::connect::{LinkError, Purpose};
use super::link::Link;

/// Whether `https://` and `wss://` can be dialled.
pub(super) const AVAILABLE: bool = false;

/// What a builder says about TLS: nothing.
#[derive(Debug, Default)]
pub(super) struct Settings {}

#[derive(Debug)]
pub(super) struct Tls {}

impl Tls {
    pub(super) fn new(_settings: &Settings) -> Result<Self, ConnectError> {
        Ok(Self {})
    }

    #[expect(clippy::unused_async, reason = "with TLS it waits")]
    pub(super) async fn wrap(&self, _link: Link, _to: &Uri, _purpose: Purpose) -> Result<Link, LinkError> {
        Err(LinkError::Unreached("TLS needs feature tls".into()))
    }
}
