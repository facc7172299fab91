//! The `text/event-stream` format: a [`Writer`] and a [`Parser`].
//!
//! Both follow the WHATWG HTML standard, section 9.2 (server-sent events). A batch of JSON frames is one event,
//! each frame a `data` line: the format joins such lines with newlines, which makes the data of the event
//! the batch again. It implements `docs/PROTOCOL.md`, "Transports".

mod parser;
#[cfg(test)]
mod tests;
mod writer;

pub use parser::{Event, Parser};
pub use writer::Writer;
