//! Secrets and names that the server makes.

use std::sync::{Mutex, PoisonError};

use crate::frame::{Close, CloseCode, Epoch, SessionId, SessionKey};

fn bytes<const N: usize>() -> Result<[u8; N], Close> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        Close::new(CloseCode::InternalError, "no random numbers")
    })?;
    Ok(bytes)
}

/// Random bytes for epochs, which are no secrets: asking the system costs more than all else about one.
static EPOCHS: Mutex<Vec<[u8; EPOCH]>> = Mutex::new(Vec::new());

const EPOCH: usize = 8;

pub(super) fn epoch() -> Result<Epoch, Close> {
    let mut epochs = EPOCHS.lock().unwrap_or_else(PoisonError::into_inner);
    if epochs.is_empty() {
        let fresh: [u8; 64 * EPOCH] = bytes()?;
        epochs.extend(fresh.chunks_exact(EPOCH).filter_map(|chunk| <[u8; EPOCH]>::try_from(chunk).ok()));
    }
    match epochs.pop() {
        Some(epoch) => Ok(Epoch::from_bytes(epoch)),
        None => bytes().map(Epoch::from_bytes),
    }
}

/// The id and the key of a session whose client makes none.
pub(super) fn identity() -> Result<(SessionId, SessionKey), Close> {
    Ok((SessionId::from_bytes(bytes()?), SessionKey::from_bytes(bytes()?)))
}
