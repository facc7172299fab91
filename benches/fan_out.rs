//! What it costs the server in CPU time to tell all members of a room something, beside a hand-written loop over
//! tokio-tungstenite connections in the same run.
//!
//! `cargo bench --bench fan_out` starts each server in a process of its own on one core; `MEMBERS` WebSockets (default
//! 1000) are read from another. The server says `BURST` messages of 64 bytes (default 4) at a time, at a pace that leaves
//! its core idle now and then; the scheduler's run time of the server is divided by the messages that arrived. The loop
//! feeds each connection the burst, made once, and flushes; it knows no receipts, no order between rooms, and waits for
//! whoever is slow. `throughline-stalled` is `throughline-rooms` with one member that reads nothing. Servers take turns,
//! `ROUNDS` times (default 3); the medians' ratio is the result.

mod load;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use load::{Owned, put_message, setting, take_message, upgrade};
use throughline::frame::{Ack, Batch, BatchWriter, Body, Encoding, Frame, Limits, Role, Seq};
use throughline::hub::{RoomConfig, Slow};
use throughline::room::payload::Join;
use throughline::{Hub, Server, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const BODY: usize = 64;

fn main() {
    load::main(compare, serve);
}

fn compare() {
    let (rounds, members) = (setting("ROUNDS", 3), setting("MEMBERS", 1000));
    println!("{BODY} B to {members} members, {} at a time, {rounds} rounds", setting("BURST", 4));
    let names = ["tungstenite", "throughline-plain", "throughline-rooms", "throughline-stalled"];
    load::compare(names, rounds, "delivery", |name| measure(name, members));
}

/// Microseconds of the server's CPU per delivery, and how much of its core it used.
fn measure(name: &str, members: usize) -> (f64, f64) {
    let (server, address) = Owned::serve(name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let heard = Rc::new(Cell::new(0_u64));
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        for number in 0..members {
            let stream = upgrade(&address, name != "tungstenite").await;
            let heard = Rc::clone(&heard);
            if name == "throughline-stalled" && number == 0 {
                tokio::task::spawn_local(stall(stream, number));
            } else if name == "tungstenite" {
                tokio::task::spawn_local(listen_plain(stream, heard));
            } else {
                tokio::task::spawn_local(listen(stream, number, heard));
            }
        }
        while heard.get() < members as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        load::watch(&server, setting("SECONDS", 3) as u64, || heard.get()).await
    })
}

async fn listen_plain(mut stream: TcpStream, heard: Rc<Cell<u64>>) {
    let mut buffer = BytesMut::with_capacity(4 << 10);
    while stream.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
        while take_message(&mut buffer).is_some() {
            heard.set(heard.get() + 1);
        }
    }
}

/// A session that reads nothing.
async fn stall(mut stream: TcpStream, number: usize) {
    greet(&mut stream, number).await;
    std::future::pending().await
}

/// Opens a session.
async fn greet(stream: &mut TcpStream, number: usize) {
    let (mut batch, mut out) = (BatchWriter::new(Encoding::Binary), BytesMut::new());
    batch.push(&Frame::Hello(Box::new(load::hello(number))));
    put_message(2, &batch.take(), &mut out);
    stream.write_all(&out).await.unwrap();
}

/// How much may be received before a receipt is about more than a little: of the window that [`load::hello`] offers a
/// sixteenth of the messages, a sixty-fourth of the bytes.
const LITTLE: (u64, usize) = (256 / 16, (1 << 20) / 64);

/// When a receipt is told that waits for company, by what was received since the one before (`docs/PROTOCOL.md`, [W5]). One
/// about little waits for 2 s, and up to half a second less, as our own client's does: not all tell it at once.
fn told_at(number: usize, messages: u64, bytes: usize) -> Instant {
    let wait = if messages >= LITTLE.0 || bytes >= LITTLE.1 {
        Duration::from_millis(50)
    } else {
        Duration::from_millis(2000 - number as u64 % 500)
    };
    Instant::now() + wait
}

/// A session by hand, which acknowledges what it has read when a client does: at once when half the window is taken, else
/// with company.
async fn listen(mut stream: TcpStream, number: usize, heard: Rc<Cell<u64>>) {
    greet(&mut stream, number).await;
    let (mut batch, mut out) = (BatchWriter::new(Encoding::Binary), BytesMut::new());
    let (mut received, mut told, mut bytes) = (Seq::ZERO, Seq::ZERO, 0);
    let mut buffer = BytesMut::with_capacity(4 << 10);
    let mut due: Option<Instant> = None;
    loop {
        let until = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        match tokio::time::timeout_at(until.into(), stream.read_buf(&mut buffer)).await {
            Ok(read) if read.as_ref().is_ok_and(|read| *read > 0) => {
                while let Some(message) = take_message(&mut buffer) {
                    for frame in
                        Batch::new(message, Encoding::Binary, Role::Server, Limits::default()).unwrap()
                    {
                        if let Frame::Message(message) = frame.unwrap() {
                            assert_eq!(Some(message.seq), received.next(), "in order, once");
                            received = message.seq;
                            bytes += message.body.len();
                            heard.set(heard.get() + 1);
                        }
                    }
                }
                let messages = received.since(told);
                if messages > 0 && messages < 128 && bytes < 512 << 10 {
                    let told_at = told_at(number, messages, bytes);
                    due = Some(due.map_or(told_at, |due| due.min(told_at)));
                    continue;
                }
            }
            Ok(_) => return,
            Err(_) => {}
        }
        due = None;
        if received > told {
            (told, bytes) = (received, 0);
            out.clear();
            batch.push(&Frame::Ack(Ack { received, taken: received }));
            put_message(2, &batch.take(), &mut out);
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
        _ => serve_rooms(listener, name == "throughline-plain").await,
    });
}

/// A pace at which the core is idle now and then. A tick that was missed is not made up for: bursts that come at once are
/// written at once, and where a busy machine decides how many, nothing compares.
fn pace() -> tokio::time::Interval {
    let mut pace = tokio::time::interval(Duration::from_micros(setting("MEMBERS", 1000) as u64 * 25));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

async fn serve_by_hand(listener: TcpListener) {
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let mut members: Vec<WebSocketStream<TcpStream>> = Vec::new();
    while members.len() < setting("MEMBERS", 1000) {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await;
        members.push(socket.unwrap());
    }
    let said = Message::Binary(Bytes::from(vec![b'x'; BODY]));
    let mut pace = pace();
    loop {
        pace.tick().await;
        for member in &mut members {
            for _ in 0..setting("BURST", 4) {
                let _ = member.feed(said.clone()).await;
            }
            let _ = member.flush().await;
        }
    }
}

async fn serve_rooms(listener: TcpListener, plain: bool) {
    let handler = move |mut socket: Socket, hub: Hub| async move {
        if plain {
            let _member = hub.room("r").join(&socket).await;
            let _ = socket.recv().await;
        } else {
            let mut live = hub.serve(socket);
            let _ = live.join(&Join { room: "r".to_owned(), ..Join::default() });
            let _ = live.recv().await;
        }
    };
    let shape = |_: &str| {
        let mut config = RoomConfig::default();
        config.slow = Slow::DropOldest;
        config
    };
    let hub = Hub::builder().rooms(shape).build();
    let live = Server::builder().hub(hub).serve(handler).unwrap();
    let room = live.hub().room("r");
    tokio::spawn(async move {
        let said = Body::from(vec![b'x'; BODY]);
        let mut pace = pace();
        loop {
            pace.tick().await;
            if room.len() == setting("MEMBERS", 1000) {
                for _ in 0..setting("BURST", 4) {
                    let _ = room.publish(said.clone()).await;
                }
            }
        }
    });
    load::serve_sessions(listener, &live).await;
}
