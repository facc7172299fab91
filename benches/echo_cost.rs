//! What an acknowledged echo costs the server in CPU time, beside a bare tokio-tungstenite echo in the same run.
//!
//! `cargo bench --bench echo_cost` starts each server in a process of its own on one core, drives it from another with
//! 64 WebSockets that keep 16 messages of 64 bytes in flight, and divides the scheduler's run time of the server
//! by the messages echoed. Servers take turns, `ROUNDS` times (default 5); the medians' ratio is the result.
//! `CONNECTIONS`, `IN_FLIGHT` and `SECONDS` change the load.

mod load;

use std::time::Duration;

use bytes::BytesMut;
use futures_util::{FutureExt, SinkExt, StreamExt};
use load::{Owned, put_message, setting, take_message, upgrade};
use throughline::frame::{
    Ack, Batch, BatchWriter, Body, Encoding, Frame, Limits, Message, MessageKind, Role, Seq,
};
use throughline::{Hub, Server, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const BODY: usize = 64;

fn main() {
    load::main(compare, serve);
}

fn compare() {
    let (rounds, seconds) = (setting("ROUNDS", 5), setting("SECONDS", 3));
    let (connections, in_flight) = (setting("CONNECTIONS", 64), setting("IN_FLIGHT", 16));
    println!(
        "echo of {BODY} B, {connections} WebSockets, {in_flight} in flight, {rounds} rounds of {seconds} s"
    );
    let names = ["tungstenite", "throughline-binary", "throughline-json"];
    load::compare(names, rounds, "message", |name| measure(name, connections, in_flight, seconds as u64));
}

/// Microseconds of the server's CPU per message, and how much of its core it used.
fn measure(name: &str, connections: usize, in_flight: usize, seconds: u64) -> (f64, f64) {
    let (server, address) = Owned::serve(name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let echoed = std::rc::Rc::new(std::cell::Cell::new(0_u64));
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        for number in 0..connections {
            let (address, name, echoed) = (address.clone(), name.to_owned(), echoed.clone());
            tokio::task::spawn_local(async move {
                match name.as_str() {
                    "tungstenite" => drive_plain(&address, in_flight, &echoed).await,
                    "throughline-binary" => {
                        drive(&address, number, Encoding::Binary, in_flight, &echoed).await
                    }
                    _ => drive(&address, number, Encoding::Json, in_flight, &echoed).await,
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        load::watch(&server, seconds, || echoed.get()).await
    })
}

// The load: bytes over TCP, so that the generator is never what is measured.

async fn drive_plain(address: &str, in_flight: usize, echoed: &std::cell::Cell<u64>) {
    let mut stream = upgrade(address, false).await;
    let mut one = BytesMut::new();
    put_message(2, &[b'x'; BODY], &mut one);
    stream.write_all(&one.repeat(in_flight)).await.unwrap();
    let mut buffer = BytesMut::with_capacity(64 << 10);
    while stream.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
        let mut count = 0;
        while take_message(&mut buffer).is_some() {
            count += 1;
        }
        echoed.set(echoed.get() + count as u64);
        if stream.write_all(&one.repeat(count)).await.is_err() {
            return;
        }
    }
}

/// A session by hand: hello, then acknowledged messages in batches, as many as were echoed.
async fn drive(
    address: &str,
    number: usize,
    encoding: Encoding,
    in_flight: usize,
    echoed: &std::cell::Cell<u64>,
) {
    let mut stream = upgrade(address, true).await;
    let body = match encoding {
        Encoding::Binary => Body::from(vec![b'x'; BODY]),
        Encoding::Json => Body::from("x".repeat(BODY - 2)),
    };
    let opcode = if encoding == Encoding::Binary { 2 } else { 1 };
    let (mut batch, mut out) = (BatchWriter::new(encoding), BytesMut::new());
    let mut sent = Seq::ZERO;
    let push = |batch: &mut BatchWriter, sent: &mut Seq, count: usize| {
        for _ in 0..count {
            *sent = sent.next().unwrap();
            batch.push(&Frame::Message(Message { seq: *sent, kind: MessageKind::Plain, body: body.clone() }));
        }
    };
    batch.push(&Frame::Hello(Box::new(load::hello(number))));
    push(&mut batch, &mut sent, in_flight);
    put_message(opcode, &batch.take(), &mut out);
    stream.write_all(&out).await.unwrap();
    let mut received = Seq::ZERO;
    let mut buffer = BytesMut::with_capacity(64 << 10);
    while stream.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
        let mut count = 0;
        while let Some(message) = take_message(&mut buffer) {
            for frame in Batch::new(message, encoding, Role::Server, Limits::default()).unwrap() {
                match frame.unwrap() {
                    Frame::Message(message) => {
                        assert_eq!(Some(message.seq), received.next(), "in order, once");
                        assert_eq!(message.body.len(), BODY);
                        received = message.seq;
                        count += 1;
                    }
                    Frame::Close(close) => panic!("closed: {close}"),
                    _ => {}
                }
            }
        }
        if count > 0 {
            echoed.set(echoed.get() + count as u64);
            batch.push(&Frame::Ack(Ack { received, taken: received }));
            push(&mut batch, &mut sent, count);
            out.clear();
            put_message(opcode, &batch.take(), &mut out);
            if stream.write_all(&out).await.is_err() {
                return;
            }
        }
    }
}

// The servers, each in a process of its own, on one core.

fn serve(name: &str) {
    load::serve(async |listener| match name {
        "tungstenite" => serve_by_hand(listener).await,
        _ => load::serve_sessions(listener, &Server::builder().serve(echo).unwrap()).await,
    });
}

async fn serve_by_hand(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(bare_echo(stream));
    }
}

async fn echo(mut socket: Socket, _hub: Hub) {
    while let Ok(message) = socket.recv().await {
        if socket.send(message.body).await.is_err() {
            return;
        }
    }
}

/// The peer: feeds many, flushes once, with the same small read buffer.
async fn bare_echo(stream: TcpStream) {
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let Ok(mut socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        let mut next = Some(message);
        while let Some(message) = next.take() {
            if (message.is_text() || message.is_binary()) && socket.feed(message).await.is_err() {
                return;
            }
            match socket.next().now_or_never() {
                Some(Some(Ok(message))) => next = Some(message),
                Some(_) => return,
                None => {}
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}
