//! What the HTTP layer takes of a response: its head, once there is something to say, and its body.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::SizeHint;

use crate::frame::Close;
use crate::transport::keep_waker;
use crate::transport::outbox::BUFFERED;

/// What transport and body have in common.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is queued may be secret, so it is not shown.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared")
            .field("queued", &state.queued)
            .field("ended", &state.ended)
            .field("gone", &state.gone)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(super) struct State {
    /// What was flushed and not yet taken.
    pub(super) chunks: VecDeque<Bytes>,
    pub(super) queued: usize,
    /// The `close` that was the first frame.
    pub(super) close: Option<Close>,
    /// Whether the head may leave.
    pub(super) opened: bool,
    /// Whether nothing more follows.
    pub(super) ended: bool,
    /// Whether nobody takes anything any more.
    pub(super) gone: bool,
    /// The latest ping of a plain client, and whether what bears it was taken.
    pub(super) ping: Option<Option<u64>>,
    /// Of the HTTP layer.
    pub(super) body: Option<Waker>,
    /// Of the transport's driver, and whether it waits for room.
    pub(super) driver: Option<Waker>,
    pub(super) wants_room: bool,
}

impl State {
    pub(super) fn close_out(&mut self) -> Option<Waker> {
        (self.opened, self.ended) = (true, true);
        self.body.take()
    }
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The receiving side of the shared state: dropped, it says that nobody takes anything any more.
#[derive(Debug)]
struct Half(Shared);

impl Drop for Half {
    fn drop(&mut self) {
        let driver = {
            let mut state = self.0.lock();
            state.gone = true;
            state.driver.take()
        };
        wake(driver);
    }
}

/// Waits for the first flush, or the end, of a response.
///
/// Dropped before, it tells the transport that the client is gone.
#[derive(Debug)]
pub struct ResponseHead {
    half: Option<Half>,
}

/// What a response begins with.
#[derive(Debug)]
pub struct ResponseStart {
    /// The `close`, if that is the first frame: it decides the HTTP status.
    pub close: Option<Close>,
    /// The body, with the first bytes in it; empty if the transport ended without a word.
    pub body: ResponseBody,
}

impl ResponseHead {
    pub(super) fn new(shared: Shared) -> Self {
        Self { half: Some(Half(shared)) }
    }
}

impl Future for ResponseHead {
    type Output = ResponseStart;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ResponseStart> {
        let close = match &self.half {
            None => None,
            Some(half) => {
                let mut state = half.0.lock();
                if !state.opened {
                    keep_waker(&mut state.body, cx);
                    return Poll::Pending;
                }
                state.close.take()
            }
        };
        Poll::Ready(ResponseStart { close, body: ResponseBody { half: self.half.take() } })
    }
}

/// The body of a response. Dropped, it tells the transport that the client is gone.
#[derive(Debug)]
pub struct ResponseBody {
    /// None only when its head was polled again after it was ready: then it is empty.
    half: Option<Half>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let Some(half) = &self.half else { return Poll::Ready(None) };
        let (chunk, driver) = {
            let mut state = half.0.lock();
            let Some(chunk) = state.chunks.pop_front() else {
                if state.ended {
                    return Poll::Ready(None);
                }
                keep_waker(&mut state.body, cx);
                return Poll::Pending;
            };
            state.queued = state.queued.saturating_sub(chunk.len());
            let pong = state.chunks.is_empty() && state.ping.is_some();
            let room = state.wants_room && state.queued < BUFFERED;
            state.wants_room &= !room;
            (chunk, if pong || room { state.driver.take() } else { None })
        };
        wake(driver);
        Poll::Ready(Some(Ok(http_body::Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.half.as_ref().is_none_or(|half| {
            let state = half.0.lock();
            state.ended && state.chunks.is_empty()
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(half) = &self.half else { return SizeHint::with_exact(0) };
        let state = half.0.lock();
        let queued = u64::try_from(state.queued).unwrap_or(u64::MAX);
        if state.ended {
            return SizeHint::with_exact(queued);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(queued);
        hint
    }
}
