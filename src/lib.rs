//! Realtime sessions that do not care what carries them.
//!
//! A client connects over WebSocket, server-sent events or long-polling, whichever the network lets through, and moves
//! between them while it runs. Both ends hold one `Socket` with `send` and `recv`; between two ends that live, each
//! message arrives once and in order, both ways, and where an end forgets, the other is told which messages are in doubt.
//!
//! - To serve, mount `Server::service`, a hyper and tower service for one URL, in any host;
//!   a handler gets each session's `Socket` and the `Hub` with its rooms.
//! - To connect, call `Client::connect`.
//! - To write a client in another language, or to look closer: `docs/PROTOCOL.md` in the repository is the wire,
//!   `docs/ARCHITECTURE.md` the house, and the modules here are its rooms.
//!
//! # Tracing
//!
//! With `socket` the crate tells what it does through [`tracing`](https://docs.rs/tracing), at targets that begin with
//! `throughline`; where nobody listens that costs a branch. A span at `debug`, named `attachment`, lasts as long as a
//! transport of a session does and has the fields `session` (the public id), `transport`, `role` (`client` or `server`) and
//! `attachment` (its number). What happens to a session are events at `debug` with the fields `session` and, where one
//! transport is concerned, `attachment`; what a transport meets are events at `trace` within its span. `warn` wants an
//! operator, `error` is a bug, here or in the host. Bodies, keys and tokens are in none of them.
//!
//! # Features
//!
//! `server` and `client` are on by default and bring `socket`, which is what both share. Without any of them the crate
//! is its core: [`frame`], [`session`] and [`room`], without I/O or a runtime. `testing` adds a rough network in a box,
//! for the tests of what is built on this.

#[cfg(feature = "client")]
pub mod client;
pub mod frame;
#[cfg(feature = "socket")]
pub mod hub;
pub mod room;
#[cfg(feature = "server")]
pub mod server;
pub mod session;
#[cfg(feature = "socket")]
#[cfg_attr(
    not(all(feature = "client", feature = "server")),
    expect(dead_code, reason = "each side uses its own part of what drives sockets")
)]
pub mod socket;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "socket")]
pub mod transport;
#[cfg(feature = "ts")]
pub mod ts;

#[cfg(feature = "client")]
pub use client::{Client, ConnectError, Freshness, Rooms};
#[cfg(feature = "socket")]
pub use frame::{Body, Close, CloseCode, Message, SessionId, TransportKind};
#[cfg(feature = "socket")]
pub use hub::{Hub, Live, Member, Room};
#[cfg(feature = "server")]
pub use server::Server;
#[cfg(feature = "socket")]
pub use socket::{Principal, Sender, Socket, State};

/// The examples of the README, compiled as tests.
#[cfg(all(doctest, feature = "client", feature = "server"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
