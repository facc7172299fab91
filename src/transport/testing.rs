//! What the tests of several transports need.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use super::{Received, Transport, TransportError};
use crate::frame::{
    Attachment, Body, Epoch, Frame, Hello, Message, MessageKind, Seq, SessionId, SessionKey, TransportKind,
    Welcome, Window,
};

/// Fails a test that hangs.
pub(super) async fn watchdog<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
}

/// Feeds frames, each when there is room, and flushes.
pub(super) async fn feed(transport: &mut impl Transport, frames: &[Frame]) {
    for frame in frames {
        poll_fn(|cx| transport.poll_ready(cx)).await.unwrap();
        transport.start_send(frame);
    }
    flush(transport).await.unwrap();
}

pub(super) async fn flush(transport: &mut impl Transport) -> Result<(), TransportError> {
    poll_fn(|cx| transport.poll_flush(cx)).await
}

pub(super) async fn recv(transport: &mut impl Transport) -> Result<Received, TransportError> {
    poll_fn(|cx| transport.poll_recv(cx)).await
}

pub(super) async fn recv_frame(transport: &mut impl Transport) -> Frame {
    match recv(transport).await.unwrap() {
        Received::Frame(frame) => frame,
        other => panic!("not a frame: {other:?}"),
    }
}

/// Whether the transport is ready now.
pub(super) async fn is_ready(transport: &mut impl Transport) -> bool {
    poll_fn(|cx| Poll::Ready(transport.poll_ready(cx).is_ready())).await
}

/// Whether there is something to receive now, which is lost.
pub(super) async fn has_received(transport: &mut impl Transport) -> bool {
    poll_fn(|cx| Poll::Ready(transport.poll_recv(cx).is_ready())).await
}

pub(super) fn message(seq: u64, body: impl Into<Body>) -> Frame {
    let seq = Seq::new(seq).unwrap();
    Frame::Message(Message { seq, kind: MessageKind::Plain, body: body.into() })
}

pub(super) fn hello(transport: TransportKind) -> Frame {
    let (session, key) = (SessionId::from_bytes([1; 16]), SessionKey::from_bytes([2; 32]));
    Frame::Hello(Box::new(Hello::new(session, key, transport, Window { messages: 16, bytes: 1 << 20 })))
}

pub(super) fn welcome() -> Frame {
    Frame::Welcome(Box::new(Welcome {
        session: SessionId::from_bytes([1; 16]),
        epoch: Epoch::from_bytes([3; 8]),
        attachment: Attachment::FIRST,
        received: Seq::ZERO,
        taken: None,
        resumed: false,
        window: Window { messages: 16, bytes: 1 << 20 },
        heartbeat_ms: 20_000,
        resume_window_ms: 60_000,
        max_message_bytes: 512 << 10,
        max_batch_bytes: 960 << 10,
        transports: TransportKind::ALL.to_vec(),
        auth_expires_ms: None,
    }))
}
