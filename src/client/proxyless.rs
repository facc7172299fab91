//! What stands for proxies without the feature `proxy`: every server is dialled directly.

use http::Uri;

use super::ConnectError;
use super::connect::{Connector, LinkError, Purpose};
use super::link::Link;

/// What a builder says about proxies: nothing.
#[derive(Debug, Default)]
pub(super) struct Choice {}

impl Choice {
    pub(super) fn settle(&self) -> Result<Proxies, ConnectError> {
        Ok(Proxies {})
    }
}

/// Which proxy stands before which server.
#[derive(Debug, Default)]
pub(super) struct Proxies {}

impl Proxies {
    pub(super) async fn reach(
        &self,
        connector: &Connector,
        target: &Uri,
        _purpose: Purpose,
    ) -> Result<Link, LinkError> {
        connector.tcp(target).await
    }
}
