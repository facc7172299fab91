//! Realtime sessions that do not care what carries them.

pub mod frame;
#[cfg(feature = "socket")]
pub mod hub;
#[cfg(feature = "server")]
pub mod server;
pub mod session;
#[cfg(feature = "socket")]
#[allow(dead_code, unused_imports, reason = "what uses it comes next")]
pub mod socket;
#[cfg(feature = "socket")]
pub mod transport;

#[cfg(feature = "socket")]
pub use frame::{Body, Close, CloseCode, Message, SessionId, TransportKind};
#[cfg(feature = "socket")]
pub use hub::{Hub, Member, Room};
#[cfg(feature = "server")]
pub use server::Server;
#[cfg(feature = "socket")]
pub use socket::{Principal, Sender, Socket, State};
