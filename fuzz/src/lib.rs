//! What the fuzz targets do. `tests/fuzz_corpus.rs` of the main crate runs the same functions on stable.

mod frames;
#[cfg(feature = "server")]
mod http_request;
mod sessions;
#[cfg(feature = "server")]
mod websocket;

use std::cell::RefCell;

use arbitrary::Unstructured;
use bytes::Bytes;
use throughline::frame::event_stream::{Event, Parser, Writer};
use throughline::frame::{Batch, BatchWriter, Body, Encoding, Frame, FrameStream, Json, Limits, Role};
use throughline::room::payload::{Notice, Operation, Read, escape};

#[cfg(feature = "server")]
pub use http_request::http_request;
pub use sessions::session_ops;
#[cfg(feature = "server")]
pub use websocket::websocket;

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Binary];

/// For what is encoded again, which may be longer than it came.
const WIDE: Limits =
    Limits { max_message_bytes: 1 << 30, max_batch_bytes: 1 << 30, max_batch_frames: usize::MAX };

/// Any bytes as one frame from either end: no panic, and what decodes is encoded and decoded to itself.
pub fn decode_frame(data: &[u8]) {
    for encoding in BOTH {
        for from in [Role::Client, Role::Server] {
            let Ok(batch) = Batch::new(Bytes::copy_from_slice(data), encoding, from, Limits::default())
            else {
                continue;
            };
            for frame in batch.map_while(Result::ok) {
                assert!(frame.is_sent_by(from));
                survives(std::slice::from_ref(&frame), from);
            }
        }
    }
}

/// Any frames: encoded and decoded to themselves in both encodings, in batches, streams and events.
pub fn roundtrip_frame(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let from = if data.arbitrary().unwrap_or(false) { Role::Server } else { Role::Client };
    let mut made = Vec::new();
    while !data.is_empty() && made.len() < 64 {
        let Ok(frame) = frames::frame(&mut data, from) else { break };
        made.push(frame);
    }
    survives(&made, from);
}

fn survives(frames: &[Frame], from: Role) {
    for encoding in BOTH {
        let bytes = encode(frames, encoding);
        assert_eq!(bytes.is_empty(), frames.is_empty());
        assert_eq!(decode(bytes.clone(), encoding, from, WIDE), (frames.to_vec(), None));
        if encoding == Encoding::Binary {
            assert_eq!(frames_of([bytes], from, WIDE), (frames.to_vec(), None, 0));
        }
    }
    let mut writer = Writer::new();
    frames.iter().for_each(|frame| writer.push(frame));
    let (events, error) = events_of([writer.take()], 1 << 30, usize::MAX);
    assert_eq!((events.len(), error), (usize::from(!frames.is_empty()), None));
    for event in events {
        assert_eq!(decode(event.data, Encoding::Json, from, WIDE), (frames.to_vec(), None));
    }
}

/// Any bytes as a batch with narrow limits: the limits hold, and an error is the end.
pub fn batch(data: &[u8]) {
    let Some((&narrow, data)) = data.split_first() else { return };
    let narrow = usize::from(narrow);
    let limits = Limits {
        max_message_bytes: narrow,
        max_batch_bytes: narrow.saturating_mul(4),
        max_batch_frames: narrow / 8,
    };
    for encoding in BOTH {
        for from in [Role::Client, Role::Server] {
            let Ok(mut batch) = Batch::new(Bytes::copy_from_slice(data), encoding, from, limits) else {
                assert!(data.len() > limits.max_batch_bytes);
                continue;
            };
            let (mut frames, mut bytes) = (0_usize, 0_usize);
            while let Some(frame) = batch.next() {
                let Ok(frame) = frame else {
                    assert!(batch.next().is_none(), "an error is the end");
                    break;
                };
                frames = frames.saturating_add(1);
                if let Frame::Message(message) = frame {
                    assert!(message.body.len() <= limits.max_message_bytes);
                    bytes = bytes.saturating_add(message.body.len());
                }
            }
            assert!(frames <= limits.max_batch_frames);
            assert!(bytes <= limits.max_batch_bytes);
        }
    }
}

/// Any bytes as payloads of the second layer: no panic, what is read is written and read to itself, and what is the
/// application's stays so.
pub fn payload(data: &[u8]) {
    let json = Json::parse(Bytes::copy_from_slice(data)).map(Body::from).ok();
    for body in json.into_iter().chain([Body::from(data.to_vec())]) {
        if let Read::Layer(operation) = Operation::read(body.clone()) {
            // What nests just deep enough to be read may be too deep once more is around it.
            if let Ok(written) = operation.write() {
                assert!(matches!(Operation::read(written), Read::Layer(read) if read == operation));
            }
        }
        if let Read::Layer(notice) = Notice::read(body.clone()) {
            if let Ok(written) = notice.write() {
                assert!(matches!(Notice::read(written), Read::Layer(read) if read == notice));
            }
        }
        if let Ok(escaped) = escape(body.clone()) {
            assert!(matches!(Operation::read(escaped.clone()), Read::App(read) if read == body));
            assert!(matches!(Notice::read(escaped), Read::App(read) if read == body));
        }
    }
}

/// Any bytes as a stream of events and as a stream of binary frames: the same wherever they are cut.
pub fn event_stream(data: &[u8]) {
    let Some((&limit, data)) = data.split_first() else { return };
    let (bytes, lines) = (usize::from(limit), usize::from(limit / 16));
    let whole = || [Bytes::copy_from_slice(data)];
    let events = events_of(whole(), bytes, lines);
    for event in &events.0 {
        assert!(event.data.len() <= bytes);
    }
    let limits = Limits { max_message_bytes: bytes, max_batch_bytes: bytes, max_batch_frames: usize::MAX };
    let frames = frames_of(whole(), Role::Client, limits);
    for size in [1, 2, 3, 7, bytes.max(1)] {
        let chunks = || data.chunks(size).map(Bytes::copy_from_slice);
        assert_eq!(events_of(chunks(), bytes, lines), events);
        assert_eq!(frames_of(chunks(), Role::Client, limits), frames);
    }
    // A stream is a batch without an end: it waits where a batch is cut short.
    let wide = frames_of(whole(), Role::Server, WIDE);
    let (frames, error) = decode(Bytes::copy_from_slice(data), Encoding::Binary, Role::Server, WIDE);
    let left = if wide.2 > 0 { Some("frame is cut short".to_owned()) } else { wide.1 };
    assert_eq!((frames, error), (wide.0, left));
}

fn encode(frames: &[Frame], encoding: Encoding) -> Bytes {
    let mut writer = BatchWriter::new(encoding);
    frames.iter().for_each(|frame| writer.push(frame));
    assert_eq!(writer.frames(), frames.len());
    writer.take()
}

/// The frames of a batch, and the error that ended it.
fn decode(bytes: Bytes, encoding: Encoding, from: Role, limits: Limits) -> (Vec<Frame>, Option<String>) {
    let error = RefCell::new(None);
    let keep = |refused| *error.borrow_mut() = Some(format!("{refused}"));
    let batch = Batch::new(bytes, encoding, from, limits).map_err(keep).into_iter().flatten();
    let frames = batch.map_while(|frame| frame.map_err(keep).ok()).collect();
    (frames, error.into_inner())
}

/// The frames of a binary stream, the error that ended it, and how many bytes wait for more.
fn frames_of(
    chunks: impl IntoIterator<Item = Bytes>,
    from: Role,
    limits: Limits,
) -> (Vec<Frame>, Option<String>, usize) {
    let mut stream = FrameStream::new(from, limits);
    let (mut frames, mut error) = (Vec::new(), None);
    for chunk in chunks {
        stream.feed(&chunk);
        while let Some(frame) = stream.next() {
            assert!(error.is_none(), "an error is the end");
            match frame {
                Ok(frame) => frames.push(frame),
                Err(refused) => error = Some(refused.to_string()),
            }
        }
        assert!(stream.len() <= limits.max_batch_bytes.saturating_add(10), "less than a frame is held");
    }
    (frames, error, stream.len())
}

/// The events of a stream, and the error that ended it.
fn events_of(
    chunks: impl IntoIterator<Item = Bytes>,
    max_bytes: usize,
    max_lines: usize,
) -> (Vec<Event>, Option<String>) {
    let mut parser = Parser::new(max_bytes, max_lines);
    let (mut events, mut error) = (Vec::new(), None);
    for chunk in chunks {
        parser.feed(chunk);
        while let Some(event) = parser.next() {
            assert!(error.is_none(), "an error is the end");
            match event {
                Ok(event) => events.push(event),
                Err(refused) => error = Some(refused.to_string()),
            }
        }
    }
    (events, error)
}
