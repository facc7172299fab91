//! A pair of transports in memory, for tests and for both ends in one process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Received, Transport, TransportError, keep_waker};
use crate::frame::{Frame, TransportKind};

/// How many frames one direction holds before its sender is no longer ready.
const FRAMES: usize = 64;

/// Makes a pair: what is flushed into one comes out of the other, in order, until either is dropped or closed.
///
/// It passes any frame as it is, whichever end may send it.
///
/// # Examples
///
/// ```
/// use std::future::poll_fn;
/// use throughline::frame::{Frame, TransportKind};
/// use throughline::transport::{Received, Transport, pipe};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), throughline::transport::TransportError> {
/// let (mut one, mut other) = pipe(TransportKind::WebSocket);
/// poll_fn(|cx| one.poll_ready(cx)).await?;
/// one.start_send(&Frame::Ping(Some(1)));
/// poll_fn(|cx| one.poll_flush(cx)).await?;
/// let received = poll_fn(|cx| other.poll_recv(cx)).await?;
/// assert!(matches!(received, Received::Frame(Frame::Ping(Some(1)))));
/// # Ok(())
/// # }
/// ```
pub fn pipe(kind: TransportKind) -> (Pipe, Pipe) {
    let shared = Arc::new(Mutex::new([Lane::default(), Lane::default()]));
    let end = |side| Pipe { kind, side, fed: VecDeque::new(), shared: Arc::clone(&shared) };
    (end(Side::Left), end(Side::Right))
}

/// One of a pair of transports in memory: see [`pipe`].
#[derive(Debug)]
pub struct Pipe {
    kind: TransportKind,
    side: Side,
    fed: VecDeque<Frame>,
    shared: Arc<Mutex<[Lane; 2]>>,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Left,
    Right,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Frame>,
    /// Whether the sender sends no more: what is there can still be received.
    ended: bool,
    /// Whether the receiver takes no more.
    gone: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

impl Pipe {
    fn lanes(&self) -> MutexGuard<'_, [Lane; 2]> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the lane to the other end, then with the lane from there.
    fn with<T>(&self, act: impl FnOnce(&mut Lane, &mut Lane) -> T) -> T {
        let mut lanes = self.lanes();
        let [left, right] = &mut *lanes;
        match self.side {
            Side::Left => act(left, right),
            Side::Right => act(right, left),
        }
    }

    fn hand_over(&mut self) -> Result<(), TransportError> {
        let mut fed = std::mem::take(&mut self.fed);
        let receiver = self.with(|out, _| {
            if out.gone || out.ended {
                return Err(TransportError::Ended);
            }
            if fed.is_empty() {
                return Ok(None);
            }
            out.frames.append(&mut fed);
            Ok(out.receiver.take())
        });
        self.fed = fed;
        if let Some(receiver) = receiver? {
            receiver.wake();
        }
        Ok(())
    }

    fn end(&self, receives: bool) {
        let wakers = self.with(|out, back| {
            out.ended = true;
            back.gone |= !receives;
            [out.receiver.take(), back.sender.take()]
        });
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Transport for Pipe {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        let (polled, sender) = self.with(|_, back| match back.frames.pop_front() {
            Some(frame) => (Poll::Ready(Ok(Received::Frame(frame))), back.sender.take()),
            None if back.ended => (Poll::Ready(Err(TransportError::Ended)), None),
            None => {
                keep_waker(&mut back.receiver, cx);
                (Poll::Pending, None)
            }
        });
        if let Some(sender) = sender {
            sender.wake();
        }
        polled
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.fed.len() >= FRAMES {
            self.hand_over()?;
        }
        let fed = self.fed.len();
        self.with(|out, _| {
            if out.gone || out.ended {
                return Poll::Ready(Err(TransportError::Ended));
            }
            if out.frames.len().saturating_add(fed) < FRAMES {
                return Poll::Ready(Ok(()));
            }
            keep_waker(&mut out.sender, cx);
            Poll::Pending
        })
    }

    fn start_send(&mut self, frame: &Frame) {
        self.fed.push_back(frame.clone());
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(self.hand_over())
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let handed_over = self.hand_over();
        self.end(true);
        Poll::Ready(handed_over)
    }

    fn shrink(&mut self) {
        self.fed.shrink_to_fit();
        self.with(|out, _| out.frames.shrink_to_fit());
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.end(false);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::transport::testing::{feed, recv_frame};

    #[tokio::test]
    async fn it_is_ready_up_to_its_bound_and_wakes_when_there_is_room() {
        let (mut one, mut other) = pipe(TransportKind::WebSocket);
        let mut sent = 0;
        while poll_once(&mut one).await.is_ready() {
            one.start_send(&Frame::Ping(Some(sent)));
            sent += 1;
        }
        assert_eq!(sent, 64);
        poll_fn(|cx| one.poll_flush(cx)).await.unwrap();
        assert!(poll_once(&mut one).await.is_pending());
        let waits = tokio::spawn(async move { poll_fn(|cx| one.poll_ready(cx)).await.map(|()| one) });
        tokio::task::yield_now().await;
        for number in 0..sent {
            assert_eq!(recv_frame(&mut other).await, Frame::Ping(Some(number)));
        }
        waits.await.unwrap().unwrap();
    }

    async fn poll_once(pipe: &mut Pipe) -> Poll<Result<(), TransportError>> {
        poll_fn(|cx| Poll::Ready(pipe.poll_ready(cx))).await
    }

    #[tokio::test]
    async fn what_was_flushed_before_the_end_is_received() {
        let (mut one, mut other) = pipe(TransportKind::Sse);
        feed(&mut one, &[Frame::Ping(None)]).await;
        poll_fn(|cx| one.poll_close(cx)).await.unwrap();
        drop(one);
        assert_eq!(recv_frame(&mut other).await, Frame::Ping(None));
        assert!(poll_fn(|cx| other.poll_recv(cx)).await.is_err());
        assert!(poll_fn(|cx| other.poll_ready(cx)).await.is_err());
    }
}
