//! Wire protocols as sans-IO client codecs: bytes in, events and bytes out.
//!
//! To add a protocol: implement `Codec`, and add one arm to `make`. Everything else (workloads,
//! measurement, reporting) is protocol-blind. A codec runs on one TCP connection, or on two (`side`).
mod centrifuge;
mod http;
mod nchan;
mod socketio;
mod sockjs;
mod sse;
mod tcp;
mod throughline;
mod websocket;

use self::throughline::Encoding::{Binary, Json};
use std::time::Instant;

pub enum Ev<'a> {
    /// Handshake done (and, for subscribers, subscription confirmed).
    Open,
    /// An application message (text, without the protocol's envelope).
    Msg(&'a [u8]),
    /// The acknowledgement of an earlier `send_ack`.
    Ack,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Echo,
    Sub,
    Pub,
}

/// What a client needs to resume its session after a drop.
#[derive(Clone, Default, Debug)]
pub struct Resume {
    pub session: String,
    pub offset: String,
}

pub type Res<T> = Result<T, String>;

pub trait Codec {
    /// Called once the TCP connection is up.
    fn start(&mut self, out: &mut Vec<u8>);
    /// Takes received bytes; returns how many were consumed (the rest is presented again with more).
    fn feed(&mut self, data: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize>;
    /// One message: echoed (Role::Echo) or published (Role::Pub).
    fn send(&mut self, payload: &[u8], out: &mut Vec<u8>);
    /// One message whose receipt the server acknowledges.
    fn send_ack(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let _ = (payload, out);
        panic!("this protocol has no acks");
    }
    /// The last word of a client that leaves for good, for protocols that have one.
    fn part(&mut self) {}
    /// Called before each write: what `send` collected goes out as the protocol batches it.
    fn seal(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }
    /// When `tick` is to be called, because the protocol owes something by then.
    fn due(&self) -> Option<Instant> {
        None
    }
    fn tick(&mut self) {}
    /// What is to be written on a second connection, for protocols that have one.
    fn side(&mut self) -> Option<&mut Vec<u8>> {
        None
    }
    /// Bytes received on the second connection.
    fn feed_side(&mut self, data: &[u8], sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let _ = sink;
        Ok(data.len())
    }
    /// Whether the protocol promises that nothing is lost: then a gap fails the run.
    fn promises_all(&self) -> bool {
        false
    }
    /// What to pass to `Cfg::resume` to resume this session.
    fn resume(&self) -> Option<Resume> {
        None
    }
}

#[derive(Clone)]
pub struct Cfg {
    pub host: String,
    pub path: String,
    pub role: Role,
    pub size: usize,
    pub binary: bool,
    pub resume: Option<Resume>,
    pub seq: usize,
    /// A message to send right behind the handshake's first word, for protocols that can.
    pub event: Option<Vec<u8>>,
}

/// (codec) <- name. The one place to register a protocol.
pub fn make(proto: &str, c: Cfg) -> Box<dyn Codec> {
    match proto {
        "tcp" => Box::new(tcp::Tcp { c, open: false }),
        "ws" => Box::new(websocket::Ws::new(c)),
        "throughline" => Box::new(throughline::WebSocket::new(c, Binary)),
        "throughline-json" => Box::new(throughline::WebSocket::new(c, Json)),
        "throughline-sse" => Box::new(throughline::Stream::new(c, Json)),
        "throughline-stream" => Box::new(throughline::Stream::new(c, Binary)),
        "throughline-poll" => Box::new(throughline::Polling::new(c, Json)),
        "throughline-poll-binary" => Box::new(throughline::Polling::new(c, Binary)),
        "sio" => Box::new(socketio::Sio::new(c)),
        "sio-poll" => Box::new(socketio::SioPoll::new(c)),
        "sse" => Box::new(sse::Sse::new(c)),
        "post" => Box::new(sse::Post::new(c)),
        "nchan-poll" => Box::new(nchan::NchanPoll::new(c)),
        "sockjs-xhr" => Box::new(sockjs::SockJsXhr::new(c)),
        "sockjs-poll" => Box::new(sockjs::SockJsPoll::new(c)),
        "sockjs-ws" => Box::new(sockjs::SockJsWs::new(c)),
        "centrifuge" => Box::new(centrifuge::Centrifuge::new(c)),
        _ => panic!("unknown protocol {proto}"),
    }
}
