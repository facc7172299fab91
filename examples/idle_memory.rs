//! What a session weighs: idle, after a large message each way, and what stays when it is over.
//!
//! `cargo run --release --example idle_memory [COUNT ...]` starts a server in a process of its own and opens COUNT
//! sessions (1,000 and 10,000 by default). It prints by how many KiB a session the server's resident memory grew when
//! all had said nothing after their greeting; when each had echoed a message of 64 KiB; and when the server had closed
//! all of them. A long-polling session has a poll parked; nothing is encrypted. Each end needs as many file
//! descriptors as there are sessions.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use throughline::frame::{
    Ack, Attachment, Batch, BatchWriter, Body, Encoding, Epoch, Frame, Hello, Limits, Message, MessageKind,
    Poll, Push, Role, Seq, SessionId, SessionKey, TransportKind, Window,
};
use throughline::{Hub, Server, Socket};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

/// The body of the large message: a JSON string of 64 KiB.
const LARGE: usize = 64 << 10;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--serve") {
        return runtime.block_on(serve());
    }
    if arguments.is_empty() {
        arguments = vec!["1000".to_owned(), "10000".to_owned()];
    }
    println!("KiB of resident memory per session:");
    println!(
        "{:>8} {:>14} {:>8} {:>13} {:>12}",
        "sessions", "transport", "idle", "after 64 KiB", "all closed"
    );
    for count in arguments {
        let count: usize = count.parse()?;
        for transport in TransportKind::ALL {
            let [idle, used, closed] = runtime.block_on(measure(count, transport))?;
            println!("{count:>8} {transport:>14} {idle:>8.2} {used:>13.2} {closed:>12.2}");
        }
    }
    Ok(())
}

/// A server process that ends with the measurement.
struct Served {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Served {
    fn start() -> Result<(Self, String), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut address = String::new();
        output.read_line(&mut address)?;
        Ok((Self { process: child, output }, address.trim().to_owned()))
    }

    /// Has the server close all sessions, and waits until it has.
    fn shut_down(&mut self) -> Result<(), Failure> {
        self.process.stdin.as_mut().ok_or("no input")?.write_all(b"\n")?;
        self.output.read_line(&mut String::new())?;
        Ok(())
    }

    /// Resident memory, in KiB.
    fn resident(&self) -> Result<f64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().next().ok_or("no number")?.parse()?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn measure(count: usize, transport: TransportKind) -> Result<[f64; 3], Failure> {
    let (mut server, address) = Served::start()?;
    // One session before the count, so that what is made once is not counted.
    let mut warm = Peer::open(&address, count, transport).await?;
    warm.echo().await?;
    let settle = || tokio::time::sleep(Duration::from_millis(500));
    settle().await;
    let before = server.resident()?;
    let grown = |server: &Served| Ok::<_, Failure>((server.resident()? - before) / count as f64);
    let mut peers = Vec::with_capacity(count);
    for number in 0..count {
        peers.push(Peer::open(&address, number, transport).await?);
    }
    settle().await;
    let idle = grown(&server)?;
    for peer in &mut peers {
        peer.echo().await?;
    }
    settle().await;
    let used = grown(&server)?;
    server.shut_down()?;
    drop(peers);
    settle().await;
    Ok([idle, used, grown(&server)?])
}

/// A session's other end, by hand.
struct Peer {
    address: String,
    session: SessionId,
    key: SessionKey,
    epoch: Epoch,
    transport: TransportKind,
    stream: TcpStream,
}

impl Peer {
    /// Opens a session, up to its idle state.
    async fn open(address: &str, number: usize, transport: TransportKind) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect(address).await?;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&bytes[..8]);
        let (session, key) = (SessionId::from_bytes(id), SessionKey::from_bytes(bytes));
        let window = Window { messages: 256, bytes: 1 << 20 };
        let hello = Hello::new(session, key.clone(), transport, window);
        let hello = encode(&[Frame::Hello(Box::new(hello))]);
        match transport {
            TransportKind::WebSocket => {
                let request = format!(
                    "GET /live HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: throughline.v1\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).await?;
                read_until(&mut stream, 0, b"\r\n\r\n").await?;
                write_text(&mut stream, &hello).await?;
            }
            TransportKind::Sse => post(&mut stream, address, "text/event-stream", &hello).await?,
            _ => post(&mut stream, address, "application/x-ndjson", &hello).await?,
        }
        let answer = read_until(&mut stream, 0, b"}]").await?;
        let at = answer.windows(2).position(|pair| pair == b"[\"").ok_or("no welcome")?;
        let end = answer.windows(2).rposition(|pair| pair == b"}]").ok_or("no welcome")?;
        let batch = bytes::Bytes::copy_from_slice(answer.get(at..end + 2).unwrap_or_default());
        let welcome = Batch::new(batch, Encoding::Json, Role::Server, Limits::default())?.next();
        let Some(Ok(Frame::Welcome(welcome))) = welcome else { return Err("no welcome".into()) };
        let address = address.to_owned();
        let mut peer = Self { address, session, key, epoch: welcome.epoch, transport, stream };
        peer.poll(Seq::ZERO).await?;
        Ok(peer)
    }

    /// Parks a poll, if this is long-polling.
    async fn poll(&mut self, received: Seq) -> Result<(), Failure> {
        if self.transport != TransportKind::LongPolling {
            return Ok(());
        }
        let poll = encode(&[Frame::Poll(Box::new(Poll {
            session: self.session,
            key: self.key.clone(),
            epoch: self.epoch,
            attachment: Attachment::FIRST,
            received,
            taken: None,
            hold_ms: 3_600_000,
        }))]);
        post(&mut self.stream, &self.address, "application/x-ndjson", &poll).await
    }

    /// Sends the large message, reads its echo and acknowledges it.
    async fn echo(&mut self) -> Result<(), Failure> {
        let first = Seq::new(1).ok_or("no number")?;
        let body = Body::json(&"x".repeat(LARGE - 2))?;
        self.say(Frame::Message(Message { seq: first, kind: MessageKind::Plain, body })).await?;
        let end: &[u8] = if self.transport == TransportKind::Sse { b"]\n\n\r\n" } else { b"]" };
        read_until(&mut self.stream, LARGE, end).await?;
        match self.transport {
            TransportKind::LongPolling => self.poll(first).await,
            _ => self.say(Frame::Ack(Ack { received: first, taken: first })).await,
        }
    }

    /// Says a frame: on the WebSocket, or by a push on a connection of its own.
    async fn say(&mut self, frame: Frame) -> Result<(), Failure> {
        if self.transport == TransportKind::WebSocket {
            return write_text(&mut self.stream, &encode(&[frame])).await;
        }
        let push = Frame::Push(Box::new(Push {
            session: self.session,
            key: self.key.clone(),
            epoch: self.epoch,
            attachment: Attachment::FIRST,
        }));
        let mut stream = TcpStream::connect(&self.address).await?;
        post(&mut stream, &self.address, "application/x-ndjson", &encode(&[push, frame])).await?;
        read_until(&mut stream, 0, b"]").await?;
        Ok(())
    }
}

fn encode(frames: &[Frame]) -> bytes::Bytes {
    let mut batch = BatchWriter::new(Encoding::Json);
    frames.iter().for_each(|frame| batch.push(frame));
    batch.take()
}

/// Writes a masked text message whose mask is nothing.
async fn write_text(stream: &mut TcpStream, text: &[u8]) -> Result<(), Failure> {
    let mut message = vec![0x81, 0x80 | 127];
    message.extend_from_slice(&(text.len() as u64).to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(text);
    Ok(stream.write_all(&message).await?)
}

async fn post(stream: &mut TcpStream, address: &str, accept: &str, body: &[u8]) -> Result<(), Failure> {
    let head = format!(
        "POST /live HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    Ok(stream.write_all(&[head.as_bytes(), body].concat()).await?)
}

/// Reads more than so many bytes, until what ends them comes.
async fn read_until(stream: &mut TcpStream, more_than: usize, end: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut read = Vec::new();
    while read.len() <= more_than || !read.windows(end.len()).any(|window| window == end) {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(format!("ended after {}", String::from_utf8_lossy(&read)).into());
        }
    }
    Ok(read)
}

async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    // Polls are to be parked until the measurement ends.
    let live = Server::builder().max_hold(Duration::from_secs(600)).serve(echo)?;
    let mut line = String::new();
    let mut input = tokio::io::BufReader::new(tokio::io::stdin());
    let mut asked = std::pin::pin!(input.read_line(&mut line));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = &mut asked => break,
        };
        let service = live.service();
        tokio::spawn(async move {
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            let _ = connection.with_upgrades().await;
        });
    }
    live.shutdown("measured", Duration::from_secs(10)).await;
    println!("closed");
    std::io::stdout().flush()?;
    std::future::pending().await
}

async fn echo(mut socket: Socket, _hub: Hub) {
    while let Ok(message) = socket.recv().await {
        let _ = socket.try_send(message.body);
    }
}
