//! What a message costs in instructions, without sockets or a runtime: `instructions.py` runs this under callgrind, once for
//! each function of [`measured`], and counts only what happens inside that.
//!
//! Usage: bench-instructions STEP BATCH ROUNDS, where STEP names what to do; the rest is what makes it possible.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use throughline::frame::{
    Attachment, Batch, BatchWriter, Body, Encoding, Epoch, Frame, Json, Limits, Message, MessageKind, Role,
    Seq, SessionId, SessionKey, TransportKind,
};
use throughline::session::{Config, Intent, Session, Via};

/// What is counted. Nothing here may be inlined: callgrind knows functions by their symbols.
mod measured {
    use super::*;
    use std::hint::black_box;

    #[inline(never)]
    pub fn encode(frames: &[Frame], writer: &mut BatchWriter) -> Bytes {
        frames.iter().for_each(|frame| writer.push(frame));
        writer.take()
    }

    #[inline(never)]
    pub fn decode(batch: Bytes, encoding: Encoding) -> usize {
        Batch::new(batch, encoding, Role::Client, Limits::default())
            .map_or(0, |batch| batch.map(black_box).filter(Result::is_ok).count())
    }

    /// The application's part: the session accepts.
    #[inline(never)]
    pub fn send(session: &mut Session, bodies: Vec<Body>) {
        for body in bodies {
            let _ = black_box(session.send(MessageKind::Plain, body));
        }
    }

    /// The transport's part: the session lends what is to be written.
    #[inline(never)]
    pub fn lend(session: &mut Session, attachment: Attachment) -> usize {
        let mut lent = 0;
        while let Some(frame) = session.poll_transmit(attachment) {
            black_box(frame);
            lent += 1;
        }
        lent
    }

    #[inline(never)]
    pub fn receive(session: &mut Session, now: Instant, attachment: Attachment, frames: Vec<Frame>) {
        for frame in frames {
            session.handle_frame(now, attachment, Via::Carrier, frame);
        }
        while let Some(event) = session.poll_event() {
            black_box(event);
        }
    }

    /// What the application has taken, and the deadline that a driver asks for after each turn.
    #[inline(never)]
    pub fn take(session: &mut Session, now: Instant, count: u64) {
        session.acknowledge(now, count);
        black_box(session.poll_timeout());
    }

    /// A receipt for a whole batch.
    #[inline(never)]
    pub fn ack(session: &mut Session, now: Instant, attachment: Attachment, receipt: Frame) {
        session.handle_frame(now, attachment, Via::Carrier, receipt);
        black_box(session.poll_timeout());
    }
}

struct Ends {
    client: Session,
    server: Session,
    now: Instant,
    attachment: Attachment,
}

/// All that one end has for the other, as frames.
fn lent(from: &mut Session, attachment: Attachment) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = from.poll_transmit(attachment) {
        frames.push(frame.clone());
    }
    frames
}

impl Ends {
    fn meet() -> Self {
        let (config, now) = (Arc::new(Config::default()), Instant::now());
        let (id, key) = (SessionId::from_bytes([1; 16]), SessionKey::from_bytes([2; 32]));
        let mut client = Session::client(Arc::clone(&config), id, key, now);
        let mut server = Session::server(config, id, Epoch::from_bytes([3; 8]), now);
        let attachment =
            client.introduce(now, TransportKind::WebSocket, Intent::Attach, None).expect("a number");
        for frame in lent(&mut client, attachment) {
            if let Frame::Hello(hello) = frame {
                let _ = server.handle_hello(now, &hello);
            }
        }
        let mut ends = Self { client, server, now, attachment };
        ends.to_client();
        ends
    }

    fn to_client(&mut self) {
        for frame in lent(&mut self.server, self.attachment) {
            self.client.handle_frame(self.now, self.attachment, Via::Carrier, frame);
        }
        while self.client.poll_event().is_some() {}
    }

    /// A batch from the server to the client, and its receipt.
    fn exchange(&mut self, batch: u64, body: &Body) {
        self.now += Duration::from_millis(50);
        let bodies = vec![body.clone(); usize::try_from(batch).expect("a batch")];
        measured::send(&mut self.server, bodies);
        let again = self.server.poll_transmit(self.attachment).cloned();
        let mut frames: Vec<Frame> = again.into_iter().collect();
        frames.extend(lent(&mut self.server, self.attachment));
        measured::receive(&mut self.client, self.now, self.attachment, frames);
        measured::take(&mut self.client, self.now, batch);
        // So long a receipt waits for company at the most.
        self.now += Duration::from_secs(2);
        self.client.handle_timeout(self.now);
        for receipt in lent(&mut self.client, self.attachment) {
            measured::ack(&mut self.server, self.now, self.attachment, receipt);
        }
        assert_eq!(self.server.held(), (0, 0), "all was acknowledged");
    }

    /// The same as far as lending goes, and the receipt.
    fn exchange_lent(&mut self, batch: u64, body: &Body) {
        self.now += Duration::from_millis(50);
        for _ in 0..batch {
            self.server.send(MessageKind::Plain, body.clone()).expect("room");
        }
        assert_eq!(measured::lend(&mut self.server, self.attachment) as u64, batch);
        let received = Seq::new(self.server.acked().value() + batch).expect("a number");
        let receipt = Frame::Ack(throughline::frame::Ack { received, taken: received });
        self.server.handle_frame(self.now, self.attachment, Via::Carrier, receipt);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let step = arguments.get(1).map_or("", String::as_str);
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    let (batch, rounds) = (number(2), number(3));
    let json = |text: &str| Body::from(Json::parse(text.to_owned()).expect("JSON"));
    let (encoding, body) = match step {
        "encode-json" | "decode-json" => (Encoding::Json, json(&format!("\"{}\"", "x".repeat(62)))),
        "decode-object" => (Encoding::Json, json(&format!("{{\"at\":17,\"text\":\"{}\"}}", "x".repeat(45)))),
        _ => (Encoding::Binary, Body::from(vec![b'x'; 64])),
    };
    assert_eq!(body.len(), 64);
    let frames: Vec<Frame> = (1..=batch)
        .filter_map(|number| Seq::new(100_000 + number))
        .map(|seq| Frame::Message(Message { seq, kind: MessageKind::Plain, body: body.clone() }))
        .collect();
    let mut writer = BatchWriter::new(encoding);
    let mut ends = Ends::meet();
    for _ in 0..rounds {
        match step {
            "encode-binary" | "encode-json" => drop(measured::encode(&frames, &mut writer)),
            "decode-binary" | "decode-json" | "decode-object" => {
                frames.iter().for_each(|frame| writer.push(frame));
                assert_eq!(measured::decode(writer.take(), encoding) as u64, batch);
            }
            "lend" => ends.exchange_lent(batch, &body),
            _ => ends.exchange(batch, &body),
        }
    }
}
