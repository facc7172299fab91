//! What benches that put a load on servers of their own share: the servers' processes, the comparison, and WebSockets by hand.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use throughline::Server;
use throughline::frame::{Hello, SessionId, SessionKey, TransportKind, Window};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Compares, or is one of the servers that are compared.
pub(crate) fn main(compare: impl FnOnce(), serve: impl FnOnce(&str)) {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--serve") {
        Some(at) => serve(arguments.get(at + 1).map_or("", String::as_str)),
        // `cargo test --benches` only wants to know that it starts.
        None if arguments.iter().any(|argument| argument == "--test") => {}
        None => compare(),
    }
}

/// Measures each in turn, so many times, from the second core, and divides the medians by the first one's.
///
/// What is measured is microseconds of a server's CPU per `what`, and how much of its core it used.
pub(crate) fn compare<const N: usize>(
    names: [&str; N],
    rounds: usize,
    what: &str,
    mut measure: impl FnMut(&str) -> (f64, f64),
) {
    let own = std::process::id().to_string();
    let _ = Command::new("taskset").args(["-acp", "1", &own]).stdout(Stdio::null()).status();
    let mut costs = names.map(|_| Vec::new());
    for round in 1..=rounds {
        for (name, costs) in names.iter().zip(&mut costs) {
            let (micros, used) = measure(name);
            println!(
                "round {round}: {name:20} {micros:.3} us of server CPU per {what}, core {:.0} % used",
                used * 100.0
            );
            costs.push(micros);
        }
    }
    let medians = costs.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    });
    for (name, median) in names.iter().zip(medians) {
        println!("{name:20} median {median:.3} us, ratio {:.2}", median / medians[0]);
    }
}

/// What a server used while a count rose, for so many seconds: see [`compare`].
pub(crate) async fn watch(server: &Owned, seconds: u64, count: impl Fn() -> u64) -> (f64, f64) {
    let (began, run, before) = (Instant::now(), server.run_nanos(), count());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (run, count) = (server.run_nanos() - run, count() - before);
    assert!(count > 1000, "only {count} messages came");
    (run as f64 / 1e3 / count as f64, run as f64 / 1e9 / began.elapsed().as_secs_f64())
}

/// Is a server, on one thread, until it is killed: says where it listens, and serves.
pub(crate) fn serve<F: Future<Output = ()>>(with: impl FnOnce(TcpListener) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        with(listener).await;
    });
}

/// Serves sessions on whatever connects.
pub(crate) async fn serve_sessions(listener: TcpListener, live: &Server) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let service = live.service();
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

/// The first word of a session by hand, one for each number.
pub(crate) fn hello(number: usize) -> Hello {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&key[..8]);
    let (session, key) = (SessionId::from_bytes(id), SessionKey::from_bytes(key));
    Hello::new(session, key, TransportKind::WebSocket, Window { messages: 256, bytes: 1 << 20 })
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Ends its process when dropped, whatever happens to the measurement.
pub(crate) struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Owned {
    /// This program as a server of a kind, on the first core, and where it listens.
    pub(crate) fn serve(name: &str) -> (Self, String) {
        let itself = std::env::current_exe().unwrap();
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(itself).args(["--serve", name]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("taskset (util-linux) is needed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().to_owned())
    }

    /// The scheduler's run time of all its threads.
    pub(crate) fn run_nanos(&self) -> u64 {
        let process = self.0.id();
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("needs /proc");
        let of = |path: std::path::PathBuf| -> Option<u64> {
            std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        };
        tasks.flatten().filter_map(|task| of(task.path())).sum()
    }
}

/// A WebSocket, of this protocol or of none.
pub(crate) async fn upgrade(address: &str, subprotocol: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let protocol = if subprotocol { "Sec-WebSocket-Protocol: throughline.v1\r\n" } else { "" };
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A client's WebSocket message, masked with zeros (RFC 6455, section 5.3).
pub(crate) fn put_message(opcode: u8, payload: &[u8], buffer: &mut BytesMut) {
    buffer.extend_from_slice(&[0x80 | opcode]);
    match payload.len() {
        length @ 0..=125 => buffer.extend_from_slice(&[0x80 | length as u8]),
        length => {
            buffer.extend_from_slice(&[0x80 | 126]);
            buffer.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(payload);
}

/// A server's WebSocket message, if all of it is there. A close ends the measurement: with what it says.
pub(crate) fn take_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let (header, length) = match *buffer.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?]))),
        127 => (10, u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    if buffer.len() < header + length {
        return None;
    }
    let opcode = buffer[0] & 0xf;
    buffer.advance(header);
    let payload = buffer.split_to(length).freeze();
    assert!(opcode != 8, "the server closed: {}", String::from_utf8_lossy(&payload));
    Some(payload)
}
