//! Nanoseconds per message: encoding and decoding in both encodings.
//!
//! Batches of 32 messages are timed, as a busy transport has them, and the time is per batch:
//! `throughput` says messages per second.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use throughline::frame::{
    Batch, BatchWriter, Body, Encoding, Frame, Limits, Message, MessageKind, Role, Seq,
};

const BATCH: u64 = 32;

/// A JSON body of exactly `size` bytes, with the structure that messages usually have.
fn body(size: usize) -> Body {
    let text =
        |filler: usize| format!("{{\"kind\":\"chat\",\"from\":1234,\"text\":\"{}\"}}", "x".repeat(filler));
    let filler = size.saturating_sub(text(0).len());
    throughline::frame::Json::parse(text(filler)).map_or_else(|_| Body::from(""), Body::from)
}

fn frames(body: &Body) -> Vec<Frame> {
    (1..=BATCH)
        .filter_map(|number| Seq::new(100_000 + number))
        .map(|seq| Frame::Message(Message { seq, kind: MessageKind::Plain, body: body.clone() }))
        .collect()
}

fn encode(frames: &[Frame], writer: &mut BatchWriter) -> Bytes {
    frames.iter().for_each(|frame| writer.push(frame));
    writer.take()
}

fn codec(criterion: &mut Criterion) {
    for size in [64, 1024] {
        let bytes = Body::from(body(size).as_bytes().to_vec());
        let cases = [
            ("json", Encoding::Json, body(size)),
            ("json-base64", Encoding::Json, bytes.clone()),
            ("binary", Encoding::Binary, bytes),
            ("binary-json", Encoding::Binary, body(size)),
        ];
        for (name, encoding, body) in cases {
            assert_eq!(body.len(), size);
            let frames = frames(&body);
            let mut group = criterion.benchmark_group(format!("{name}/{size}"));
            group.throughput(Throughput::Elements(BATCH));
            let mut writer = BatchWriter::new(encoding);
            group.bench_function("encode", |bencher| {
                bencher.iter(|| encode(black_box(&frames), &mut writer));
            });
            let batch = encode(&frames, &mut writer);
            group.bench_function("decode", |bencher| {
                bencher.iter(|| {
                    let batch = Batch::new(batch.clone(), encoding, Role::Client, Limits::default());
                    let count = batch.map_or(0, |batch| batch.map(black_box).filter(Result::is_ok).count());
                    assert_eq!(count, frames.len());
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
