//! Secrets and names that the server makes.

use crate::frame::{Close, CloseCode, Epoch, SessionId, SessionKey};

fn bytes<const N: usize>() -> Result<[u8; N], Close> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        Close::new(CloseCode::InternalError, "no random numbers")
    })?;
    Ok(bytes)
}

pub(super) fn epoch() -> Result<Epoch, Close> {
    bytes().map(Epoch::from_bytes)
}

/// The id and the key of a session whose client makes none.
pub(super) fn identity() -> Result<(SessionId, SessionKey), Close> {
    Ok((SessionId::from_bytes(bytes()?), SessionKey::from_bytes(bytes()?)))
}
