//! When a server's settings are known.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::sync::oneshot;

use crate::client::link::Stream;

/// The head of a frame: its length in three bytes, and more (RFC 9113, section 4.1).
const HEAD: usize = 9;

/// A connection that tells when the server's first frame was taken in, which is its SETTINGS (RFC 9113, section 3.4).
///
/// hyper knows whether they came, but does not say: whoever asks too early hears that extended CONNECT is not allowed.
pub(super) struct Preface {
    stream: Stream,
    head: Vec<u8>,
    taken: usize,
    settled: Option<oneshot::Sender<()>>,
}

impl Preface {
    pub(super) fn new(stream: Stream) -> (Self, oneshot::Receiver<()>) {
        let (settled, told) = oneshot::channel();
        (Self { stream, head: Vec::new(), taken: 0, settled: Some(settled) }, told)
    }

    /// Counts what was read.
    fn took(&mut self, bytes: &[u8]) {
        self.taken += bytes.len();
        let wanted = HEAD.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(wanted));
    }

    fn has_settings(&self) -> bool {
        match self.head[..] {
            [a, b, c, ..] if self.head.len() == HEAD => {
                let length = u32::from_be_bytes([0, a, b, c]);
                self.taken - HEAD >= usize::try_from(length).unwrap_or(usize::MAX)
            }
            _ => false,
        }
    }
}

impl Read for Preface {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.settled.is_none() {
            return Pin::new(&mut this.stream).poll_read(cx, cursor);
        }
        // Who reads on has taken in what was read before.
        if this.has_settings() {
            if let Some(settled) = this.settled.take() {
                // Nobody may wait any more.
                let _ = settled.send(());
            }
            return Pin::new(&mut this.stream).poll_read(cx, cursor);
        }
        let mut bytes = [0; 256];
        let room = cursor.remaining().min(bytes.len());
        let mut buffer = ReadBuf::new(&mut bytes[..room]);
        std::task::ready!(Pin::new(this.stream.inner_mut()).poll_read(cx, &mut buffer))?;
        this.took(buffer.filled());
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Preface {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::client::link::{Link, Protocol};

    #[tokio::test]
    async fn settings_are_known_when_their_last_byte_was_read_and_more_is_asked_for() {
        // SETTINGS with one setting, and the head of a frame behind it.
        let frames = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 4];
        for split in 1..=frames.len() {
            let (near, mut far) = tokio::io::duplex(64);
            let (preface, mut settled) = Preface::new(TokioIo::new(Link::new(near, Protocol::Http2)));
            let (mut preface, mut read) = (TokioIo::new(preface), 0);
            let (first, rest) = frames.split_at(split);
            for piece in [first, rest].into_iter().filter(|piece| !piece.is_empty()) {
                far.write_all(piece).await.unwrap();
                let before = read;
                let mut bytes = [0; 64];
                let mut buffer = ReadBuf::new(&mut bytes);
                poll_fn(|cx| Pin::new(&mut preface).poll_read(cx, &mut buffer)).await.unwrap();
                read += buffer.filled().len();
                assert_eq!(
                    settled.try_recv().is_ok(),
                    before >= 15,
                    "{split}: {before} bytes were read before"
                );
                if before >= 15 {
                    break;
                }
            }
        }
    }
}
