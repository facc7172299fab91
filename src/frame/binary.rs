//! The binary encoding of frames: a varint length, a type byte, a payload.
//!
//! Varints are unsigned LEB128 in their shortest form. Messages, receipts and heartbeats have payloads of
//! varints and raw bytes; the rare frames carry the same JSON as in the JSON encoding. It implements
//! `docs/PROTOCOL.md`, "Encodings".

use bytes::{Bytes, BytesMut};

use super::json::{self, ObjectKind};
use super::number::{Numbers, Short, push_varint, take_varint, varint_len};
use super::{Body, DecodeError, Frame, Json, Limits, MAX_NUMBER, Message, MessageKind};

const MSG_JSON: u8 = 1;
const MSG_BINARY: u8 = 2;
const REQ_JSON: u8 = 3;
const REQ_BINARY: u8 = 4;
const RES_JSON: u8 = 5;
const RES_BINARY: u8 = 6;
const ERR_JSON: u8 = 7;
const ACK: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const CLOSING: u8 = 11;
const HELLO: u8 = 16;
const WELCOME: u8 = 17;
const ATTACH: u8 = 18;
const AUTH: u8 = 19;
const AUTH_OK: u8 = 20;
const MOVE: u8 = 21;
const CLOSE: u8 = 22;
const POLL: u8 = 23;
const PUSH: u8 = 24;
/// From here on types are of extensions.
const EXTENSIONS: u8 = 0x80;

/// Finds the first frame of `bytes` behind its length, and how many bytes it has with its length; `None`
/// when they end before it does.
pub(super) fn first_frame<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Option<(&'a [u8], usize)>, DecodeError> {
    let mut rest = bytes;
    let length = match take_varint(&mut rest) {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(DecodeError::Truncated) => return Ok(None),
        Err(error) => return Err(error),
    };
    // No frame is larger than a batch.
    if length > limits.max_batch_bytes {
        return Err(DecodeError::TooLarge { what: "frame", limit: limits.max_batch_bytes });
    }
    Ok(rest.split_at_checked(length).map(|(frame, behind)| (frame, bytes.len().saturating_sub(behind.len()))))
}

/// Decodes what stands behind the length of a frame; `None` is a frame of an extension, to be passed over.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Option<Frame>, DecodeError> {
    let (&kind, payload) = bytes.split_first().ok_or(DecodeError::Truncated)?;
    let mut payload = Payload(payload);
    let frame = match kind {
        MSG_JSON => payload.message(Payload::json, |_| Ok(MessageKind::Plain), limits)?,
        MSG_BINARY => payload.message(Payload::bytes, |_| Ok(MessageKind::Plain), limits)?,
        REQ_JSON => payload.message(Payload::json, |_| Ok(MessageKind::Request), limits)?,
        REQ_BINARY => payload.message(Payload::bytes, |_| Ok(MessageKind::Request), limits)?,
        RES_JSON => payload.message(Payload::json, |payload| payload.id().map(MessageKind::Reply), limits)?,
        RES_BINARY => {
            payload.message(Payload::bytes, |payload| payload.id().map(MessageKind::Reply), limits)?
        }
        ERR_JSON => {
            payload.message(Payload::json, |payload| payload.id().map(MessageKind::Failure), limits)?
        }
        ACK => Frame::Ack(payload.ack()?),
        PING => Frame::Ping(payload.optional_number()?),
        PONG => Frame::Pong(payload.optional_number()?),
        CLOSING => Frame::Closing,
        AUTH => Frame::Auth(Json::copy_checked(json::raw(payload.rest())?)?),
        AUTH_OK => Frame::AuthOk(payload.number()?),
        CLOSE => Frame::Close(json::decode_close(payload.rest())?),
        HELLO => payload.object(ObjectKind::Hello)?,
        WELCOME => payload.object(ObjectKind::Welcome)?,
        ATTACH => payload.object(ObjectKind::Attach)?,
        MOVE => payload.object(ObjectKind::Move)?,
        POLL => payload.object(ObjectKind::Poll)?,
        PUSH => payload.object(ObjectKind::Push)?,
        EXTENSIONS.. => return Ok(None),
        _ => return Err(DecodeError::UnknownFrame),
    };
    payload.end()?;
    Ok(Some(frame))
}

/// What stands behind a frame's type byte, read from the front.
struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn object(&mut self, kind: ObjectKind) -> Result<Frame, DecodeError> {
        let text = self.rest();
        match json::decode_checked_object(kind, text) {
            Some(frame) => Ok(frame),
            // What is wrong is said in the order in which it is looked for.
            None => json::decode_object(kind, json::raw(text)?.get()),
        }
    }

    /// A message: its number, what else its kind has, and all the rest as its body.
    fn message(
        &mut self,
        body: impl FnOnce(&mut Self, &Limits) -> Result<Body, DecodeError>,
        kind: impl FnOnce(&mut Self) -> Result<MessageKind, DecodeError>,
        limits: &Limits,
    ) -> Result<Frame, DecodeError> {
        let seq = self.id()?;
        let kind = kind(self)?;
        let body = body(self, limits)?;
        Ok(Frame::Message(Message { seq, kind, body }))
    }

    fn json(&mut self, limits: &Limits) -> Result<Body, DecodeError> {
        json::text_body(self.rest(), limits)
    }

    fn bytes(&mut self, limits: &Limits) -> Result<Body, DecodeError> {
        let bytes = self.rest();
        json::check_size(bytes.len(), limits)?;
        Ok(Body::Binary(Bytes::copy_from_slice(bytes)))
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

impl Numbers for Payload<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let number = take_varint(&mut self.0)?;
        if number > MAX_NUMBER { Err(DecodeError::Number) } else { Ok(number) }
    }
}

/// Appends one frame.
pub(super) fn encode(frame: &Frame, buffer: &mut BytesMut) {
    match frame {
        Frame::Message(message) => encode_message(message, buffer),
        Frame::Ack(ack) if ack.taken == ack.received => {
            encode_numbers(ACK, [Some(ack.received.value()), None], buffer)
        }
        Frame::Ack(ack) => {
            encode_numbers(ACK, [Some(ack.received.value()), Some(ack.taken.value())], buffer);
        }
        Frame::Ping(number) => encode_numbers(PING, [*number, None], buffer),
        Frame::Pong(number) => encode_numbers(PONG, [*number, None], buffer),
        Frame::Closing => begin(CLOSING, 0, buffer),
        Frame::AuthOk(number) => encode_numbers(AUTH_OK, [Some(*number), None], buffer),
        Frame::Hello(_) => encode_payload(HELLO, frame, buffer),
        Frame::Welcome(_) => encode_payload(WELCOME, frame, buffer),
        Frame::Attach(_) => encode_payload(ATTACH, frame, buffer),
        Frame::Auth(_) => encode_payload(AUTH, frame, buffer),
        Frame::Move(_) => encode_payload(MOVE, frame, buffer),
        Frame::Poll(_) => encode_payload(POLL, frame, buffer),
        Frame::Push(_) => encode_payload(PUSH, frame, buffer),
        Frame::Close(close) => {
            let mut payload = BytesMut::new();
            payload.extend_from_slice(b"[");
            json::encode_close(close, &mut payload);
            payload.extend_from_slice(b"]");
            begin(CLOSE, payload.len(), buffer);
            buffer.extend_from_slice(&payload);
        }
    }
}

/// Appends the length and the type of a frame.
fn begin(kind: u8, payload: usize, buffer: &mut BytesMut) {
    // No platform has a `usize` beyond 64 bits.
    push_varint(u64::try_from(payload.saturating_add(1)).unwrap_or(u64::MAX), buffer);
    buffer.extend_from_slice(&[kind]);
}

fn encode_message(message: &Message, buffer: &mut BytesMut) {
    let (kind, answered) = match (message.kind, &message.body) {
        (MessageKind::Plain, Body::Json(_)) => (MSG_JSON, None),
        (MessageKind::Plain, Body::Binary(_)) => (MSG_BINARY, None),
        (MessageKind::Request, Body::Json(_)) => (REQ_JSON, None),
        (MessageKind::Request, Body::Binary(_)) => (REQ_BINARY, None),
        (MessageKind::Reply(seq), Body::Json(_)) => (RES_JSON, Some(seq)),
        (MessageKind::Reply(seq), Body::Binary(_)) => (RES_BINARY, Some(seq)),
        (MessageKind::Failure(seq), _) => (ERR_JSON, Some(seq)),
    };
    let body = match (&message.body, kind) {
        (Body::Binary(_), ERR_JSON) => json::NO_JSON,
        (body, _) => body.as_bytes(),
    };
    let seq = message.seq.value();
    let numbers = varint_len(seq).saturating_add(answered.map_or(0, |seq| varint_len(seq.value())));
    let payload = numbers.saturating_add(body.len());
    let mut head = Short::default();
    // No platform has a `usize` beyond 64 bits.
    head.push_varint(u64::try_from(payload.saturating_add(1)).unwrap_or(u64::MAX));
    head.push(kind);
    head.push_varint(seq);
    if let Some(seq) = answered {
        head.push_varint(seq.value());
    }
    buffer.reserve(body.len().saturating_add(Short::MOST));
    buffer.extend_from_slice(head.as_bytes());
    buffer.extend_from_slice(body);
}

fn encode_numbers(kind: u8, numbers: [Option<u64>; 2], buffer: &mut BytesMut) {
    let mut payload = Short::default();
    numbers.into_iter().flatten().for_each(|number| payload.push_varint(number.min(MAX_NUMBER)));
    begin(kind, payload.as_bytes().len(), buffer);
    buffer.extend_from_slice(payload.as_bytes());
}

fn encode_payload(kind: u8, frame: &Frame, buffer: &mut BytesMut) {
    let payload = json::payload(frame);
    begin(kind, payload.len(), buffer);
    buffer.extend_from_slice(&payload);
}
