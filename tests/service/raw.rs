//! A server on a port of its own, and requests as bytes.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use throughline::frame::{
    Batch, BatchWriter, Body, Encoding, Frame, Hello, Limits, Message, MessageKind, Poll, Push, Role, Seq,
    SessionId, SessionKey, TransportKind, Welcome, Window,
};
use throughline::server::Builder;
use throughline::{Hub, Server, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const WEBSOCKET: &str = "GET /live HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
    Sec-WebSocket-Protocol: throughline.v1\r\n\r\n";

/// Fails a test that hangs.
pub(crate) async fn watchdog<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
}

/// Echoes; `"bye"` ends the session.
pub(crate) async fn echo(mut socket: Socket, _hub: Hub) {
    while let Ok(message) = socket.recv().await {
        if message.body == Body::from("bye") || socket.send(message.body).await.is_err() {
            return;
        }
    }
}

pub(crate) struct Host {
    pub(crate) live: Server,
    pub(crate) address: SocketAddr,
}

impl Host {
    pub(crate) async fn echo(builder: Builder) -> Self {
        Self::of(builder.serve(echo).unwrap()).await
    }

    pub(crate) async fn of(live: Server) -> Self {
        Self::start(live, true).await
    }

    /// With a host that forgot `with_upgrades`.
    pub(crate) async fn without_upgrades(live: Server) -> Self {
        Self::start(live, false).await
    }

    async fn start(live: Server, upgrades: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = live.service();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                tokio::spawn(async move {
                    let mut http = hyper::server::conn::http1::Builder::new();
                    let connection =
                        http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                    if upgrades {
                        let _ = connection.with_upgrades().await;
                    } else {
                        let _ = connection.await;
                    }
                });
            }
        });
        Self { live, address }
    }

    pub(crate) async fn open(&self, request: impl AsRef<[u8]>) -> Wire {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_ref()).await.unwrap();
        Wire { stream, read: Vec::new() }
    }

    /// A request whose answer ends.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        watchdog(async { self.open(request).await.answer().await }).await
    }

    pub(crate) async fn post(&self, frames: &[Frame], headers: &str) -> Answer {
        self.ask(post(&json(frames), headers)).await
    }

    /// Opens a session by long-polling.
    pub(crate) async fn poller(&self) -> Welcome {
        self.post(&[hello(TransportKind::LongPolling)], "").await.welcome()
    }

    /// Opens a WebSocket.
    pub(crate) async fn websocket(&self, request: &str) -> Wire {
        let mut wire = self.open(request).await;
        let head = watchdog(wire.until(b"\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        wire
    }
}

pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// What comes up to and with an end.
    pub(crate) async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let count = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(count > 0, "ended after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// What still comes until the end.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        self.stream.read_to_end(&mut self.read).await.unwrap();
        std::mem::take(&mut self.read)
    }

    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.stream.read_buf(&mut self.read).await.unwrap() > 0, "it ended");
        }
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.until(b"\r\n\r\n").await;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let mut body = Vec::new();
        if let Some(length) = find("content-length") {
            body = self.exactly(length.parse().unwrap()).await;
        } else if find("transfer-encoding").is_some() {
            loop {
                let size = self.until(b"\r\n").await;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                body.extend(self.exactly(size + 2).await.into_iter().take(size));
                if size == 0 {
                    break;
                }
            }
        }
        Answer { status, headers, body }
    }

    /// Sends a WebSocket message, masked with zeros.
    pub(crate) async fn say(&mut self, text: &str) {
        let mut bytes = vec![0x81];
        match text.len() {
            short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
            long => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(text.as_bytes());
        self.write(&bytes).await;
    }

    /// Receives a WebSocket message: opcode and payload.
    pub(crate) async fn hear(&mut self) -> (u8, Vec<u8>) {
        watchdog(async {
            let head = self.exactly(2).await;
            let length = match head[1] {
                126 => usize::from(u16::from_be_bytes(self.exactly(2).await.try_into().unwrap())),
                short => usize::from(short),
            };
            (head[0] & 0xf, self.exactly(length).await)
        })
        .await
    }

    /// Receives a text message with frames.
    pub(crate) async fn frames(&mut self) -> Vec<Frame> {
        let (opcode, payload) = self.hear().await;
        assert_eq!(opcode, 1);
        decode(&payload)
    }

    /// Receives text messages until one frame is what is waited for.
    pub(crate) async fn frame<T>(&mut self, wanted: impl Fn(&Frame) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.frames().await.iter().find_map(&wanted) {
                return found;
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn frames(&self) -> Vec<Frame> {
        decode(&self.body)
    }

    pub(crate) fn welcome(&self) -> Welcome {
        assert_eq!(self.status, 200, "{}", self.text());
        match self.frames().into_iter().next() {
            Some(Frame::Welcome(welcome)) => *welcome,
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// Status and code of an answer that is a close.
    #[track_caller]
    pub(crate) fn close(&self) -> (u16, String) {
        match self.frames().as_slice() {
            [Frame::Close(close)] => (self.status, close.code.to_string()),
            other => panic!("{}: no close: {other:?}", self.status),
        }
    }
}

pub(crate) fn json(frames: &[Frame]) -> Vec<u8> {
    encode(frames, Encoding::Json)
}

pub(crate) fn encode(frames: &[Frame], encoding: Encoding) -> Vec<u8> {
    let mut batch = BatchWriter::new(encoding);
    frames.iter().for_each(|frame| batch.push(frame));
    batch.take().to_vec()
}

pub(crate) fn text(frames: &[Frame]) -> String {
    String::from_utf8(json(frames)).unwrap()
}

pub(crate) fn decode(bytes: &[u8]) -> Vec<Frame> {
    decode_as(bytes, Encoding::Json)
}

pub(crate) fn decode_as(bytes: &[u8], encoding: Encoding) -> Vec<Frame> {
    let bytes = bytes.to_vec().into();
    let batch = Batch::new(bytes, encoding, Role::Server, Limits::default()).unwrap();
    batch.map(Result::unwrap).collect()
}

pub(crate) fn post(body: &[u8], headers: &str) -> Vec<u8> {
    let head =
        format!("POST /live HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn id() -> SessionId {
    SessionId::from_bytes([1; 16])
}

pub(crate) fn key() -> SessionKey {
    SessionKey::from_bytes([2; 32])
}

pub(crate) fn plain_hello(transport: TransportKind) -> Hello {
    Hello::new(id(), key(), transport, Window { messages: 16, bytes: 1 << 20 })
}

pub(crate) fn hello(transport: TransportKind) -> Frame {
    Frame::Hello(Box::new(plain_hello(transport)))
}

pub(crate) fn message(seq: u64, body: impl Into<Body>) -> Frame {
    Frame::Message(Message { seq: Seq::new(seq).unwrap(), kind: MessageKind::Plain, body: body.into() })
}

pub(crate) fn poll(welcome: &Welcome, received: u64, hold_ms: u64) -> Frame {
    Frame::Poll(Box::new(Poll {
        session: welcome.session,
        key: key(),
        epoch: welcome.epoch,
        attachment: welcome.attachment,
        received: Seq::new(received).unwrap(),
        taken: None,
        hold_ms,
    }))
}

pub(crate) fn push(welcome: &Welcome) -> Frame {
    Frame::Push(Box::new(Push {
        session: welcome.session,
        key: key(),
        epoch: welcome.epoch,
        attachment: welcome.attachment,
    }))
}
