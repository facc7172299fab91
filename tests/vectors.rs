//! Replays `tests/vectors`, which any implementation of the protocol can replay: frames in both encodings,
//! what decoders refuse, and streams of events.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use throughline::frame::event_stream::Parser;
use throughline::frame::{
    Ack, Batch, BatchWriter, Body, Close, CloseCode, DecodeError, Encoding, Frame, FrameStream, Json, Limits,
    Message, MessageKind, Role, Seq,
};

type Fault = Box<dyn std::error::Error>;

#[derive(Deserialize)]
struct FrameVectors {
    frames: Vec<FrameVector>,
    ignored: Vec<Input>,
}

#[derive(Deserialize)]
struct FrameVector {
    name: String,
    sent_by: String,
    frame: Value,
    json: String,
    binary: String,
    #[serde(default)]
    also: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    encoding: String,
    text: Option<String>,
    hex: Option<String>,
}

impl Input {
    fn bytes(&self) -> Bytes {
        match (&self.text, &self.hex) {
            (Some(text), None) => Bytes::from(text.clone()),
            (None, Some(hex)) => unhex(hex),
            _ => unreachable!("either text or hex"),
        }
    }

    fn encoding(&self) -> Encoding {
        match self.encoding.as_str() {
            "json" => Encoding::Json,
            "binary" => Encoding::Binary,
            other => unreachable!("encoding {other:?}"),
        }
    }
}

#[derive(Deserialize)]
struct RefusedVectors {
    refused: Vec<RefusedVector>,
}

#[derive(Deserialize)]
struct RefusedVector {
    name: String,
    reason: String,
    from: String,
    #[serde(flatten)]
    input: Input,
    limits: Option<LimitsVector>,
}

#[derive(Deserialize)]
struct LimitsVector {
    max_message_bytes: usize,
    max_batch_bytes: usize,
    max_batch_frames: usize,
}

#[derive(Deserialize)]
struct StreamVectors {
    streams: Vec<StreamVector>,
}

#[derive(Deserialize)]
struct StreamVector {
    name: String,
    #[serde(flatten)]
    input: Input,
    events: Vec<EventVector>,
    last_event_id: String,
    retry: Option<u64>,
    limits: Option<EventLimits>,
    refused: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct EventVector {
    id: String,
    name: String,
    data: String,
}

#[derive(Deserialize)]
struct EventLimits {
    max_event_bytes: usize,
    max_event_lines: usize,
}

fn load<T: DeserializeOwned>(file: &str) -> Result<T, Fault> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn unhex(text: &str) -> Bytes {
    data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .map_or_else(|_| unreachable!("hex: {text:?}"), Bytes::from)
}

fn senders(word: &str) -> &'static [Role] {
    match word {
        "client" => &[Role::Client],
        "server" => &[Role::Server],
        "both" => &[Role::Client, Role::Server],
        other => unreachable!("sender {other:?}"),
    }
}

/// The frame that a vector describes.
fn frame_of(vector: &Value) -> Result<Frame, Fault> {
    fn field<T: DeserializeOwned>(vector: &Value, name: &str) -> Result<T, Fault> {
        Ok(serde_json::from_value(vector[name].clone())?)
    }
    let tag: String = field(vector, "tag")?;
    let kind = match tag.as_str() {
        "msg" => MessageKind::Plain,
        "req" => MessageKind::Request,
        "res" => MessageKind::Reply(field(vector, "answers")?),
        "err" => MessageKind::Failure(field(vector, "answers")?),
        "ack" => {
            return Ok(Frame::Ack(Ack {
                received: field(vector, "received")?,
                taken: field(vector, "taken")?,
            }));
        }
        "ping" => return Ok(Frame::Ping(field(vector, "number")?)),
        "pong" => return Ok(Frame::Pong(field(vector, "number")?)),
        "auth" => return Ok(Frame::Auth(Json::parse(field::<String>(vector, "json")?)?)),
        "auth_ok" => return Ok(Frame::AuthOk(field(vector, "expires_ms")?)),
        "closing" => return Ok(Frame::Closing),
        "close" => {
            let code = CloseCode::from_word(&field::<String>(vector, "code")?)?;
            let close = Close::new(code, field::<String>(vector, "reason")?);
            return Ok(Frame::Close(close.with_detail(field(vector, "detail")?)));
        }
        "hello" => return Ok(Frame::Hello(read(vector)?)),
        "welcome" => return Ok(Frame::Welcome(read(vector)?)),
        "attach" => return Ok(Frame::Attach(read(vector)?)),
        "move" => return Ok(Frame::Move(read(vector)?)),
        "poll" => return Ok(Frame::Poll(read(vector)?)),
        "push" => return Ok(Frame::Push(read(vector)?)),
        other => return Err(format!("tag {other:?}").into()),
    };
    let body = match vector.get("hex") {
        Some(hex) => Body::from(unhex(hex.as_str().unwrap_or_default())),
        None => Body::from(Json::parse(field::<String>(vector, "json")?)?),
    };
    Ok(Frame::Message(Message { seq: field::<Seq>(vector, "seq")?, kind, body }))
}

fn read<T: DeserializeOwned>(vector: &Value) -> Result<T, Fault> {
    // By its text: a `Json` inside reads no `Value`.
    Ok(serde_json::from_str(&vector["value"].to_string())?)
}

fn decode(bytes: &Bytes, encoding: Encoding, from: Role, limits: Limits) -> Result<Vec<Frame>, DecodeError> {
    Batch::new(bytes.clone(), encoding, from, limits)?.collect()
}

fn reason(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::TooLarge { .. } => "TooLarge",
        DecodeError::TooMany { .. } => "TooMany",
        DecodeError::Json(_) => "Json",
        DecodeError::Truncated => "Truncated",
        DecodeError::Trailing => "Trailing",
        DecodeError::Varint => "Varint",
        DecodeError::Number => "Number",
        DecodeError::Base64 => "Base64",
        DecodeError::CloseCode => "CloseCode",
        DecodeError::UnknownFrame => "UnknownFrame",
        DecodeError::WrongDirection { .. } => "WrongDirection",
        other => unreachable!("a reason without a name: {other:?}"),
    }
}

#[test]
fn frames_are_encoded_byte_by_byte_and_decode_to_themselves() -> Result<(), Fault> {
    let vectors: FrameVectors = load("frames.json")?;
    assert!(vectors.frames.len() >= 60 && !vectors.ignored.is_empty(), "vectors are missing");
    for vector in &vectors.frames {
        let name = &vector.name;
        let frame = frame_of(&vector.frame)?;
        assert_eq!(vector.frame["tag"], frame.tag(), "{name}");
        let forms =
            [(Encoding::Json, Bytes::from(vector.json.clone())), (Encoding::Binary, unhex(&vector.binary))];
        for (encoding, bytes) in &forms {
            let mut writer = BatchWriter::new(*encoding);
            writer.push(&frame);
            assert_eq!(writer.take(), *bytes, "{name}");
        }
        let also = vector.also.iter().map(|input| (input.encoding(), input.bytes()));
        for (encoding, bytes) in forms.into_iter().chain(also) {
            for &from in senders(&vector.sent_by) {
                let frames = decode(&bytes, encoding, from, Limits::default())?;
                assert_eq!(frames, std::slice::from_ref(&frame), "{name}");
            }
        }
    }
    Ok(())
}

#[test]
fn frames_are_of_the_directions_that_their_vectors_say() -> Result<(), Fault> {
    let vectors: FrameVectors = load("frames.json")?;
    for vector in &vectors.frames {
        let frame = frame_of(&vector.frame)?;
        for role in [Role::Client, Role::Server] {
            assert_eq!(frame.is_sent_by(role), senders(&vector.sent_by).contains(&role), "{}", vector.name);
        }
    }
    Ok(())
}

#[test]
fn all_binary_frames_in_one_stream_decode_wherever_it_is_cut() -> Result<(), Fault> {
    let vectors: FrameVectors = load("frames.json")?;
    let vectors: Vec<_> = vectors.frames.iter().filter(|vector| vector.sent_by != "client").collect();
    let frames: Vec<_> = vectors.iter().map(|vector| frame_of(&vector.frame)).collect::<Result<_, _>>()?;
    let stream: Vec<u8> = vectors.iter().flat_map(|vector| unhex(&vector.binary)).collect();
    for size in [1, 2, 3, 64, stream.len()] {
        let mut decoder = FrameStream::new(Role::Server, Limits::default());
        let mut decoded = Vec::new();
        for chunk in stream.chunks(size) {
            decoder.feed(chunk);
            while let Some(frame) = decoder.next() {
                decoded.push(frame?);
            }
        }
        assert_eq!(decoded, frames);
        assert!(decoder.is_empty());
    }
    Ok(())
}

#[test]
fn frames_of_extensions_are_ignored() -> Result<(), Fault> {
    for input in load::<FrameVectors>("frames.json")?.ignored {
        for from in [Role::Client, Role::Server] {
            assert_eq!(decode(&input.bytes(), input.encoding(), from, Limits::default())?, []);
        }
    }
    Ok(())
}

#[test]
fn what_is_not_frames_is_refused_for_the_reason_given() -> Result<(), Fault> {
    let vectors: RefusedVectors = load("refused.json")?;
    assert!(vectors.refused.len() >= 150, "vectors are missing");
    for vector in &vectors.refused {
        let limits = vector.limits.as_ref().map_or_else(Limits::default, |limits| Limits {
            max_message_bytes: limits.max_message_bytes,
            max_batch_bytes: limits.max_batch_bytes,
            max_batch_frames: limits.max_batch_frames,
        });
        let decoded =
            decode(&vector.input.bytes(), vector.input.encoding(), senders(&vector.from)[0], limits);
        let refused = decoded.as_ref().map_err(reason);
        assert_eq!(refused.err(), Some(vector.reason.as_str()), "{}: {decoded:?}", vector.name);
    }
    Ok(())
}

#[test]
fn streams_give_their_events_wherever_they_are_cut() -> Result<(), Fault> {
    let vectors: StreamVectors = load("event_stream.json")?;
    assert!(vectors.streams.len() >= 25, "vectors are missing");
    for vector in &vectors.streams {
        let stream = vector.input.bytes();
        let bytewise = stream.chunks(1).map(Bytes::copy_from_slice).collect();
        let in_two = (0..=stream.len()).map(|at| vec![stream.slice(..at), stream.slice(at..)]);
        for chunks in in_two.chain([bytewise]) {
            replay(vector, chunks);
        }
    }
    Ok(())
}

fn replay(vector: &StreamVector, chunks: Vec<Bytes>) {
    let limits = Limits::default();
    let (bytes, lines) = match &vector.limits {
        Some(limits) => (limits.max_event_bytes, limits.max_event_lines),
        None => (limits.max_batch_bytes, limits.max_batch_frames),
    };
    let mut parser = Parser::new(bytes, lines);
    let (mut events, mut refused) = (Vec::new(), None);
    for chunk in chunks {
        parser.feed(chunk);
        while let Some(event) = parser.next() {
            match event {
                Ok(event) => events.push(EventVector {
                    id: event.id,
                    name: event.name,
                    data: String::from_utf8_lossy(&event.data).into_owned(),
                }),
                Err(error) => refused = Some(reason(&error)),
            }
        }
    }
    assert_eq!(events, vector.events, "{}", vector.name);
    assert_eq!(refused, vector.refused.as_deref(), "{}", vector.name);
    if refused.is_none() {
        assert_eq!(parser.last_event_id(), vector.last_event_id, "{}", vector.name);
        assert_eq!(parser.retry(), vector.retry, "{}", vector.name);
    }
}
