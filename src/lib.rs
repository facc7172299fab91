//! Realtime sessions that do not care what carries them.

pub mod frame;
pub mod session;
#[cfg(feature = "socket")]
pub mod transport;
