//! The service over real sockets: raw requests against a real hyper server, and what comes back.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod dispatch;
mod plain;
mod raw;
mod sessions;
mod shutdown;
