//! Transports written with plain async functions.
//!
//! A carrier that somebody else brings needs no poll functions: it brings a reader and a writer, and [`Adapted`]
//! makes a [`Transport`] of the two. They are two so that a blocked write never stops reads.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;

use super::{Received, Transport, TransportError};
use crate::frame::{Frame, TransportKind};

/// How many frames one batch has at most.
const FRAMES: usize = 256;

/// The reading half of a carrier.
#[async_trait]
pub trait Reader: Send + 'static {
    /// Receives the next frame.
    ///
    /// # Cancel safety
    /// It need not be cancel safe: the future is dropped only with the whole transport.
    ///
    /// # Errors
    /// When the carrier has ended. It is not called again then.
    async fn recv(&mut self) -> Result<Frame, TransportError>;
}

/// The writing half of a carrier.
#[async_trait]
pub trait Writer: Send + 'static {
    /// Writes all that was fed since the last call, in order, and flushes. There are at most 256 frames.
    ///
    /// # Cancel safety
    /// It need not be cancel safe: the future is dropped only with the whole transport.
    ///
    /// # Errors
    /// When the carrier has ended. It is not called again then.
    async fn send(&mut self, frames: &[Frame]) -> Result<(), TransportError>;

    /// Ends the carrier in order. By default it does nothing: dropping is enough.
    ///
    /// # Errors
    /// When the carrier ended before all was written.
    async fn close(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}

/// A transport made of a reader and a writer.
///
/// # Examples
///
/// A carrier over two channels:
///
/// ```
/// use async_trait::async_trait;
/// use std::future::poll_fn;
/// use throughline::frame::{Frame, TransportKind};
/// use throughline::transport::{Adapted, Reader, Received, Transport, TransportError, Writer};
/// use tokio::sync::mpsc;
///
/// struct Inlet(mpsc::Receiver<Frame>);
/// struct Outlet(mpsc::Sender<Frame>);
///
/// #[async_trait]
/// impl Reader for Inlet {
///     async fn recv(&mut self) -> Result<Frame, TransportError> {
///         self.0.recv().await.ok_or(TransportError::Ended)
///     }
/// }
///
/// #[async_trait]
/// impl Writer for Outlet {
///     async fn send(&mut self, frames: &[Frame]) -> Result<(), TransportError> {
///         for frame in frames {
///             self.0.send(frame.clone()).await.map_err(|_| TransportError::Ended)?;
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TransportError> {
/// let (to, from) = mpsc::channel(8);
/// let mut transport = Adapted::new(TransportKind::WebSocket, Inlet(from), Outlet(to));
/// poll_fn(|cx| transport.poll_ready(cx)).await?;
/// transport.start_send(&Frame::Ping(None));
/// poll_fn(|cx| transport.poll_flush(cx)).await?;
/// let received = poll_fn(|cx| transport.poll_recv(cx)).await?;
/// assert!(matches!(received, Received::Frame(Frame::Ping(None))));
/// # Ok(())
/// # }
/// ```
pub struct Adapted<R, W> {
    kind: TransportKind,
    reading: Reading<R>,
    writing: Writing<W>,
    /// What was fed and not yet given to the writer.
    fed: Vec<Frame>,
    closed: bool,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The writer, the frames that it wrote, and how that went.
type Written<W> = (Box<W>, Vec<Frame>, Result<(), TransportError>);

enum Reading<R> {
    Idle(Box<R>),
    Busy(Boxed<(Box<R>, Result<Frame, TransportError>)>),
    Over,
}

enum Writing<W> {
    Idle(Box<W>),
    /// The frames come back so that their memory is used again.
    Busy(Boxed<Written<W>>),
    Over,
}

impl<R: Reader, W: Writer> Adapted<R, W> {
    /// A transport that stands in for this kind.
    pub fn new(kind: TransportKind, reader: R, writer: W) -> Self {
        Self {
            kind,
            reading: Reading::Idle(Box::new(reader)),
            writing: Writing::Idle(Box::new(writer)),
            fed: Vec::new(),
            closed: false,
        }
    }

    fn end(&mut self) {
        (self.reading, self.writing) = (Reading::Over, Writing::Over);
        self.fed = Vec::new();
    }

    /// Waits until the writer is idle, then gives it what was fed.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        loop {
            match mem::replace(&mut self.writing, Writing::Over) {
                Writing::Over => return Poll::Ready(Err(TransportError::Ended)),
                Writing::Idle(writer) if self.fed.is_empty() => {
                    self.writing = Writing::Idle(writer);
                    return Poll::Ready(Ok(()));
                }
                Writing::Idle(mut writer) => {
                    let frames = mem::take(&mut self.fed);
                    self.writing = Writing::Busy(Box::pin(async move {
                        let sent = writer.send(&frames).await;
                        (writer, frames, sent)
                    }));
                }
                Writing::Busy(mut busy) => match busy.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.writing = Writing::Busy(busy);
                        return Poll::Pending;
                    }
                    Poll::Ready((writer, mut frames, sent)) => {
                        if let Err(error) = sent {
                            self.end();
                            return Poll::Ready(Err(error));
                        }
                        self.writing = Writing::Idle(writer);
                        if self.fed.is_empty() {
                            frames.clear();
                            self.fed = frames;
                        }
                    }
                },
            }
        }
    }
}

impl<R: Reader, W: Writer> Transport for Adapted<R, W> {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        loop {
            match mem::replace(&mut self.reading, Reading::Over) {
                Reading::Over => return Poll::Ready(Err(TransportError::Ended)),
                Reading::Idle(mut reader) => {
                    self.reading = Reading::Busy(Box::pin(async move {
                        let received = reader.recv().await;
                        (reader, received)
                    }));
                }
                Reading::Busy(mut busy) => match busy.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.reading = Reading::Busy(busy);
                        return Poll::Pending;
                    }
                    Poll::Ready((reader, Ok(frame))) => {
                        self.reading = Reading::Idle(reader);
                        return Poll::Ready(Ok(Received::Frame(frame)));
                    }
                    Poll::Ready((_, Err(error))) => {
                        // What the peer broke it can still be told.
                        if !matches!(error, TransportError::Decode(_)) {
                            self.end();
                        }
                        return Poll::Ready(Err(error));
                    }
                },
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.closed || matches!(self.writing, Writing::Over) {
            return Poll::Ready(Err(TransportError::Ended));
        }
        if self.fed.len() < FRAMES { Poll::Ready(Ok(())) } else { self.poll_write(cx) }
    }

    fn start_send(&mut self, frame: &Frame) {
        self.fed.push(frame.clone());
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.poll_write(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(self.poll_write(cx))?;
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        self.closed = true;
        if let Writing::Idle(mut writer) = mem::replace(&mut self.writing, Writing::Over) {
            self.writing = Writing::Busy(Box::pin(async move {
                let closed = writer.close().await;
                (writer, Vec::new(), closed)
            }));
        }
        self.poll_write(cx)
    }

    fn shrink(&mut self) {
        self.fed.shrink_to_fit();
    }
}

impl<R, W> fmt::Debug for Adapted<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapted")
            .field("kind", &self.kind)
            .field("fed", &self.fed.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;

    use super::*;
    use crate::transport::testing::{feed, recv_frame};

    struct Inlet(mpsc::Receiver<Frame>);
    struct Outlet(mpsc::Sender<Frame>);

    #[async_trait]
    impl Reader for Inlet {
        async fn recv(&mut self) -> Result<Frame, TransportError> {
            self.0.recv().await.ok_or(TransportError::Ended)
        }
    }

    #[async_trait]
    impl Writer for Outlet {
        async fn send(&mut self, frames: &[Frame]) -> Result<(), TransportError> {
            for frame in frames {
                self.0.send(frame.clone()).await.map_err(|_| TransportError::Ended)?;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_blocked_write_does_not_stop_reads() {
        let (to, mut blocked) = mpsc::channel(1);
        let (peer, from) = mpsc::channel(8);
        let mut transport = Adapted::new(TransportKind::WebSocket, Inlet(from), Outlet(to));
        for number in 0..3 {
            transport.start_send(&Frame::Ping(Some(number)));
        }
        assert!(poll_fn(|cx| Poll::Ready(transport.poll_flush(cx))).await.is_pending());
        peer.send(Frame::Pong(None)).await.unwrap();
        assert_eq!(recv_frame(&mut transport).await, Frame::Pong(None));
        for number in 0..3 {
            let flushed = poll_fn(|cx| Poll::Ready(transport.poll_flush(cx))).await;
            assert_eq!(flushed.is_ready(), number == 2);
            assert_eq!(blocked.recv().await, Some(Frame::Ping(Some(number))));
        }
    }

    #[tokio::test]
    async fn close_comes_behind_all_that_was_fed_and_ends_sending() {
        let (to, mut peer) = mpsc::channel(8);
        let (_keep, from) = mpsc::channel(8);
        let mut transport = Adapted::new(TransportKind::Sse, Inlet(from), Outlet(to));
        feed(&mut transport, &[Frame::Ping(None)]).await;
        transport.start_send(&Frame::Pong(None));
        poll_fn(|cx| transport.poll_close(cx)).await.unwrap();
        assert!(poll_fn(|cx| transport.poll_ready(cx)).await.is_err());
        drop(transport);
        assert_eq!(peer.recv().await, Some(Frame::Ping(None)));
        assert_eq!(peer.recv().await, Some(Frame::Pong(None)));
        assert_eq!(peer.recv().await, None);
    }
}
