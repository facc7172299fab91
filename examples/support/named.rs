//! Who one is in the examples that ask: whoever says a name is believed, which is enough for an example.

use throughline::frame::Json;
use throughline::server::Attempt;
use throughline::{Client, Socket};

/// The name that a client says, in place of a token.
pub(crate) fn said(attempt: &Attempt<'_>) -> Option<String> {
    attempt.auth().and_then(|token| token.to().ok())
}

/// Connects under a name.
pub(crate) async fn connect(url: &str, name: &str) -> Result<Socket, Box<dyn std::error::Error>> {
    let token = Json::of(name)?;
    let client = Client::builder(url).token(move |_| std::future::ready(Ok(token.clone())));
    Ok(client.connect().await?)
}
