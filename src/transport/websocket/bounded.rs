//! A byte stream that bounds what one WebSocket message may cost a client to receive.
//!
//! tungstenite bounds the bytes of a message but not its pieces: of empty continuation fragments it takes any
//! number, and yields nothing meanwhile. Here the bytes read since the last message are counted, headers
//! included, so that a message in absurdly many pieces ends the transport.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::carrier::pieces_bound;

/// The longest header of a WebSocket frame (RFC 6455, section 5.2).
const HEADER: usize = 14;

/// A stream that fails once too much was read without a message coming of it.
#[derive(Debug)]
pub(in crate::transport) struct Bounded<S> {
    inner: S,
    read: usize,
    most: usize,
}

impl<S> Bounded<S> {
    /// Wraps a stream on which messages are at most `max_message` bytes.
    pub(super) fn new(inner: S, max_message: usize) -> Self {
        Self { inner, read: 0, most: pieces_bound(max_message) }
    }

    /// How many bytes were read since the last message.
    pub(super) fn unfinished(&self) -> usize {
        self.read
    }

    #[cfg(test)]
    pub(super) fn get_ref(&self) -> &S {
        &self.inner
    }

    /// A message has come of what was read.
    #[inline]
    pub(super) fn message(&mut self) {
        self.read = 0;
    }

    /// A control frame has come in between.
    pub(super) fn control(&mut self, payload: usize) {
        self.read = self.read.saturating_sub(payload.saturating_add(HEADER));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read > self.most {
            return Poll::Ready(Err(io::Error::other("a WebSocket message in too many pieces")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.read = self.read.saturating_add(buf.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
