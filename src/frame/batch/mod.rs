//! Batches: how frames stand together in a WebSocket message, an HTTP body, or an event.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{Body, DecodeError, Frame, Role, binary, json};

/// The two encodings of the same frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// For people and devtools: one JSON array per frame, joined by a newline.
    Json,
    /// For speed: a varint length and a type byte per frame, back to back.
    Binary,
}

/// What a decoder takes at most. Beyond it, it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body of a message, in bytes. Default: 512 KiB, which with base64 fits a batch.
    pub max_message_bytes: usize,
    /// The largest batch, in bytes. Default: 960 KiB, under the 1 MiB from which common proxies answer 413.
    pub max_batch_bytes: usize,
    /// The most frames in a batch. Default: 1024.
    pub max_batch_frames: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_bytes: 512 << 10, max_batch_bytes: 960 << 10, max_batch_frames: 1024 }
    }
}

/// The frames of one batch, decoded one after the other: an iterator that ends after an error.
///
/// Bodies are copied out: a frame never pins the batch. Frames of extensions are passed over, but count.
/// An empty batch has no frames.
#[derive(Debug)]
pub struct Batch {
    rest: Bytes,
    encoding: Encoding,
    from: Role,
    limits: Limits,
    frames: usize,
    /// Whether a frame must come: there are bytes, or a newline was the last of them.
    more: bool,
}

impl Batch {
    /// Begins to decode a batch that came `from` this end.
    ///
    /// # Errors
    /// When it is larger than `limits.max_batch_bytes`.
    pub fn new(bytes: Bytes, encoding: Encoding, from: Role, limits: Limits) -> Result<Self, DecodeError> {
        if bytes.len() > limits.max_batch_bytes {
            return Err(DecodeError::TooLarge { what: "batch", limit: limits.max_batch_bytes });
        }
        let more = !bytes.is_empty();
        Ok(Self { rest: bytes, encoding, from, limits, frames: 0, more })
    }

    /// What is not decoded yet.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// Decodes the next frame, of an extension or not.
    #[inline]
    fn step(&mut self) -> Result<Option<Frame>, DecodeError> {
        if self.frames >= self.limits.max_batch_frames {
            return Err(DecodeError::TooMany { what: "frames", limit: self.limits.max_batch_frames });
        }
        self.frames = self.frames.saturating_add(1);
        let (frame, used) = match self.encoding {
            Encoding::Json => {
                let end = memchr::memchr(b'\n', &self.rest);
                self.more = end.is_some();
                let line = self.rest.get(..end.unwrap_or(self.rest.len())).unwrap_or_default();
                let used = line.len().saturating_add(usize::from(end.is_some()));
                (json::decode(line, &self.limits)?, used)
            }
            Encoding::Binary => {
                let (frame, used) =
                    binary::first_frame(&self.rest, &self.limits)?.ok_or(DecodeError::Truncated)?;
                self.more = used < self.rest.len();
                (binary::decode(frame, &self.limits)?, used)
            }
        };
        self.rest.advance(used);
        frame.as_ref().map_or(Ok(()), |frame| frame.check_sent_by(self.from))?;
        Ok(frame)
    }
}

impl Iterator for Batch {
    type Item = Result<Frame, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.more {
            match self.step() {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => {}
                Err(error) => {
                    self.more = false;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl std::iter::FusedIterator for Batch {}

/// The most room that a writer keeps for what it writes next.
const KEPT: usize = 4 << 10;

/// Takes what was written. What is large goes with its room: otherwise one large message would leave its weight behind
/// for as long as the writer lives.
pub(super) fn hand_out(buffer: &mut BytesMut) -> Bytes {
    if buffer.len() > KEPT { std::mem::take(buffer).freeze() } else { buffer.split().freeze() }
}

/// Builds batches: frames in, one run of bytes out.
#[derive(Debug)]
pub struct BatchWriter {
    encoding: Encoding,
    /// The headroom, if there is a frame, and the batch.
    buffer: BytesMut,
    frames: usize,
    headroom: u8,
}

impl BatchWriter {
    /// An empty batch.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, buffer: BytesMut::new(), frames: 0, headroom: 0 }
    }
}

/// For transports, which the core is built without.
#[cfg(feature = "socket")]
impl BatchWriter {
    /// Leaves room before each batch, at most 16 bytes, for what a transport writes there. Before the first frame only.
    pub(crate) fn set_headroom(&mut self, bytes: usize) {
        self.headroom = u8::try_from(bytes).unwrap_or(16).min(16);
    }

    /// How much room that is.
    pub(crate) fn headroom(&self) -> usize {
        usize::from(self.headroom)
    }

    /// The batch behind its headroom.
    #[inline]
    pub(crate) fn framed(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Begins the next batch, in the same room.
    #[inline]
    pub(crate) fn begin_anew(&mut self) {
        self.buffer.clear();
        self.frames = 0;
    }

    /// Gives the next batch this room, and returns the one before. Only while there is no frame.
    #[inline]
    pub(crate) fn swap_room(&mut self, room: BytesMut) -> BytesMut {
        std::mem::replace(&mut self.buffer, room)
    }
}

impl BatchWriter {
    /// Adds a frame.
    ///
    /// Numbers beyond [`MAX_NUMBER`](super::MAX_NUMBER) are said as that, a reason beyond
    /// [`Close::MAX_REASON`](super::Close::MAX_REASON) is cut, and a failure with a binary body is said with
    /// `null`: no decoder takes what they were.
    pub fn push(&mut self, frame: &Frame) {
        if self.frames == 0 && self.headroom > 0 {
            self.buffer.resize(usize::from(self.headroom), 0);
        }
        match self.encoding {
            Encoding::Json => {
                if self.frames != 0 {
                    self.buffer.extend_from_slice(b"\n");
                }
                json::encode(frame, &mut self.buffer);
            }
            Encoding::Binary => binary::encode(frame, &mut self.buffer),
        }
        self.frames = self.frames.saturating_add(1);
    }

    /// Whether a message with this body fits the batch within the peer's `limits`. Any message within
    /// `max_message_bytes` fits an empty batch of the default limits.
    pub fn has_room_for(&self, body: &Body, limits: &Limits) -> bool {
        Self::fits(self.encoding, self.frames, self.len(), body, limits)
    }

    /// Whether a message with this body fits behind so many frames of so many bytes.
    pub(super) fn fits(
        encoding: Encoding,
        frames: usize,
        bytes: usize,
        body: &Body,
        limits: &Limits,
    ) -> bool {
        /// More than what any message has around its body.
        const MOST_AROUND: usize = 64;
        let text = match (encoding, body) {
            (Encoding::Json, Body::Binary(bytes)) => data_encoding::BASE64.encode_len(bytes.len()),
            _ => body.len(),
        };
        frames < limits.max_batch_frames
            && bytes.saturating_add(text).saturating_add(MOST_AROUND) <= limits.max_batch_bytes
    }

    /// The encoding.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How many bytes the batch has.
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_sub(usize::from(self.headroom))
    }

    /// Whether no frame was added.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// How many frames the batch has.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Takes the batch; the next begins empty.
    pub fn take(&mut self) -> Bytes {
        self.frames = 0;
        let mut batch = hand_out(&mut self.buffer);
        batch.advance(usize::from(self.headroom).min(batch.len()));
        batch
    }

    /// Gives spare memory back.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests;
