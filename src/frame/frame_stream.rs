//! Binary frames from a stream that is cut anywhere, as HTTP bodies are.

use bytes::{Buf as _, BytesMut};

use super::{DecodeError, Frame, Limits, Role, binary};

/// Decodes binary frames from a stream that may be cut anywhere.
///
/// Feed it what arrives and ask for frames until there is none. Where the stream was cut makes no
/// difference. It holds what was fed and not yet decoded, less than one frame after [`FrameStream::next`]
/// has returned `None`, and no frame is larger than a batch. With nothing to hold it holds no memory.
/// After an error it is at its end.
#[derive(Debug)]
pub struct FrameStream {
    buffer: BytesMut,
    from: Role,
    limits: Limits,
    ended: bool,
}

impl FrameStream {
    /// A decoder of what comes `from` this end.
    pub fn new(from: Role, limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), from, limits, ended: false }
    }

    /// Adds what came.
    pub fn feed(&mut self, chunk: &[u8]) {
        if !self.ended {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// The next frame, or `None` until more is fed. Frames of extensions are passed over.
    ///
    /// # Errors
    /// When the bytes are not frames of that end within the limits.
    #[expect(clippy::should_implement_trait, reason = "an iterator's `None` is its end; here more may come")]
    pub fn next(&mut self) -> Option<Result<Frame, DecodeError>> {
        if self.ended {
            return None;
        }
        let next = self.step().transpose();
        if matches!(next, Some(Err(_))) {
            self.ended = true;
            self.buffer = BytesMut::new();
        }
        next
    }

    fn step(&mut self) -> Result<Option<Frame>, DecodeError> {
        while let Some((frame, used)) = binary::first_frame(&self.buffer, &self.limits)? {
            let frame = binary::decode(frame, &self.limits)?;
            self.buffer.advance(used);
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            if let Some(frame) = frame {
                frame.check_sent_by(self.from)?;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// How many bytes it holds that are not decoded.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether all that was fed is decoded: a stream that ends otherwise was cut short.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { max_message_bytes: 8, max_batch_bytes: 16, max_batch_frames: 1 };

    #[test]
    fn a_stream_is_not_bounded_in_frames_and_holds_nothing_when_all_is_decoded() {
        let mut stream = FrameStream::new(Role::Server, SMALL);
        for _ in 0..100 {
            stream.feed(&[1, 9, 2]);
            assert!(matches!(stream.next(), Some(Ok(Frame::Ping(None)))));
            assert!(stream.next().is_none());
            assert_eq!(stream.len(), 1);
            stream.feed(&[9, 5]);
            assert!(matches!(stream.next(), Some(Ok(Frame::Ping(Some(5))))));
            assert_eq!(stream.buffer.capacity(), 0);
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_by_its_length_alone() {
        let mut stream = FrameStream::new(Role::Server, SMALL);
        stream.feed(&[16]);
        assert!(stream.next().is_none());
        let mut stream = FrameStream::new(Role::Server, SMALL);
        stream.feed(&[17]);
        assert!(matches!(stream.next(), Some(Err(DecodeError::TooLarge { what: "frame", limit: 16 }))));
    }

    #[test]
    fn a_frame_too_short_for_its_payload_is_refused_though_more_may_come() {
        let mut stream = FrameStream::new(Role::Server, SMALL);
        stream.feed(&[1, 8]);
        assert!(matches!(stream.next(), Some(Err(DecodeError::Truncated))));
    }

    #[test]
    fn after_an_error_it_takes_and_holds_nothing() {
        let mut stream = FrameStream::new(Role::Server, SMALL);
        stream.feed(&[1, 9, 3, 19, b'1', b' ', 1, 9]);
        assert!(matches!(stream.next(), Some(Ok(Frame::Ping(None)))));
        assert!(matches!(stream.next(), Some(Err(DecodeError::WrongDirection { frame: "auth" }))));
        stream.feed(&[1, 9]);
        assert!(stream.next().is_none());
        assert_eq!(stream.buffer.capacity(), 0);
    }
}
