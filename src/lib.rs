//! Realtime sessions that do not care what carries them.

#[cfg(feature = "client")]
pub mod client;
pub mod frame;
#[cfg(feature = "socket")]
pub mod hub;
#[cfg(feature = "server")]
pub mod server;
pub mod session;
#[cfg(feature = "socket")]
#[cfg_attr(
    not(all(feature = "client", feature = "server")),
    expect(dead_code, reason = "each side uses its own part of what drives sockets")
)]
pub mod socket;
#[cfg(feature = "socket")]
pub mod transport;

#[cfg(feature = "client")]
pub use client::{Client, ConnectError, Freshness};
#[cfg(feature = "socket")]
pub use frame::{Body, Close, CloseCode, Message, SessionId, TransportKind};
#[cfg(feature = "socket")]
pub use hub::{Hub, Member, Room};
#[cfg(feature = "server")]
pub use server::Server;
#[cfg(feature = "socket")]
pub use socket::{Principal, Sender, Socket, State};
