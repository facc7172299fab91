//! The batch that is being filled: what was fed to a transport and has not left yet.
//!
//! It owns the rule that keeps a batch within the peer's limits: it counts as full so early that the largest
//! message still fits behind what it holds. A transport is ready while its outbox is not full.

use std::cell::Cell;
use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::frame::{BatchWriter, Encoding, Frame, Limits};

/// Beyond so many buffered bytes a transport is not ready: more in one write gains nothing.
pub(super) const BUFFERED: usize = 64 << 10;

/// What a message needs in a batch besides its body: tag, two numbers of 16 digits, brackets, a newline.
const OVERHEAD: usize = 64;

/// What it holds may be secret, so it is not shown.
impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("encoding", &self.encoding())
            .field("frames", &self.writer.frames())
            .field("bytes", &self.writer.len())
            .finish()
    }
}

/// From where on a batch counts as full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brim {
    bytes: usize,
    frames: usize,
}

impl Brim {
    pub(super) fn of(encoding: Encoding, limits: &Limits) -> Self {
        let largest = match encoding {
            // Base64 makes four bytes of three.
            Encoding::Json => limits.max_message_bytes.saturating_add(limits.max_message_bytes / 3),
            Encoding::Binary => limits.max_message_bytes,
        };
        let room = limits.max_batch_bytes.saturating_sub(largest.saturating_add(OVERHEAD));
        Self { bytes: room.min(BUFFERED), frames: limits.max_batch_frames }
    }

    /// Whether a batch of so many frames in so many bytes is full. An empty one never is.
    #[inline]
    pub(super) fn is_reached(self, bytes: usize, frames: usize) -> bool {
        frames > 0 && (bytes >= self.bytes || frames >= self.frames)
    }
}

/// So much room is kept for the batches of a thread.
const ROOM_KEPT: usize = 32 << 10;

thread_local! {
    /// Where all of a thread put batches together that leave at once. Taken while one is filled.
    static ROOM: Cell<BytesMut> = Cell::default();
}

/// A batch that is being filled.
pub(super) struct Outbox {
    writer: BatchWriter,
    brim: Brim,
}

impl Outbox {
    pub(super) fn new(encoding: Encoding, limits: &Limits) -> Self {
        Self { writer: BatchWriter::new(encoding), brim: Brim::of(encoding, limits) }
    }

    /// Puts its batches together in the room of its thread, with room before each for what a transport writes there.
    pub(super) fn in_shared_room(mut self, headroom: usize) -> Self {
        self.writer.set_headroom(headroom);
        self
    }

    /// Whether it is filled in the room of its thread, which is in the cache, and takes none of its own for longer than a
    /// batch: what leaves room for a header leaves at once.
    #[inline]
    fn shares(&self) -> bool {
        self.writer.headroom() > 0
    }

    /// The encoding.
    #[inline]
    pub(super) fn encoding(&self) -> Encoding {
        self.writer.encoding()
    }

    /// Goes on in another encoding. Nothing may be in the batch.
    pub(super) fn set_encoding(&mut self, encoding: Encoding, limits: &Limits) {
        if encoding != self.encoding() && self.is_empty() {
            *self = Self::new(encoding, limits).in_shared_room(self.writer.headroom());
        }
    }

    /// Keeps batches within the limits, and within what the peer says it takes.
    pub(super) fn lower_limits(&mut self, limits: &Limits, max_message_bytes: u64, max_batch_bytes: u64) {
        let lower = |limit: usize, peer: u64| usize::try_from(peer).map_or(limit, |peer| limit.min(peer));
        let lowered = Limits {
            max_message_bytes: lower(limits.max_message_bytes, max_message_bytes),
            max_batch_bytes: lower(limits.max_batch_bytes, max_batch_bytes),
            ..*limits
        };
        self.brim = Brim::of(self.encoding(), &lowered);
    }

    #[inline]
    pub(super) fn push(&mut self, frame: &Frame) {
        if self.shares() && self.is_empty() {
            self.writer.swap_room(ROOM.take());
        }
        self.writer.push(frame);
    }

    /// Whether nothing more may be fed before this batch was taken.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.brim.is_reached(self.writer.len(), self.writer.frames())
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.writer.is_empty()
    }

    /// Takes the batch, if there is one; the next begins empty.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        let batch = self.writer.take();
        if self.shares() {
            // It may wait for long: its room goes with it.
            self.writer.swap_room(BytesMut::new());
        }
        Some(batch)
    }

    /// How many bytes the batch has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.writer.len()
    }

    /// The batch behind its headroom.
    #[inline]
    pub(super) fn framed(&mut self) -> &mut [u8] {
        self.writer.framed()
    }

    /// The batch has left: the next begins empty.
    #[inline]
    pub(super) fn begin_anew(&mut self) {
        self.writer.begin_anew();
        if self.shares() {
            let room = self.writer.swap_room(BytesMut::new());
            if room.capacity() <= ROOM_KEPT {
                ROOM.set(room);
            }
        }
    }

    /// Gives spare memory back.
    pub(super) fn shrink(&mut self) {
        self.writer.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Body, Message, MessageKind, Seq};

    fn message(bytes: usize) -> Frame {
        Frame::Message(Message { seq: Seq::MAX, kind: MessageKind::Plain, body: Body::from(vec![7; bytes]) })
    }

    #[test]
    fn a_batch_that_was_not_full_takes_the_largest_message_within_the_limits() {
        for encoding in [Encoding::Json, Encoding::Binary] {
            for limits in [
                Limits::default(),
                Limits { max_message_bytes: 1000, max_batch_bytes: 2000, max_batch_frames: 5 },
            ] {
                let mut outbox = Outbox::new(encoding, &limits);
                while !outbox.is_full() {
                    outbox.push(&message(40));
                }
                let frames = outbox.writer.frames();
                assert!(frames <= limits.max_batch_frames);
                outbox.take();
                for _ in 1..frames {
                    outbox.push(&message(40));
                }
                assert!(!outbox.is_full());
                outbox.push(&message(limits.max_message_bytes));
                assert!(outbox.take().unwrap().len() <= limits.max_batch_bytes);
            }
        }
    }

    #[test]
    fn batches_in_the_room_of_their_thread_never_meet() {
        let make = || Outbox::new(Encoding::Binary, &Limits::default()).in_shared_room(4);
        let (mut one, mut other) = (make(), make());
        let whole = |frame: &Frame| {
            let mut alone = Outbox::new(Encoding::Binary, &Limits::default());
            alone.push(frame);
            alone.take().unwrap()
        };
        for bytes in [10, 100, ROOM_KEPT, 10] {
            let (short, long) = (message(bytes), message(2 * bytes));
            one.push(&short);
            // While one is being filled another is: each has its own.
            other.push(&long);
            assert_eq!(one.framed()[4..], whole(&short)[..]);
            assert_eq!(other.framed()[4..], whole(&long)[..]);
            one.begin_anew();
            // What waits for room keeps what it is in.
            let waits = other.take().unwrap();
            one.push(&short);
            other.push(&short);
            assert_eq!(waits, whole(&long));
            one.begin_anew();
            other.begin_anew();
            assert!(one.is_empty() && other.is_empty() && one.framed().is_empty());
        }
    }

    #[test]
    fn one_frame_always_fits() {
        let limits = Limits { max_message_bytes: 1000, max_batch_bytes: 100, max_batch_frames: 5 };
        let mut outbox = Outbox::new(Encoding::Json, &limits);
        assert!(!outbox.is_full());
        outbox.push(&Frame::Ping(None));
        assert!(outbox.is_full());
        assert!(outbox.take().is_some());
        assert!(outbox.take().is_none());
    }

    #[test]
    fn the_peers_lower_limit_counts() {
        let mut outbox = Outbox::new(Encoding::Binary, &Limits::default());
        outbox.lower_limits(&Limits::default(), 1 << 60, 1000);
        outbox.push(&message(10));
        assert!(outbox.is_full());
    }
}
