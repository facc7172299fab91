//! How a room is kept.

use std::time::Duration;

use crate::frame::Window;

/// What becomes of a member whose backlog is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slow {
    /// Its session is ended with `slow_consumer`.
    #[default]
    End,
    /// What has waited longest is left out; the member is told how much before the next message.
    DropOldest,
    /// The same, and besides, a message with a key takes the place of an older one with that key as soon as it waits.
    Conflate,
}

/// How much of what was said is kept. Each of the three bounds holds; zero of any keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Messages.
    pub messages: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
    /// How long each is kept. So long a room outlives its last member, too.
    pub age: Duration,
}

/// How a room is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// What is kept of what was said. Default: nothing.
    pub history: Keep,
    /// Whether members are told of each other. Default: they are, if they ask for it.
    pub presence: bool,
    /// What becomes of a member whose backlog is full. Default: its session is ended.
    pub slow: Slow,
    /// How much may wait for a member whose send buffer is full, besides what it is told again on joining.
    /// Default: 256 messages and 1 MiB. Zero messages: a full send buffer is a full backlog.
    pub backlog: Window,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            history: Keep::default(),
            presence: true,
            slow: Slow::End,
            backlog: Window { messages: 256, bytes: 1 << 20 },
        }
    }
}

impl Keep {
    /// Whether anything is kept.
    pub(super) fn keeps(&self) -> bool {
        self.messages > 0 && self.bytes > 0 && !self.age.is_zero()
    }
}
