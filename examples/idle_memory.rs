//! What an idle session weighs, over each transport.
//!
//! `cargo run --release --example idle_memory [COUNT ...]` starts a server in a process of its own, opens COUNT sessions
//! (1,000 and 10,000 by default) that say nothing after their greeting, and prints by how much the server's
//! resident memory grew for each. A long-polling session has a poll parked; nothing is encrypted. Each end needs as
//! many file descriptors as there are sessions.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use throughline::frame::{
    Attachment, Batch, BatchWriter, Encoding, Frame, Hello, Limits, Poll, Role, Seq, SessionId, SessionKey,
    TransportKind, VERSION, Window,
};
use throughline::{Hub, Server, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--serve") {
        return runtime.block_on(serve());
    }
    if arguments.is_empty() {
        arguments = vec!["1000".to_owned(), "10000".to_owned()];
    }
    println!("{:>8} {:>14} {:>14} {:>16}", "sessions", "transport", "RSS grew, KiB", "KiB per session");
    for count in arguments {
        let count: usize = count.parse()?;
        for transport in TransportKind::ALL {
            let grown = runtime.block_on(measure(count, transport))?;
            println!("{count:>8} {transport:>14} {grown:>14} {:>16.2}", grown as f64 / count as f64);
        }
    }
    Ok(())
}

/// A server process that ends with the measurement.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(count: usize, transport: TransportKind) -> Result<u64, Failure> {
    let mut child = Command::new(std::env::current_exe()?).arg("--serve").stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    let server = Served(child);
    let address = address.trim().to_owned();
    // One session before the count, so that what is made once is not counted.
    let _warm = open(&address, count, transport).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = resident(server.0.id())?;
    let mut open_sessions = Vec::with_capacity(count);
    for number in 0..count {
        open_sessions.push(open(&address, number, transport).await?);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(resident(server.0.id())?.saturating_sub(before))
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().next().ok_or("no number")?.parse()?)
}

/// Opens a session by hand, up to its idle state.
async fn open(address: &str, number: usize, transport: TransportKind) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&bytes[..8]);
    let (session, key) = (SessionId::from_bytes(id), SessionKey::from_bytes(bytes));
    let hello = Frame::Hello(Box::new(Hello {
        version: VERSION,
        session,
        key: key.clone(),
        epoch: None,
        attachment: Attachment::FIRST,
        transport,
        received: Seq::ZERO,
        taken: None,
        window: Window { messages: 256, bytes: 1 << 20 },
        candidate: false,
        auth: None,
        client: None,
    }));
    match transport {
        TransportKind::WebSocket => {
            let request = format!(
                "GET /live HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Protocol: throughline.v1\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            read_until(&mut stream, b"\r\n\r\n").await?;
            let text = encode(&hello);
            let mut message = vec![0x81, 0x80 | 126];
            message.extend_from_slice(&u16::try_from(text.len())?.to_be_bytes());
            message.extend_from_slice(&[0; 4]);
            message.extend_from_slice(&text);
            stream.write_all(&message).await?;
            read_until(&mut stream, b"]").await?;
        }
        TransportKind::Sse => {
            post(&mut stream, address, "text/event-stream", &encode(&hello)).await?;
            read_until(&mut stream, b"]\n\n").await?;
        }
        TransportKind::LongPolling => {
            post(&mut stream, address, "application/x-ndjson", &encode(&hello)).await?;
            let answer = read_until(&mut stream, b"}]").await?;
            let at = answer.windows(2).position(|pair| pair == b"[\"").ok_or("no welcome")?;
            let batch = bytes::Bytes::copy_from_slice(answer.get(at..).unwrap_or_default());
            let welcome = Batch::new(batch, Encoding::Json, Role::Server, Limits::default())?.next();
            let Some(Ok(Frame::Welcome(welcome))) = welcome else { return Err("no welcome".into()) };
            let poll = Frame::Poll(Box::new(Poll {
                session,
                key,
                epoch: welcome.epoch,
                attachment: Attachment::FIRST,
                received: Seq::ZERO,
                taken: None,
                hold_ms: 3_600_000,
            }));
            post(&mut stream, address, "application/x-ndjson", &encode(&poll)).await?;
        }
    }
    Ok(stream)
}

fn encode(frame: &Frame) -> bytes::Bytes {
    let mut batch = BatchWriter::new(Encoding::Json);
    batch.push(frame);
    batch.take()
}

async fn post(stream: &mut TcpStream, address: &str, accept: &str, body: &[u8]) -> Result<(), Failure> {
    let head = format!(
        "POST /live HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    Ok(())
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut read = Vec::new();
    while !read.windows(end.len()).any(|window| window == end) {
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
    let live = Server::builder().max_hold(Duration::from_secs(600)).serve(listen)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = live.service();
        tokio::spawn(async move {
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection =
                hyper::server::conn::http1::Builder::new().writev(false).serve_connection(io, service);
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn listen(mut socket: Socket, _hub: Hub) {
    while socket.recv().await.is_ok() {}
}
