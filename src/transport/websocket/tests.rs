use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Raw;

use super::*;
use crate::frame::{Attachment, Close, DecodeError};
use crate::transport::testing::{feed, flush, hello, is_ready, message, recv, recv_frame, watchdog, welcome};

async fn pair(room: usize, encoding: Encoding) -> (WebSocket<DuplexStream>, WebSocket<DuplexStream>) {
    let (near, far) = duplex(room);
    let client = WebSocket::client(near, encoding, Limits::default()).await;
    (client, WebSocket::server(far, Limits::default()).await)
}

/// A client of tungstenite's own.
async fn raw_client(room: usize, limits: Limits) -> (WebSocketStream<DuplexStream>, WebSocket<DuplexStream>) {
    let (near, far) = duplex(room);
    let role = tungstenite::protocol::Role::Client;
    let raw = WebSocketStream::from_raw_socket(near, role, None).await;
    (raw, WebSocket::server(far, limits).await)
}

async fn close<S: AsyncRead + AsyncWrite + Unpin + Send>(
    end: &mut WebSocket<S>,
) -> Result<(), TransportError> {
    poll_fn(|cx| end.poll_close(cx)).await
}

#[tokio::test]
async fn the_server_answers_in_the_encoding_of_the_first_message() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let (mut client, mut server) = pair(1 << 16, encoding).await;
        let greeting = [hello(TransportKind::WebSocket), message(1, "a")];
        feed(&mut client, &greeting).await;
        for frame in &greeting {
            assert_eq!(recv_frame(&mut server).await, *frame);
        }
        feed(&mut server, &[welcome(), message(1, vec![0, 1])]).await;
        assert_eq!(server.outbox.encoding(), encoding);
        assert_eq!(recv_frame(&mut client).await, welcome());
        assert_eq!(recv_frame(&mut client).await, message(1, vec![0, 1]));
    }
}

#[tokio::test]
async fn a_flush_is_one_message() {
    let (mut raw, mut server) = raw_client(1 << 16, Limits::default()).await;
    feed(&mut server, &[Frame::Ping(None), Frame::Pong(Some(1))]).await;
    assert_eq!(raw.next().await.unwrap().unwrap(), Raw::text("[\"ping\"]\n[\"pong\",1]"));
    flush(&mut server).await.unwrap();
    feed(&mut server, &[Frame::Ping(None)]).await;
    assert_eq!(raw.next().await.unwrap().unwrap(), Raw::text("[\"ping\"]"));
}

/// Counts the writes that reach it.
struct Counting(DuplexStream, usize);

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.1 += 1;
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_message_of_sixteen_kibibytes_leaves_in_one_write() {
    let (near, _far) = duplex(1 << 20);
    let mut client = WebSocket::client(Counting(near, 0), Encoding::Binary, Limits::default()).await;
    for (batch, body) in [(1, 100), (2, 8 << 10), (3, 16 << 10)] {
        feed(&mut client, &[message(batch, vec![0; body])]).await;
        assert_eq!(client.carrier.dialled().get_ref().1, usize::try_from(batch).unwrap());
    }
}

#[tokio::test]
async fn a_blocked_write_stops_no_reads() {
    let (mut client, mut server) = pair(256, Encoding::Json).await;
    feed(&mut client, &[Frame::Ping(None)]).await;
    assert_eq!(recv_frame(&mut server).await, Frame::Ping(None));
    server.start_send(&message(1, vec![0; 10_000]));
    assert!(poll_fn(|cx| Poll::Ready(server.poll_flush(cx))).await.is_pending());
    feed(&mut client, &[Frame::Ping(Some(2))]).await;
    assert_eq!(recv_frame(&mut server).await, Frame::Ping(Some(2)));
    let (flushed, frame) =
        watchdog(async { tokio::join!(flush(&mut server), recv_frame(&mut client)) }).await;
    flushed.unwrap();
    assert_eq!(frame, message(1, vec![0; 10_000]));
}

#[tokio::test]
async fn it_is_not_ready_behind_a_blocked_write_and_bounded_until_then() {
    let (mut client, mut server) = pair(1024, Encoding::Binary).await;
    let mut fed = 0_u64;
    while is_ready(&mut client).await {
        fed += 1;
        assert!(fed < 1000);
        client.start_send(&message(fed, vec![0; 1000]));
    }
    let everything = async {
        for seq in 1..=fed {
            assert_eq!(recv_frame(&mut server).await, message(seq, vec![0; 1000]));
        }
    };
    let flushed = watchdog(async { tokio::join!(flush(&mut client), everything) }).await.0;
    flushed.unwrap();
    assert!(is_ready(&mut client).await);
}

#[tokio::test]
async fn large_messages_arrive_whole_and_in_fragments() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let (mut client, mut server) = pair(4096, encoding).await;
        let text = "é\u{10348}".repeat(50_000);
        let frames = [message(1, vec![7; 500 << 10]), message(2, text), message(3, vec![1])];
        let receiving = async {
            let mut frames = Vec::new();
            for _ in 0..3 {
                frames.push(recv_frame(&mut server).await);
            }
            frames
        };
        let received = watchdog(async { tokio::join!(feed(&mut client, &frames), receiving) }).await.1;
        assert!(received == frames);
    }
    let (near, mut far) = duplex(1 << 20);
    let mut server = WebSocket::server(near, Limits::default()).await;
    feed(&mut server, &[message(1, vec![7; 30 << 10])]).await;
    let (mut first, mut second) = ([0; 4], [0; 4]);
    far.read_exact(&mut first).await.unwrap();
    tokio::io::copy(&mut (&mut far).take(17 << 10), &mut tokio::io::sink()).await.unwrap();
    far.read_exact(&mut second).await.unwrap();
    assert_eq!((first, second), ([0x01, 126, 0x44, 0], [0x00, 126, 0x44, 0]));
}

#[tokio::test]
async fn batches_stay_within_what_the_peers_welcome_says() {
    let (mut client, mut server) = pair(1 << 16, Encoding::Binary).await;
    let Frame::Welcome(mut small) = welcome() else { unreachable!() };
    (small.max_message_bytes, small.max_batch_bytes) = (100, 400);
    feed(&mut server, &[Frame::Welcome(small)]).await;
    recv_frame(&mut client).await;
    let limits = Limits { max_message_bytes: 100, max_batch_bytes: 400, ..Limits::default() };
    server.limits = limits;
    for seq in 1..=20 {
        feed(&mut client, &[message(seq, vec![0; 100])]).await;
    }
    let frames: Vec<_> = (21..=40).map(|seq| message(seq, vec![0; 100])).collect();
    feed(&mut client, &frames).await;
    for seq in 1..=40 {
        assert_eq!(recv_frame(&mut server).await, message(seq, vec![0; 100]));
    }
}

#[tokio::test]
async fn a_message_in_absurdly_many_fragments_ends_the_transport() {
    let (mut near, far) = duplex(1 << 16);
    let mut server = WebSocket::server(far, Limits::default()).await;
    let flood = tokio::spawn(async move {
        // A masked text fragment, then empty continuations: none is the last.
        near.write_all(&[0x01, 0x81, 0, 0, 0, 0, b'[']).await?;
        let empty: Vec<u8> = [0x00, 0x80, 0, 0, 0, 0].repeat(1000);
        for _ in 0..10_000 {
            near.write_all(&empty).await?;
        }
        io::Result::Ok(())
    });
    let received = watchdog(recv(&mut server)).await;
    assert!(matches!(received, Err(TransportError::Network(_))), "{received:?}");
    assert!(matches!(recv(&mut server).await, Err(TransportError::Ended)));
    drop(server);
    assert!(flood.await.unwrap().is_err());
}

#[tokio::test]
async fn pings_between_fragments_and_messages_are_no_reason_to_end() {
    let (mut raw, mut server) =
        raw_client(1 << 16, Limits { max_batch_bytes: 4096, ..Limits::default() }).await;
    let many = tokio::spawn(async move {
        for _ in 0..2000 {
            raw.send(Raw::Ping(Bytes::from(vec![0; 100]))).await.unwrap();
            let Raw::Pong(_) = raw.next().await.unwrap().unwrap() else { panic!("not a pong") };
        }
        raw.send(Raw::text("[\"ping\"]")).await.unwrap();
        raw
    });
    assert_eq!(watchdog(recv_frame(&mut server)).await, Frame::Ping(None));
    drop(many.await.unwrap());
}

#[tokio::test]
async fn pongs_do_not_pile_up_behind_a_blocked_write_nor_push_a_batch_out() {
    let (mut near, far) = duplex(2048);
    let mut server = WebSocket::server(far, Limits::default()).await;
    feed(&mut server, &[message(1, "small")]).await;
    // 20,000 pings of 125 bytes, nothing read: 2.5 MB of pongs.
    let (reader, mut writer) = tokio::io::split(near);
    let pings = tokio::spawn(async move {
        let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
        ping.extend([0; 125]);
        for _ in 0..20_000 {
            writer.write_all(&ping).await.unwrap();
        }
        writer.write_all(&[0x81, 0x88, 0, 0, 0, 0]).await.unwrap();
        writer.write_all(b"[\"ping\"]").await.unwrap();
        writer
    });
    assert_eq!(watchdog(recv_frame(&mut server)).await, Frame::Ping(None));
    near = reader.unsplit(pings.await.unwrap());
    let big = message(2, vec![7; 100 << 10]);
    let mut raw = WebSocketStream::from_raw_socket(near, tungstenite::protocol::Role::Client, None).await;
    server.start_send(&big);
    let (mut pongs, mut texts) = (0, Vec::new());
    let reading = async {
        while texts.len() < 2 {
            match raw.next().await.unwrap().unwrap() {
                Raw::Pong(_) => pongs += 1,
                Raw::Text(text) => texts.push(text),
                other => panic!("{other:?}"),
            }
        }
    };
    let flushed = watchdog(async { tokio::join!(flush(&mut server), reading) }).await.0;
    flushed.unwrap();
    assert!(pongs > 0 && pongs < 400, "{pongs}");
    assert!(texts[1].len() > 100 << 10);
}

#[tokio::test]
async fn a_close_that_was_fed_gives_the_websocket_its_close_code() {
    let (mut raw, mut server) = raw_client(1 << 16, Limits::default()).await;
    feed(&mut server, &[Frame::Close(Close::superseded(Attachment::FIRST))]).await;
    let reading = async {
        let frame = raw.next().await.unwrap().unwrap();
        assert!(frame.into_text().unwrap().starts_with("[\"close\",\"superseded\""));
        let Raw::Close(Some(said)) = raw.next().await.unwrap().unwrap() else { panic!("no close") };
        assert_eq!((u16::from(said.code), said.reason.as_str()), (4409, "superseded"));
        assert!(raw.next().await.is_none_or(|end| end.is_err()));
    };
    let closing = async {
        close(&mut server).await.unwrap();
        close(&mut server).await.unwrap();
        assert!(matches!(recv(&mut server).await, Err(TransportError::Ended)));
        drop(server);
    };
    watchdog(async { tokio::join!(closing, reading) }).await;
}

#[tokio::test]
async fn two_ends_that_close_at_once_both_finish() {
    let (mut client, mut server) = pair(1 << 16, Encoding::Json).await;
    let both = async {
        tokio::join!(async move { close(&mut client).await.unwrap() }, async move {
            close(&mut server).await.unwrap()
        })
    };
    watchdog(both).await;
}

#[tokio::test]
async fn who_sends_what_is_no_batch_is_told_so() {
    let small = Limits { max_message_bytes: 100, max_batch_bytes: 1000, ..Limits::default() };
    let cases = [
        Raw::text("[\"welcome\"]"),
        Raw::text("nonsense"),
        Raw::binary(vec![0; 7]),
        Raw::text("x".repeat(1001)),
        Raw::Frame(tungstenite::protocol::frame::Frame::message(
            vec![0xff],
            tungstenite::protocol::frame::coding::OpCode::Data(Data::Text),
            true,
        )),
    ];
    for case in cases {
        let (mut raw, mut server) = raw_client(1 << 16, small).await;
        raw.send(case.clone()).await.unwrap();
        let received = recv(&mut server).await;
        assert!(matches!(received, Err(TransportError::Decode(_))), "{case:?}: {received:?}");
        assert!(matches!(recv(&mut server).await, Err(TransportError::Ended)));
        let answer = Close::new(crate::frame::CloseCode::ProtocolError, "");
        feed(&mut server, &[Frame::Close(answer)]).await;
        let reading = async {
            assert!(matches!(raw.next().await, Some(Ok(Raw::Text(_) | Raw::Binary(_)))));
            assert!(matches!(raw.next().await, Some(Ok(Raw::Close(Some(_))))));
            drop(raw);
        };
        watchdog(async { tokio::join!(close(&mut server), reading) }).await.0.unwrap();
    }
    let (mut raw, mut server) = raw_client(1 << 16, small).await;
    raw.send(Raw::text("x".repeat(1001))).await.unwrap();
    let received = recv(&mut server).await;
    let Err(TransportError::Decode(DecodeError::TooLarge { limit: 1000, .. })) = received else {
        panic!("{received:?}")
    };
}

#[tokio::test]
async fn messages_without_frames_neither_end_it_nor_hold_others_up() {
    let (mut raw, mut server) = raw_client(1 << 16, Limits::default()).await;
    for _ in 0..IDLE_MESSAGES {
        raw.send(Raw::text("[\"x-later\"]")).await.unwrap();
    }
    raw.send(Raw::text("[\"ping\"]")).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(server.poll_recv(cx))).await.is_pending());
    assert_eq!(watchdog(recv_frame(&mut server)).await, Frame::Ping(None));
}

#[tokio::test]
async fn an_end_without_a_close_is_an_end() {
    let (client, mut server) = pair(1 << 16, Encoding::Json).await;
    drop(client);
    assert!(matches!(recv(&mut server).await, Err(TransportError::Ended)));
    assert!(flush(&mut server).await.is_err());
    assert!(poll_fn(|cx| server.poll_ready(cx)).await.is_err());
    assert!(close(&mut server).await.is_err());
}

#[tokio::test]
async fn a_server_gives_its_room_back_between_any_two_reads_and_loses_nothing() {
    let (mut sender, mut receiver) = pair(777, Encoding::Binary).await;
    let of = |seq: u64| message(seq, vec![7; usize::try_from(seq * 7919 % 20_000).unwrap()]);
    let sending = async {
        for seq in 1..=200 {
            feed(&mut sender, &[of(seq)]).await;
        }
        sender
    };
    let receiving = async {
        for seq in 1..=200 {
            let next = poll_fn(|cx| {
                receiver.shrink();
                receiver.poll_recv(cx)
            });
            assert!(matches!(next.await.unwrap(), Received::Frame(frame) if frame == of(seq)));
        }
        receiver
    };
    let (mut sender, mut receiver) = watchdog(async { tokio::join!(sending, receiving) }).await;
    feed(&mut receiver, &[Frame::Pong(None)]).await;
    assert_eq!(recv_frame(&mut sender).await, Frame::Pong(None));
}

#[tokio::test]
async fn a_server_reads_what_came_at_once_and_writes_a_batch_at_once() {
    let (mut near, far) = duplex(1 << 20);
    let mut server = WebSocket::server(Counting(far, 0), Limits::default()).await;
    // Thirty messages in one read, the last of them cut.
    let stream: Vec<u8> =
        [0x81, 0x88, 0, 0, 0, 0].iter().chain(b"[\"ping\"]").copied().collect::<Vec<_>>().repeat(30);
    near.write_all(&stream[..stream.len() - 3]).await.unwrap();
    for _ in 0..29 {
        assert_eq!(recv_frame(&mut server).await, Frame::Ping(None));
    }
    assert!(poll_fn(|cx| Poll::Ready(server.poll_recv(cx))).await.is_pending());
    near.write_all(&stream[stream.len() - 3..]).await.unwrap();
    assert_eq!(recv_frame(&mut server).await, Frame::Ping(None));
    let batches: Vec<_> =
        (1..=3).map(|seq| [message(seq, vec![7; 10 << 10]), message(seq + 3, "a")]).collect();
    for batch in &batches {
        feed(&mut server, batch).await;
    }
    let accepted = server.carrier.accepted();
    assert_eq!(accepted.get_ref().1, 3, "writes");
    let mut client = WebSocket::client(near, Encoding::Json, Limits::default()).await;
    for frame in batches.concat() {
        assert_eq!(recv_frame(&mut client).await, frame);
    }
}

#[tokio::test]
async fn frames_of_a_blocked_server_leave_whole_and_in_order() {
    let (near, far) = duplex(100);
    let mut server = WebSocket::server(far, Limits::default()).await;
    let (reader, mut writer) = tokio::io::split(near);
    server.start_send(&message(1, "x".repeat(300)));
    assert!(poll_fn(|cx| Poll::Ready(server.poll_flush(cx))).await.is_pending());
    // A ping comes while the frame before is half written, and a batch behind it.
    writer.write_all(&[0x89, 0x81, 0, 0, 0, 0, b'?']).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(server.poll_recv(cx))).await.is_pending());
    server.start_send(&message(2, "y"));
    let mut raw =
        WebSocketStream::from_raw_socket(reader.unsplit(writer), tungstenite::protocol::Role::Client, None)
            .await;
    let reading = async {
        let first = raw.next().await.unwrap().unwrap().into_text().unwrap();
        assert!(first.starts_with("[\"msg\",1,\"xxx"), "{first}");
        assert_eq!(raw.next().await.unwrap().unwrap(), Raw::Pong(Bytes::from_static(b"?")));
        assert_eq!(raw.next().await.unwrap().unwrap(), Raw::text("[\"msg\",2,\"y\"]"));
    };
    watchdog(async { tokio::join!(flush(&mut server), reading) }).await.0.unwrap();
}

#[tokio::test]
async fn a_close_by_the_client_is_answered_and_is_the_end() {
    let frame = |code: u16| tungstenite::protocol::CloseFrame { code: code.into(), reason: "why".into() };
    for (said, answered) in [(None, None), (Some(frame(1001)), Some(1001)), (Some(frame(4000)), Some(4000))] {
        let (mut raw, mut server) = raw_client(1 << 16, Limits::default()).await;
        raw.send(Raw::Close(said)).await.unwrap();
        assert!(matches!(watchdog(recv(&mut server)).await, Err(TransportError::Ended)));
        let Some(Ok(Raw::Close(answer))) = raw.next().await else { panic!("no answer") };
        assert_eq!(answer.map(|frame| u16::from(frame.code)), answered);
    }
}
