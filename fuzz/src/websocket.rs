//! The server's own end of a WebSocket beside tungstenite's: what one reads the other reads, and what it writes
//! tungstenite reads as a client.
//!
//! The two differ lawfully in this, and in nothing else:
//!
//! - Ours judges a frame by its header, tungstenite when the payload is there. So tungstenite gets zeros behind what
//!   ours refused, that it may come to its verdict.
//! - Ours judges UTF-8 when a message is whole, tungstenite at each fragment. Between the two ours may take control
//!   frames, never a message.
//! - Ours does not judge the reason of a close, which it does not use, and says 1002 to a close of one byte; tungstenite
//!   ends without an answer at both. It also does not know the code 1014, which was registered later.
//! - Ours bounds the pieces of a message; tungstenite does not. Streams here are too short for that.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use throughline::frame::{Batch, Body, Encoding, Frame, Json, Limits, Message, MessageKind, Role, Seq};
use throughline::transport::{PlainWebSocket, Received, Transport, TransportError, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role as End, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message as Raw};

/// So short that no message is in too many pieces.
const STREAM: usize = 32 << 10;

/// The largest frame that a server's end writes, as docs/ARCHITECTURE.md says it.
const FRAGMENT: usize = 17 << 10;

const LIMITS: [usize; 4] = [10, 100, 1000, 30_000];

/// Any bytes from a client, cut anywhere: ours and tungstenite's read the same from them. Then any messages: what ours
/// writes tungstenite reads.
pub fn websocket(data: &[u8]) {
    let Some((&flags, data)) = data.split_first() else { return };
    let limit = LIMITS[usize::from(flags >> 2 & 3)];
    match flags & 3 {
        0 => reads(&data[..data.len().min(STREAM)], limit),
        1 | 2 => reads(&frames(&mut Unstructured::new(data)), limit),
        _ => {
            // When the bytes are used up the play is over.
            let _ = writes(&mut Unstructured::new(data));
        }
    }
}

/// What one end of a stream in memory shares with the other.
#[derive(Default)]
struct Wire {
    /// What is to be read, how much of it was, and how much is read at once.
    input: Vec<u8>,
    at: usize,
    piece: usize,
    /// Whether nothing more will come.
    ended: bool,
    /// Whether the last read brought something: the next is pending, once.
    paused: bool,
    reader: Option<Waker>,
    /// What was written, and how much more may be.
    output: Vec<u8>,
    room: usize,
}

#[derive(Clone, Default)]
struct Stream(Arc<Mutex<Wire>>);

impl Stream {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: &[u8]) {
        let mut wire = self.wire();
        wire.input.extend_from_slice(bytes);
        let reader = wire.reader.take();
        drop(wire);
        reader.into_iter().for_each(Waker::wake);
    }

    fn end(&self) {
        self.wire().ended = true;
        self.push(b"");
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.wire();
        wire.paused = !wire.paused;
        if !wire.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let left = wire.input.len() - wire.at;
        if left == 0 && !wire.ended {
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = left.min(wire.piece).min(buf.remaining());
        buf.put_slice(&wire.input[wire.at..][..length]);
        wire.at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.wire();
        let length = buf.len().min(wire.room);
        if length == 0 {
            return Poll::Pending;
        }
        wire.room -= length;
        wire.output.extend_from_slice(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A client that reads what was written; what it writes goes nowhere.
struct Written(Stream);

impl io::Read for Written {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.wire();
        let length = wire.output.len().min(buf.len());
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buf[..length].copy_from_slice(&wire.output[..length]);
        wire.output.drain(..length);
        Ok(length)
    }
}

impl io::Write for Written {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server that reads a slice; what it writes goes nowhere.
struct Given<'a>(&'a [u8]);

impl io::Read for Given<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl io::Write for Given<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Client(tungstenite::WebSocket<Written>);

impl Client {
    fn new(stream: &Stream) -> Self {
        let config = WebSocketConfig::default().max_frame_size(Some(FRAGMENT)).max_message_size(None);
        Self(tungstenite::WebSocket::from_raw_socket(Written(stream.clone()), End::Client, Some(config)))
    }

    /// All that came whole.
    fn read(&mut self) -> Vec<Raw> {
        let mut messages = Vec::new();
        loop {
            match self.0.read() {
                Ok(message) => messages.push(message),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return messages,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return messages,
                Err(error) => panic!("a server's end wrote what is no WebSocket: {error}"),
            }
        }
    }
}

/// What an end read, in order.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    Message(Body),
    Ping(Bytes),
    /// Only an empty one can be seen at our end.
    Pong,
    /// The code of the answer.
    Close(Option<u16>),
}

/// Why it read no more.
#[derive(Debug)]
enum Why {
    Ended,
    Refused,
    /// By tungstenite, for what it judges earlier.
    NotUtf8,
    OneByteClose,
}

fn reads(stream: &[u8], limit: usize) {
    let (ours, refused) = read_by_ours(stream, limit, usize::MAX);
    // Byte by byte is slow.
    for piece in [Some(2 + stream.len() % 61), (stream.len() < 1000).then_some(1)].into_iter().flatten() {
        assert_eq!(read_by_ours(stream, limit, piece), (ours.clone(), refused), "in pieces of {piece}");
    }
    // A verdict needs the whole of the frame that ours refused by its header.
    let padded = if refused { [stream, &vec![0; limit.max(125) + 14]].concat() } else { stream.to_vec() };
    let (theirs, why) = read_by_tungstenite(&padded, limit);
    match why {
        Why::Ended => assert_eq!((ours, refused), (theirs, false)),
        Why::Refused => assert_eq!((ours, refused), (theirs, true)),
        Why::NotUtf8 => {
            assert!(ours.starts_with(&theirs), "{ours:?}, not {theirs:?}");
            assert!(!ours[theirs.len()..].iter().any(|event| matches!(event, Event::Message(_))));
        }
        Why::OneByteClose => assert_eq!(ours, [theirs, vec![Event::Close(Some(1002))]].concat()),
    }
}

fn limits(limit: usize) -> Limits {
    Limits { max_message_bytes: limit, max_batch_bytes: 4 << 20, ..Limits::default() }
}

/// What ours reads, and whether it refused the rest.
fn read_by_ours(bytes: &[u8], limit: usize, piece: usize) -> (Vec<Event>, bool) {
    let stream = Stream::default();
    (stream.wire().piece, stream.wire().room) = (piece, usize::MAX);
    stream.push(bytes);
    stream.end();
    let mut client = Client::new(&stream);
    let mut server = at_once(PlainWebSocket::new(stream.clone(), limits(limit)));
    let mut cx = Context::from_waker(Waker::noop());
    let mut events = Vec::new();
    let mut asks = true;
    for _ in 0..bytes.len() * 3 + 100 {
        if asks {
            server.start_send(&Frame::Ping(None));
            assert!(matches!(server.poll_flush(&mut cx), Poll::Ready(Ok(()))));
            asks = false;
            assert_eq!(client.read(), [Raw::Ping(Bytes::new())]);
        }
        let received = server.poll_recv(&mut cx);
        let last = stream.wire().output.last_chunk().copied();
        // What it answered to, it read before.
        for answer in client.read() {
            match answer {
                Raw::Pong(payload) => events.push(Event::Ping(payload)),
                Raw::Close(close) => {
                    // As it was written: a client of tungstenite's says 1002 to what it does not know.
                    let code = close.and(last).map(u16::from_be_bytes);
                    assert!(matches!(code, None | Some(1000..=1003 | 1007..=1014 | 3000..=4999)), "{code:?}");
                    events.push(Event::Close(code.map(|code| if code == 1014 { 1002 } else { code })));
                }
                other => panic!("a server's end wrote {other:?}"),
            }
        }
        match received {
            Poll::Pending => {}
            Poll::Ready(Ok(Received::Frame(Frame::Message(message)))) => {
                events.push(Event::Message(message.body));
            }
            Poll::Ready(Ok(Received::Frame(Frame::Pong(None)))) => {
                events.push(Event::Pong);
                asks = true;
            }
            Poll::Ready(Ok(other)) => panic!("{other:?}"),
            Poll::Ready(Err(error)) => {
                assert!(matches!(server.poll_recv(&mut cx), Poll::Ready(Err(TransportError::Ended))));
                return (events, !matches!(error, TransportError::Ended));
            }
        }
    }
    panic!("it stands still after {events:?}");
}

/// What tungstenite reads with the same limit, as our end would show it.
fn read_by_tungstenite(bytes: &[u8], limit: usize) -> (Vec<Event>, Why) {
    // Its bound of frames holds for control frames too.
    let config =
        WebSocketConfig::default().max_message_size(Some(limit)).max_frame_size(Some(limit.max(125)));
    let mut end = tungstenite::WebSocket::from_raw_socket(Given(bytes), End::Server, Some(config));
    let mut events = Vec::new();
    loop {
        let body = match end.read() {
            Ok(Raw::Text(text)) => match Json::parse(Bytes::copy_from_slice(text.as_bytes())) {
                Ok(json) => Body::Json(json),
                Err(_) => Body::from(text.as_str()),
            },
            Ok(Raw::Binary(bytes)) => Body::from(bytes),
            Ok(Raw::Ping(payload)) => {
                events.push(Event::Ping(payload));
                continue;
            }
            Ok(Raw::Pong(payload)) => {
                events.extend(payload.is_empty().then_some(Event::Pong));
                continue;
            }
            Ok(Raw::Close(close)) => {
                events.push(Event::Close(close.map(|close| close.code.into())));
                return (events, Why::Ended);
            }
            Ok(other) => panic!("{other:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return (events, Why::Ended),
            Err(Error::Protocol(ProtocolError::InvalidCloseSequence)) => return (events, Why::OneByteClose),
            Err(Error::Utf8(_)) => return (events, Why::NotUtf8),
            Err(_) => return (events, Why::Refused),
        };
        // As a JSON string it may be too long.
        if body.len() > limit {
            return (events, Why::Refused);
        }
        events.push(Event::Message(body));
    }
}

/// A stream of frames that a client might send, most of them lawful.
fn frames(data: &mut Unstructured<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !data.is_empty() && stream.len() < STREAM {
        let Ok(frame) = frame(data) else { break };
        stream.extend(frame);
    }
    stream.truncate(STREAM);
    stream
}

fn frame(data: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    const FIRST: [u8; 12] = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8a, 0x00, 0x80, 0x81];
    let first = match data.int_in_range(0..=15)? {
        lawful @ 0..=11_usize => FIRST[lawful],
        _ => data.arbitrary()?,
    };
    let length = match data.int_in_range(0..=9)? {
        0 => 0,
        1 => data.int_in_range(120..=130)?,
        2 => data.int_in_range(0..=20_000)?,
        3 => 2,
        _ => data.int_in_range(0..=40)?,
    };
    let payload: Vec<u8> = match data.int_in_range(0..=3)? {
        0 => data.bytes(length.min(data.len()))?.to_vec(),
        1 => "aé\u{10348}\"".bytes().cycle().take(length).collect(),
        2 => [u16::to_be_bytes(data.int_in_range(995..=1020)?).as_slice(), b"why"].concat(),
        _ => "1".repeat(length).into_bytes(),
    };
    let mut frame = vec![first];
    let masked = if data.ratio(63, 64)? { 0x80 } else { 0 };
    match (data.int_in_range(0..=7)?, u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (1.., Ok(short @ ..126), _) => frame.push(masked | short),
        (0 | 2.., _, Ok(middle)) => {
            frame.push(masked | 126);
            frame.extend(middle.to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = data.arbitrary()?;
    if masked != 0 {
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend(payload);
    }
    Ok(frame)
}

/// Sends through a server's end over a stream that takes little at a time, and asks a client what came.
fn writes(data: &mut Unstructured<'_>) -> Result<()> {
    let stream = Stream::default();
    stream.wire().piece = usize::MAX;
    let kind = data.int_in_range(0..=2)?;
    let limits = limits(1 << 20);
    if kind == 0 {
        let server = at_once(PlainWebSocket::new(stream.clone(), limits));
        let (fed, pings, came) = write_by(server, &stream, data)?;
        let mut expected = Vec::new();
        for frame in fed {
            expected.push(match frame {
                Frame::Message(Message { body: Body::Json(json), .. }) => Raw::text(json.as_str()),
                Frame::Message(Message { body: Body::Binary(bytes), .. }) => Raw::Binary(bytes),
                Frame::Ping(number) => {
                    Raw::Ping(number.map_or_else(Bytes::new, |number| number.to_be_bytes().to_vec().into()))
                }
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(but_answers(came, &pings), expected);
        return Ok(());
    }
    let encoding = if kind == 1 { Encoding::Json } else { Encoding::Binary };
    // It follows the client: an empty batch is enough.
    stream.push(&[if kind == 1 { 0x81 } else { 0x82 }, 0x80, 0, 0, 0, 0]);
    let server = at_once(WebSocket::server(stream.clone(), limits));
    let (fed, pings, came) = write_by(server, &stream, data)?;
    let mut frames = Vec::new();
    for message in but_answers(came, &pings) {
        assert_eq!(message.is_text(), encoding == Encoding::Json);
        let batch = Batch::new(message.into_data(), encoding, Role::Server, limits);
        let decoded: std::result::Result<Vec<_>, _> = batch.into_iter().flatten().collect();
        let Ok(decoded) = decoded else { panic!("{decoded:?}") };
        frames.extend(decoded);
    }
    assert_eq!(frames, fed);
    Ok(())
}

/// All that came but answers and the close at the end. The answers are to pings, in order; some may be missing, where
/// nothing could be written.
fn but_answers(mut came: Vec<Raw>, pings: &[Vec<u8>]) -> Vec<Raw> {
    let Some(Raw::Close(Some(close))) = came.pop() else { panic!("no close at the end") };
    assert_eq!(u16::from(close.code), 1000);
    let mut pings = pings.iter();
    came.retain(|message| {
        let Raw::Pong(answer) = message else { return true };
        assert!(pings.any(|ping| ping == answer), "an answer to nothing");
        false
    });
    came
}

type Sent = (Vec<Frame>, Vec<Vec<u8>>, Vec<Raw>);

/// Plays with an end, and then lets all of it through: what was fed, the pings that came, what a client reads.
fn write_by(mut server: impl Transport, stream: &Stream, data: &mut Unstructured<'_>) -> Result<Sent> {
    let mut client = Client::new(stream);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut fed, mut pings, mut came) = (Vec::new(), Vec::new(), Vec::new());
    let mut seq = Seq::ZERO;
    receive(&mut server, &mut cx);
    for _ in 0..40 {
        if data.is_empty() {
            break;
        }
        match data.int_in_range(0..=7)? {
            0..=2 => {
                if !matches!(server.poll_ready(&mut cx), Poll::Ready(Ok(()))) {
                    continue;
                }
                let Some(next) = seq.next() else { break };
                seq = next;
                let length = match data.int_in_range(0..=3)? {
                    0 => data.int_in_range(0..=60_000)?,
                    1 => data.int_in_range(100..=140)?,
                    2 => data.int_in_range(FRAGMENT - 40..=FRAGMENT + 4)?,
                    _ => data.int_in_range(0..=30)?,
                };
                let fill = data.arbitrary::<u8>()?;
                let body = if fill & 1 == 0 {
                    Body::from("é".repeat(length / 2).as_str())
                } else {
                    Body::from((0..length).map(|at| fill.wrapping_add((at % 251) as u8)).collect::<Vec<_>>())
                };
                let message = Frame::Message(Message { seq, kind: MessageKind::Plain, body });
                server.start_send(&message);
                fed.push(message);
            }
            3 => {
                if matches!(server.poll_ready(&mut cx), Poll::Ready(Ok(()))) {
                    let ping = Frame::Ping(data.arbitrary::<Option<u8>>()?.map(u64::from));
                    server.start_send(&ping);
                    fed.push(ping);
                }
            }
            4 => {
                let length = data.int_in_range(0..=3)?;
                let payload = data.bytes(length.min(data.len()))?.to_vec();
                stream.push(&[0x89, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
                stream.push(&payload);
                pings.push(payload);
                receive(&mut server, &mut cx);
            }
            5 => stream.wire().room = data.int_in_range(0..=40_000)?,
            6 => stream.wire().room = data.int_in_range(0..=200)?,
            _ => assert!(!matches!(server.poll_flush(&mut cx), Poll::Ready(Err(_)))),
        }
    }
    // One write at a time, and what it takes changes.
    let mut closed = false;
    for round in 0..100_000 {
        stream.wire().room = 1 + round * 7919 % 5000;
        closed = matches!(server.poll_close(&mut cx), Poll::Ready(Ok(())));
        came.extend(client.read());
        if closed {
            break;
        }
        if came.last().is_some_and(Raw::is_close) {
            stream.end();
        }
    }
    assert!(closed, "it is not closed");
    Ok((fed, pings, came))
}

/// Reads what there is, which is nothing that a session would hear of but receipts.
fn receive(server: &mut impl Transport, cx: &mut Context<'_>) {
    for _ in 0..8 {
        match server.poll_recv(cx) {
            Poll::Pending | Poll::Ready(Ok(Received::Frame(Frame::Ack(_)))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The outcome of a future that waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}
