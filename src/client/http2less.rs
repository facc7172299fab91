//! What stands for HTTP/2 without the feature `http2`: it is not offered, so no server agrees on it.

use std::convert::Infallible;

use http::{Request, Response};

use crate::transport::BoxError;

use super::link::{Link, Stream};

/// What came of a wish for a WebSocket.
#[derive(Debug)]
#[expect(dead_code, reason = "nothing is asked without the feature")]
pub(super) enum Asked {
    Opened(Link),
    Refused(Response<Option<Vec<u8>>>),
    NotAllowed,
}

/// The tasks of a connection: there are none.
pub(super) type Tasks = Infallible;

#[expect(clippy::unused_async, reason = "with HTTP/2 it waits")]
pub(super) async fn ask_websocket(_stream: Stream, _request: Request<()>) -> Result<Asked, BoxError> {
    Ok(Asked::NotAllowed)
}
