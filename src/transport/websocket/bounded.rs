//! A byte stream that bounds what one WebSocket message may cost to receive, and knows when tungstenite holds nothing.
//!
//! tungstenite bounds the bytes of a message but not its pieces: of empty continuation fragments it takes any
//! number, and yields nothing meanwhile. Here the bytes read since the last message are counted, headers
//! included, so that a message in absurdly many pieces ends the transport.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::boundary::Boundary;
use super::carrier::pieces_bound;

/// The longest header of a WebSocket frame (RFC 6455, section 5.2).
const HEADER: usize = 14;

/// A stream that fails once too much was read without a message coming of it.
#[derive(Debug)]
pub(in crate::transport) struct Bounded<S> {
    /// None once it was moved elsewhere.
    inner: Option<S>,
    read: usize,
    most: usize,
    boundary: Boundary,
    /// Whether all was read that there is, and all was written that was to be.
    drained: bool,
    blocked: bool,
}

fn moved() -> io::Error {
    io::Error::other("the stream was moved")
}

impl<S> Bounded<S> {
    /// Wraps a stream on which messages are at most `max_message` bytes.
    pub(super) fn new(inner: S, max_message: usize) -> Self {
        let most = pieces_bound(max_message);
        Self {
            inner: Some(inner),
            read: 0,
            most,
            boundary: Boundary::default(),
            drained: false,
            blocked: false,
        }
    }

    /// How many bytes were read since the last message.
    pub(super) fn unfinished(&self) -> usize {
        self.read
    }

    #[cfg(test)]
    pub(super) fn get_ref(&self) -> &S {
        self.inner.as_ref().unwrap()
    }

    /// Moves the stream to another one, if no part of a message was read and nothing that was written waits.
    pub(super) fn take_between_messages(&mut self) -> Option<Self> {
        if !self.boundary.is_reached() || !self.drained || self.blocked {
            return None;
        }
        let (inner, most) = (Some(self.inner.take()?), self.most);
        Some(Self { inner, read: 0, most, boundary: Boundary::default(), drained: false, blocked: false })
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
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(moved())) };
        let polled = Pin::new(inner).poll_read(cx, buf);
        let read = buf.filled().get(before..).unwrap_or_default();
        self.read = self.read.saturating_add(read.len());
        self.drained = polled.is_pending();
        self.boundary.pass(read);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(moved())) };
        let polled = Pin::new(inner).poll_write(cx, buf);
        self.blocked = polled.is_pending();
        polled
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(moved())) };
        Pin::new(inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(moved())) };
        Pin::new(inner).poll_shutdown(cx)
    }
}
