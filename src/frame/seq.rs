//! The numbers of the protocol: of messages and of attachments.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Deserializer, Serialize};

/// The largest number the protocol carries: the largest integer that a JavaScript number holds exactly.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The number of a message in its direction, or a cumulative receipt.
///
/// Messages count 1, 2, 3, … up to 2^53 - 1. [`Seq::ZERO`] is a receipt of nothing; as the number of
/// a message every decoder refuses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);
    /// The last number there is, 2^53 - 1.
    pub const MAX: Self = Self(MAX_NUMBER);

    /// Makes a number, or `None` beyond 2^53 - 1.
    pub const fn new(number: u64) -> Option<Self> {
        if number <= MAX_NUMBER { Some(Self(number)) } else { None }
    }

    /// The plain number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The number after this one, or `None` after the last.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0.saturating_add(1))
    }

    /// How many messages lie after `earlier` up to and including this one; 0 if none.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom("number beyond 2^53 - 1"))
    }
}

/// The number of an attachment: which `hello` of a session a transport belongs to.
///
/// The client gives it, each `hello` a higher one, from 1 to 2^53 - 1. Numbers decide which transport
/// carries the session; the order of arrival never does (`docs/PROTOCOL.md`, "Attachments").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Attachment(NonZeroU64);

impl Attachment {
    /// The number of a session's first `hello`.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Makes a number, or `None` for 0 and beyond 2^53 - 1.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) if number.get() <= MAX_NUMBER => Some(Self(number)),
            _ => None,
        }
    }

    /// The plain number.
    pub const fn value(self) -> u64 {
        self.0.get()
    }

    /// The number after this one, or `None` after the last.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.value().saturating_add(1))
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Attachment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom("attachment is 1 to 2^53 - 1"))
    }
}
