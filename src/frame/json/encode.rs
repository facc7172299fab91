//! Writing the JSON encoding.

use bytes::BytesMut;
use data_encoding::BASE64;

use crate::frame::number::push_digits;
use crate::frame::{Body, Close, CloseDetail, Frame, MAX_NUMBER, Message, MessageKind};

/// Appends one frame, on one line, without a line end.
pub(in crate::frame) fn encode(frame: &Frame, buffer: &mut BytesMut) {
    if let Frame::Message(message) = frame {
        return encode_message(message, buffer);
    }
    buffer.extend_from_slice(b"[\"");
    buffer.extend_from_slice(frame.tag().as_bytes());
    buffer.extend_from_slice(b"\"");
    match frame {
        // Encoded above, or no more than its tag.
        Frame::Message(_) | Frame::Closing => {}
        Frame::Ack(ack) => {
            push_element(ack.received.value(), buffer);
            if ack.taken != ack.received {
                push_element(ack.taken.value(), buffer);
            }
        }
        Frame::Ping(number) | Frame::Pong(number) => {
            if let Some(number) = number {
                push_element(*number, buffer);
            }
        }
        Frame::AuthOk(number) => push_element(*number, buffer),
        Frame::Close(close) => {
            buffer.extend_from_slice(b",");
            encode_close(close, buffer);
        }
        _ => {
            buffer.extend_from_slice(b",");
            encode_payload(frame, buffer);
        }
    }
    buffer.extend_from_slice(b"]");
}

/// Appends the JSON value that a rare frame consists of in both encodings: an object, or a token.
pub(in crate::frame) fn encode_payload(frame: &Frame, buffer: &mut BytesMut) {
    match frame {
        Frame::Hello(hello) => push_json(hello, buffer),
        Frame::Welcome(welcome) => push_json(welcome, buffer),
        Frame::Attach(attach) => push_json(attach, buffer),
        Frame::Auth(token) => buffer.extend_from_slice(token.as_bytes()),
        Frame::Move(to) => push_json(to, buffer),
        Frame::Poll(poll) => push_json(poll, buffer),
        Frame::Push(push) => push_json(push, buffer),
        // These have forms of their own.
        Frame::Message(_)
        | Frame::Ack(_)
        | Frame::Ping(_)
        | Frame::Pong(_)
        | Frame::AuthOk(_)
        | Frame::Closing
        | Frame::Close(_) => {}
    }
}

/// Appends the elements of a `close` behind its tag.
pub(in crate::frame) fn encode_close(close: &Close, buffer: &mut BytesMut) {
    push_json(close.code.as_str(), buffer);
    buffer.extend_from_slice(b",");
    push_json(Close::cut(&close.reason), buffer);
    if close.detail != CloseDetail::default() {
        buffer.extend_from_slice(b",");
        push_json(&close.detail, buffer);
    }
}

/// What stands for a body of bytes where only JSON may stand: in a failure.
pub(in crate::frame) const NO_JSON: &[u8] = b"null";

fn encode_message(message: &Message, buffer: &mut BytesMut) {
    const AROUND: usize = r#"["res",9007199254740991,9007199254740991,"","base64"]"#.len();
    buffer.reserve(AROUND.saturating_add(message.body.len()));
    let (opening, answered) = match message.kind {
        MessageKind::Plain => (&b"[\"msg\","[..], None),
        MessageKind::Request => (&b"[\"req\","[..], None),
        MessageKind::Reply(seq) => (&b"[\"res\","[..], Some(seq)),
        MessageKind::Failure(seq) => (&b"[\"err\","[..], Some(seq)),
    };
    buffer.extend_from_slice(opening);
    push_digits(message.seq.value(), buffer);
    if let Some(seq) = answered {
        push_element(seq.value(), buffer);
    }
    match &message.body {
        Body::Json(json) => {
            buffer.extend_from_slice(b",");
            buffer.extend_from_slice(json.as_bytes());
            buffer.extend_from_slice(b"]");
        }
        Body::Binary(_) if matches!(message.kind, MessageKind::Failure(_)) => {
            buffer.extend_from_slice(b",");
            buffer.extend_from_slice(NO_JSON);
            buffer.extend_from_slice(b"]");
        }
        Body::Binary(bytes) => {
            buffer.extend_from_slice(b",\"");
            push_base64(bytes, buffer);
            buffer.extend_from_slice(b"\",\"base64\"]");
        }
    }
}

fn push_base64(bytes: &[u8], buffer: &mut BytesMut) {
    let begin = buffer.len();
    buffer.resize(begin.saturating_add(BASE64.encode_len(bytes.len())), 0);
    if let Some(room) = buffer.get_mut(begin..) {
        BASE64.encode_mut(bytes, room);
    }
}

fn push_element(number: u64, buffer: &mut BytesMut) {
    buffer.extend_from_slice(b",");
    push_digits(number.min(MAX_NUMBER), buffer);
}

fn push_json<T: serde::Serialize + ?Sized>(value: &T, buffer: &mut BytesMut) {
    // The serializer writes in tiny pieces, which a `Vec` takes at half the cost of a `BytesMut`; most fit at once.
    let mut text = Vec::with_capacity(512);
    // Writing to memory does not fail, and neither do structs of numbers, texts and checked JSON.
    let _infallible = serde_json::to_writer(&mut text, value);
    buffer.extend_from_slice(&text);
}
