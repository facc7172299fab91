//! What it costs the server in CPU time to tell all members of a room something, beside a hand-written loop over
//! tokio-tungstenite connections in the same run.
//!
//! `cargo bench --bench fan_out` starts each server in a process of its own on one core; `MEMBERS` WebSockets (default
//! 1000) are read from another. The server says `BURST` messages of 64 bytes (default 4) at a time, at a pace that leaves
//! its core idle now and then; the scheduler's run time of the server is divided by the messages that arrived. The loop
//! feeds each connection the burst, made once, and flushes; it knows no receipts, no order between rooms, and waits for
//! whoever is slow. Servers take turns, `ROUNDS` times (default 3); the medians' ratio is the result.

mod load;

use std::cell::Cell;
use std::io::Write;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use load::{Owned, put_message, setting, take_message, upgrade};
use throughline::frame::{
    Ack, Attachment, Batch, BatchWriter, Body, Encoding, Frame, Hello, Limits, Role, Seq, SessionId,
    SessionKey, TransportKind, VERSION, Window,
};
use throughline::room::payload::Join;
use throughline::{Hub, Server, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const BODY: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--serve") {
        Some(at) => serve(arguments.get(at + 1).map_or("", String::as_str)),
        // `cargo test --benches` only wants to know that it starts.
        None if arguments.iter().any(|argument| argument == "--test") => {}
        None => compare(),
    }
}

fn compare() {
    let own = std::process::id().to_string();
    let _ = Command::new("taskset").args(["-acp", "1", &own]).stdout(Stdio::null()).status();
    let (rounds, members) = (setting("ROUNDS", 3), setting("MEMBERS", 1000));
    println!("{BODY} B to {members} members, {} at a time, {rounds} rounds", setting("BURST", 4));
    let names = ["tungstenite", "throughline-plain", "throughline-rooms"];
    let mut costs = names.map(|_| Vec::new());
    for round in 1..=rounds {
        for (name, costs) in names.iter().zip(&mut costs) {
            let (micros, used) = measure(name, members);
            println!(
                "round {round}: {name:18} {micros:.3} us of server CPU per delivery, core {:.0} % used",
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
        println!("{name:18} median {median:.3} us, ratio {:.2}", median / medians[0]);
    }
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
            if name == "tungstenite" {
                tokio::task::spawn_local(listen_plain(stream, heard));
            } else {
                tokio::task::spawn_local(listen(stream, number, heard));
            }
        }
        while heard.get() < members as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (began, run, count) = (Instant::now(), server.run_nanos(), heard.get());
        tokio::time::sleep(Duration::from_secs(setting("SECONDS", 3) as u64)).await;
        let (run, count) = (server.run_nanos() - run, heard.get() - count);
        assert!(count > 1000, "{name}: only {count} messages came");
        (run as f64 / 1e3 / count as f64, run as f64 / 1e9 / began.elapsed().as_secs_f64())
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

/// A session by hand, which acknowledges what it has read as a client does: with company, or when half the window is
/// taken.
async fn listen(mut stream: TcpStream, number: usize, heard: Rc<Cell<u64>>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&bytes[..8]);
    let window = Window { messages: 256, bytes: 1 << 20 };
    let hello = Hello {
        version: VERSION,
        session: SessionId::from_bytes(id),
        key: SessionKey::from_bytes(bytes),
        epoch: None,
        attachment: Attachment::FIRST,
        transport: TransportKind::WebSocket,
        received: Seq::ZERO,
        taken: None,
        window,
        candidate: false,
        auth: None,
        client: None,
    };
    let (mut batch, mut out) = (BatchWriter::new(Encoding::Binary), BytesMut::new());
    batch.push(&Frame::Hello(Box::new(hello)));
    put_message(2, &batch.take(), &mut out);
    stream.write_all(&out).await.unwrap();
    let (mut received, mut told) = (Seq::ZERO, Seq::ZERO);
    let mut buffer = BytesMut::with_capacity(4 << 10);
    let mut due = None;
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
                            heard.set(heard.get() + 1);
                        }
                    }
                }
                if received > told && received.since(told) < 128 {
                    due = due.or_else(|| Some(Instant::now() + Duration::from_millis(50)));
                    continue;
                }
            }
            Ok(_) => return,
            Err(_) => {}
        }
        due = None;
        if received > told {
            told = received;
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        match name {
            "tungstenite" => serve_by_hand(listener).await,
            _ => serve_rooms(listener, name == "throughline-plain").await,
        }
    });
}

/// A pace at which the core is idle now and then.
fn pace() -> tokio::time::Interval {
    tokio::time::interval(Duration::from_micros(setting("MEMBERS", 1000) as u64 * 25))
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
    let live = Server::builder().serve(handler).unwrap();
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
