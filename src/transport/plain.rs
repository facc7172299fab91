//! The server's end of a WebSocket for clients without a library: each WebSocket message is one payload.
//!
//! Towards the session it speaks the protocol in the client's place: it numbers what comes, acknowledges what
//! was written, and answers pings by those of the WebSocket. It implements `docs/PROTOCOL.md`, "Plain
//! WebSocket". There is nothing to resume: the session lives as long as the WebSocket.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use super::outbox::BUFFERED;
use super::websocket::{Carrier, Incoming};
use super::{Received, Transport, TransportError, keep_waker};
use crate::frame::{
    Ack, Body, CloseCode, DecodeError, Frame, Json, Limits, Message, MessageKind, Seq, TransportKind,
};

/// The server's end of a plain WebSocket.
///
/// | on the WebSocket | towards the session |
/// |---|---|
/// | a text message that is JSON | a message with that JSON |
/// | any other text message | a message with a JSON string |
/// | a binary message | a message with a binary body |
/// | a message was written | an `ack` of it, as received and taken |
/// | ping, pong | `ping`, `pong` |
/// | close with 4000 and the status, reason the code | `close` |
///
/// Messages go out as their bodies: JSON as its text, a JSON string with its quotes and escapes as any other
/// JSON, so that what is read is always JSON; binary bodies as binary messages. Whether a message is a request,
/// a reply or a failure is lost. Other frames have no counterpart and go nowhere.
pub struct PlainWebSocket<S> {
    carrier: Carrier<S>,
    limits: Limits,
    /// The number of the last payload that came.
    received: Seq,
    /// What was fed and is not yet with the carrier.
    queue: VecDeque<Outgoing>,
    queued: usize,
    /// The last message fed, the last flushed, and the last for which the session got its ack.
    fed: Seq,
    flushed: Seq,
    acked: Seq,
    /// The latest ping, until its pong came.
    ping: Option<Option<u64>>,
    close: Option<CloseCode>,
    reader: Option<Waker>,
}

enum Outgoing {
    Payload(Data, Bytes),
    Ping(Bytes),
}

impl<S: AsyncRead + AsyncWrite + Unpin> PlainWebSocket<S> {
    /// Takes over a stream on which the opening handshake is done.
    pub async fn new(io: S, limits: Limits) -> Self {
        Self {
            carrier: Carrier::accept(io, limits.max_message_bytes),
            limits,
            received: Seq::ZERO,
            queue: VecDeque::new(),
            queued: 0,
            fed: Seq::ZERO,
            flushed: Seq::ZERO,
            acked: Seq::ZERO,
            ping: None,
            close: None,
            reader: None,
        }
    }

    fn message(&mut self, body: Body) -> Result<Frame, TransportError> {
        if body.len() > self.limits.max_message_bytes {
            let limit = self.limits.max_message_bytes;
            return Err(DecodeError::TooLarge { what: "message", limit }.into());
        }
        let seq = self.received.next().ok_or(DecodeError::Number)?;
        self.received = seq;
        Ok(Frame::Message(Message { seq, kind: MessageKind::Plain, body }))
    }

    fn take_in(&mut self, incoming: Incoming) -> Result<Option<Frame>, TransportError> {
        match incoming {
            // Copied: what is kept must not pin the read buffer.
            Incoming::Text(text) => {
                let body = match Json::parse(Bytes::copy_from_slice(&text)) {
                    Ok(json) => Body::Json(json),
                    Err(_) => Body::from(String::from_utf8_lossy(&text).as_ref()),
                };
                self.message(body).map(Some)
            }
            Incoming::Binary(bytes) => self.message(Body::from(Bytes::copy_from_slice(&bytes))).map(Some),
            Incoming::Pong(payload) => {
                let answers = self.ping.is_some_and(|ping| ping_payload(ping) == payload);
                Ok(if answers { self.ping.take().map(Frame::Pong) } else { None })
            }
        }
    }

    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        loop {
            ready!(self.carrier.poll_room(cx))?;
            match self.queue.pop_front() {
                Some(Outgoing::Payload(kind, payload)) => {
                    self.queued = self.queued.saturating_sub(weight(&payload));
                    self.carrier.feed(kind, payload);
                }
                Some(Outgoing::Ping(payload)) => self.carrier.feed_ping(payload),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// What a queued payload counts: small ones for their place in the queue.
fn weight(payload: &Bytes) -> usize {
    payload.len().saturating_add(64)
}

fn ping_payload(ping: Option<u64>) -> Bytes {
    ping.map_or_else(Bytes::new, |number| Bytes::copy_from_slice(&number.to_be_bytes()))
}

impl<S> fmt::Debug for PlainWebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainWebSocket")
            .field("carrier", &self.carrier)
            .field("received", &self.received)
            .field("flushed", &self.flushed)
            .finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for PlainWebSocket<S> {
    fn kind(&self) -> TransportKind {
        TransportKind::WebSocket
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        keep_waker(&mut self.reader, cx);
        if self.acked < self.flushed {
            self.acked = self.flushed;
            let ack = Ack { received: self.acked, taken: self.acked };
            return Poll::Ready(Ok(Received::Frame(Frame::Ack(ack))));
        }
        let incoming = ready!(self.carrier.poll_message(cx))?;
        match self.take_in(incoming) {
            Ok(Some(frame)) => Poll::Ready(Ok(Received::Frame(frame))),
            Ok(None) => {
                // A pong that nobody asked for: others have their turn before the next.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => {
                self.carrier.refuse();
                Poll::Ready(Err(error))
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.queued >= BUFFERED { self.poll_hand_over(cx) } else { Poll::Ready(self.carrier.check_open()) }
    }

    fn start_send(&mut self, frame: &Frame) {
        match frame {
            Frame::Message(message) => {
                let (kind, payload) = match &message.body {
                    Body::Json(json) => (Data::Text, json.as_bytes().clone()),
                    Body::Binary(bytes) => (Data::Binary, bytes.clone()),
                };
                self.fed = self.fed.max(message.seq);
                self.queued = self.queued.saturating_add(weight(&payload));
                self.queue.push_back(Outgoing::Payload(kind, payload));
            }
            Frame::Ping(number) => {
                self.ping = Some(*number);
                self.queue.push_back(Outgoing::Ping(ping_payload(*number)));
            }
            Frame::Close(close) => self.close = Some(close.code.clone()),
            _ => {}
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(self.poll_hand_over(cx))?;
        ready!(self.carrier.poll_flush(cx))?;
        if self.flushed < self.fed {
            self.flushed = self.fed;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As that of [`WebSocket`](super::WebSocket).
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if !self.queue.is_empty() {
            ready!(self.poll_hand_over(cx))?;
        }
        self.carrier.poll_close(cx, self.close.as_ref())
    }

    fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message as Raw;

    use super::*;
    use crate::frame::Close;
    use crate::transport::testing::{
        feed, has_received, is_ready, message, recv, recv_frame, watchdog, welcome,
    };

    async fn pair(limits: Limits) -> (WebSocketStream<DuplexStream>, PlainWebSocket<DuplexStream>) {
        let (near, far) = duplex(1 << 16);
        (
            WebSocketStream::from_raw_socket(
                near,
                tokio_tungstenite::tungstenite::protocol::Role::Client,
                None,
            )
            .await,
            PlainWebSocket::new(far, limits).await,
        )
    }

    #[tokio::test]
    async fn payloads_come_numbered_as_json_strings_or_bytes() {
        let (mut raw, mut server) = pair(Limits::default()).await;
        for payload in [Raw::text("{\"a\": 1}"), Raw::text("hi \"you\""), Raw::binary(vec![1, 2])] {
            raw.send(payload).await.unwrap();
        }
        let json = Body::Json(Json::parse("{\"a\": 1}").unwrap());
        assert_eq!(recv_frame(&mut server).await, message(1, json));
        assert_eq!(recv_frame(&mut server).await, message(2, "hi \"you\""));
        assert_eq!(recv_frame(&mut server).await, message(3, vec![1, 2]));
    }

    #[tokio::test]
    async fn messages_go_out_alone_and_are_acknowledged_once_written() {
        let (mut raw, mut server) = pair(Limits::default()).await;
        assert!(!has_received(&mut server).await);
        feed(&mut server, &[welcome(), message(1, "a"), message(2, vec![7]), Frame::Pong(None)]).await;
        let two = Seq::new(2).unwrap();
        assert_eq!(recv_frame(&mut server).await, Frame::Ack(Ack { received: two, taken: two }));
        assert!(!has_received(&mut server).await);
        assert_eq!(raw.next().await.unwrap().unwrap(), Raw::text("\"a\""));
        assert_eq!(raw.next().await.unwrap().unwrap(), Raw::binary(vec![7]));
    }

    #[tokio::test]
    async fn a_ping_is_answered_by_the_pong_of_the_websocket() {
        let (mut raw, mut server) = pair(Limits::default()).await;
        feed(&mut server, &[Frame::Ping(Some(5))]).await;
        raw.send(Raw::Pong(Bytes::from_static(b"stray"))).await.unwrap();
        assert!(matches!(raw.next().await, Some(Ok(Raw::Ping(_)))));
        raw.flush().await.unwrap();
        assert_eq!(watchdog(recv_frame(&mut server)).await, Frame::Pong(Some(5)));
        assert!(!has_received(&mut server).await);
    }

    #[tokio::test]
    async fn a_close_becomes_that_of_the_websocket() {
        let (mut raw, mut server) = pair(Limits::default()).await;
        feed(&mut server, &[message(1, "a"), Frame::Close(Close::new(CloseCode::Draining, ""))]).await;
        let reading = async {
            assert_eq!(raw.next().await.unwrap().unwrap(), Raw::text("\"a\""));
            let Raw::Close(Some(said)) = raw.next().await.unwrap().unwrap() else { panic!("no close") };
            assert_eq!((u16::from(said.code), said.reason.as_str()), (4503, "draining"));
            drop(raw);
        };
        let closing = poll_fn(|cx| server.poll_close(cx));
        watchdog(async { tokio::join!(closing, reading) }).await.0.unwrap();
    }

    #[tokio::test]
    async fn too_large_a_payload_is_refused() {
        let (mut raw, mut server) = pair(Limits { max_message_bytes: 10, ..Limits::default() }).await;
        raw.send(Raw::text("x".repeat(9))).await.unwrap();
        // Ten with its quotes would be eleven.
        assert!(matches!(recv(&mut server).await, Err(TransportError::Decode(_))));
    }

    #[tokio::test]
    async fn it_is_not_ready_behind_a_blocked_write() {
        let (_raw, mut server) = pair(Limits::default()).await;
        let mut fed = 0;
        while is_ready(&mut server).await {
            fed += 1;
            assert!(fed < 1000);
            server.start_send(&message(fed, vec![0; 1000]));
        }
    }
}
