//! Nanoseconds per message through two sessions without a codec: send, lend, receive, deliver, take, acknowledge.
//!
//! `throughput` counts messages. A batch is what one turn of a driver moves; 1 is a lone message with a receipt of
//! its own.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use throughline::frame::{Attachment, Body, Epoch, Frame, MessageKind, SessionId, SessionKey, TransportKind};
use throughline::session::{Config, Event, Intent, Session, Via};

struct Ends {
    client: Session,
    server: Session,
    now: Instant,
    attachment: Attachment,
}

fn carry(from: &mut Session, to: &mut Session, now: Instant, attachment: Attachment) {
    while let Some(frame) = from.poll_transmit(attachment) {
        let frame = frame.clone();
        match &frame {
            Frame::Hello(hello) => drop(to.handle_hello(now, hello)),
            _ => to.handle_frame(now, attachment, Via::Carrier, frame),
        }
    }
}

impl Ends {
    fn meet() -> Option<Self> {
        let (config, now) = (Arc::new(Config::default()), Instant::now());
        let (id, key) = (SessionId::from_bytes([1; 16]), SessionKey::from_bytes([2; 32]));
        let mut client = Session::client(Arc::clone(&config), id, key, now);
        let mut server = Session::server(config, id, Epoch::from_bytes([3; 8]), now);
        let attachment = client.introduce(now, TransportKind::WebSocket, Intent::Attach, None)?;
        carry(&mut client, &mut server, now, attachment);
        carry(&mut server, &mut client, now, attachment);
        Some(Self { client, server, now, attachment })
    }

    /// Moves so many messages from the client to the server's application, and the receipt back.
    fn exchange(&mut self, count: u64, body: &Body) {
        for _ in 0..count {
            let _ = black_box(self.client.send(MessageKind::Plain, body.clone()));
        }
        carry(&mut self.client, &mut self.server, self.now, self.attachment);
        let mut taken = 0;
        while let Some(event) = self.server.poll_event() {
            taken += u64::from(matches!(black_box(event), Event::Message(_)));
        }
        self.server.acknowledge(self.now, taken);
        // As late as a lone receipt goes.
        self.now += Duration::from_millis(50);
        self.server.handle_timeout(self.now);
        self.client.handle_timeout(self.now);
        carry(&mut self.server, &mut self.client, self.now, self.attachment);
        carry(&mut self.client, &mut self.server, self.now, self.attachment);
    }
}

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    let body = Body::from(vec![7; 64]);
    for count in [1, 32, 128] {
        let Some(mut ends) = Ends::meet() else { continue };
        ends.exchange(count, &body);
        assert_eq!(ends.client.held(), (0, 0), "all was acknowledged");
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("send_receive_ack", count), |bencher| {
            bencher.iter(|| ends.exchange(count, &body));
        });
        assert!(ends.client.is_open() && ends.server.is_open());
    }
    group.finish();
}

criterion_group!(benches, session);
criterion_main!(benches);
