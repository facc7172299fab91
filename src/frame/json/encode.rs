//! Writing the JSON encoding.

use bytes::BytesMut;
use data_encoding::{BASE64, BASE64URL_NOPAD};

use crate::frame::number::push_digits;
use crate::frame::{Body, Close, CloseDetail, Frame, MAX_NUMBER, Message, MessageKind, Welcome};

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
            buffer.extend_from_slice(&payload(frame));
        }
    }
    buffer.extend_from_slice(b"]");
}

/// The JSON value that a rare frame consists of in both encodings: an object, or a token.
pub(in crate::frame) fn payload(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Hello(hello) => json(hello),
        Frame::Welcome(welcome) => welcome_object(welcome),
        Frame::Attach(attach) => json(attach),
        Frame::Auth(token) => token.as_bytes().to_vec(),
        Frame::Move(to) => json(to),
        Frame::Poll(poll) => json(poll),
        Frame::Push(push) => json(push),
        // These have forms of their own.
        Frame::Message(_)
        | Frame::Ack(_)
        | Frame::Ping(_)
        | Frame::Pong(_)
        | Frame::AuthOk(_)
        | Frame::Closing
        | Frame::Close(_) => Vec::new(),
    }
}

/// The one object that a server writes for each transport: a serializer would take five times as long.
fn welcome_object(welcome: &Welcome) -> Vec<u8> {
    let mut object = Object { text: Vec::with_capacity(512) };
    object.identity("session", welcome.session.as_bytes());
    object.identity("epoch", welcome.epoch.as_bytes());
    object.number("attachment", welcome.attachment.value());
    object.number("received", welcome.received.value());
    if let Some(taken) = welcome.taken {
        object.number("taken", taken.value());
    }
    object.raw("resumed", if welcome.resumed { b"true" } else { b"false" });
    object.begin("window");
    object.text.push(b'{');
    object.number("messages", welcome.window.messages.into());
    object.number("bytes", welcome.window.bytes);
    object.text.push(b'}');
    object.number("heartbeat_ms", welcome.heartbeat_ms);
    object.number("resume_window_ms", welcome.resume_window_ms);
    object.number("max_message_bytes", welcome.max_message_bytes);
    object.number("max_batch_bytes", welcome.max_batch_bytes);
    object.begin("transports");
    for (index, transport) in welcome.transports.iter().enumerate() {
        object.text.extend_from_slice(if index == 0 { b"[\"" } else { b",\"" });
        object.text.extend_from_slice(transport.as_str().as_bytes());
        object.text.push(b'"');
    }
    object.text.extend_from_slice(if welcome.transports.is_empty() { b"[]" } else { b"]" });
    if let Some(expires) = welcome.auth_expires_ms {
        object.number("auth_expires_ms", expires);
    }
    object.end()
}

/// An object that is being written.
struct Object {
    text: Vec<u8>,
}

impl Object {
    /// What stands before a value: nothing in a name is escaped.
    fn begin(&mut self, name: &'static str) {
        let before: &[u8] = match self.text.last() {
            None => b"{\"",
            Some(b'{') => b"\"",
            Some(_) => b",\"",
        };
        self.text.extend_from_slice(before);
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
    }

    fn raw(&mut self, name: &'static str, value: &[u8]) {
        self.begin(name);
        self.text.extend_from_slice(value);
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.begin(name);
        push_digits(number.min(MAX_NUMBER), &mut self.text);
    }

    fn identity(&mut self, name: &'static str, bytes: &[u8]) {
        self.begin(name);
        self.text.push(b'"');
        let begin = self.text.len();
        self.text.resize(begin.saturating_add(BASE64URL_NOPAD.encode_len(bytes.len())), 0);
        if let Some(room) = self.text.get_mut(begin..) {
            BASE64URL_NOPAD.encode_mut(bytes, room);
        }
        self.text.push(b'"');
    }

    fn end(mut self) -> Vec<u8> {
        self.text.push(b'}');
        self.text
    }
}

/// Appends the elements of a `close` behind its tag.
pub(in crate::frame) fn encode_close(close: &Close, buffer: &mut BytesMut) {
    buffer.extend_from_slice(&json(close.code.as_str()));
    buffer.extend_from_slice(b",");
    buffer.extend_from_slice(&json(Close::cut(&close.reason)));
    if close.detail != CloseDetail::default() {
        buffer.extend_from_slice(b",");
        buffer.extend_from_slice(&json(&close.detail));
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

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // The serializer writes in tiny pieces, which a `Vec` takes at half the cost of a `BytesMut`; most fit at once.
    let mut text = Vec::with_capacity(512);
    // Writing to memory does not fail, and neither do structs of numbers, texts and checked JSON.
    let _infallible = serde_json::to_writer(&mut text, value);
    text
}
