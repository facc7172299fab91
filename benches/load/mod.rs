//! What benches that put a load on a server of their own share: the server's process, and WebSockets by hand.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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

/// A server's WebSocket message, if all of it is there.
pub(crate) fn take_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let (header, length) = match *buffer.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?]))),
        127 => (10, u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    if buffer.len() < header + length {
        return None;
    }
    buffer.advance(header);
    Some(buffer.split_to(length).freeze())
}
