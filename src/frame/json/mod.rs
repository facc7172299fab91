//! The JSON encoding of frames: one array per frame, its tag first.
//!
//! Text is checked once, as a whole: an array is first taken apart into raw elements, which is where
//! anything that is not well-formed ends, and only then read as a frame. Nothing here recurses with its
//! input. It implements `docs/PROTOCOL.md`, "Encodings".

mod encode;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::de::{DeserializeOwned, Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub(super) use encode::{NO_JSON, encode, encode_close, payload};

use super::body::check_depth;
use super::number::Numbers;
use super::{
    Body, Close, CloseCode, CloseDetail, DecodeError, Frame, Json, JsonError, Limits, MAX_JSON_DEPTH,
    MAX_NUMBER, Message, MessageKind, Seq,
};

/// Decodes one frame; `None` is a frame of an extension, to be passed over.
pub(super) fn decode(text: &[u8], limits: &Limits) -> Result<Option<Frame>, DecodeError> {
    if let Some(message) = plain_message(text, limits) {
        return message.map(Some);
    }
    if let Some(frame) = plain_object(text) {
        return Ok(Some(frame));
    }
    let mut elements = Elements::of(text)?;
    let tag = elements.text("a tag")?;
    let frame = match tag.as_ref() {
        "msg" => message(&mut elements, limits, |_| Ok(MessageKind::Plain))?,
        "req" => message(&mut elements, limits, |_| Ok(MessageKind::Request))?,
        "res" => message(&mut elements, limits, |elements| Ok(MessageKind::Reply(elements.id()?)))?,
        "err" => message(&mut elements, limits, |elements| Ok(MessageKind::Failure(elements.id()?)))?,
        "ack" => Frame::Ack(elements.ack()?),
        "ping" => Frame::Ping(elements.optional_number()?),
        "pong" => Frame::Pong(elements.optional_number()?),
        "auth" => Frame::Auth(Json::copy_checked(elements.next("a token")?)?),
        "auth_ok" => Frame::AuthOk(elements.number()?),
        "closing" => Frame::Closing,
        "close" => Frame::Close(close(&mut elements)?),
        tag if tag.starts_with("x-") => return Ok(None),
        tag => {
            let kind = ObjectKind::of_tag(tag).ok_or(DecodeError::UnknownFrame)?;
            decode_object(kind, elements.next("an object")?.get())?
        }
    };
    elements.end()?;
    Ok(Some(frame))
}

/// A message, `["msg",17,…]` or `["res",19,17,…]`, in the one form in which encoders write it, its body JSON: it need not be
/// taken apart. `None` leaves all else, and whatever may be wrong with the text, to the general way.
fn plain_message(text: &[u8], limits: &Limits) -> Option<Result<Frame, DecodeError>> {
    let rest = text.strip_prefix(b"[\"")?.strip_suffix(b"]")?;
    let (tag, rest) = rest.split_at_checked(3)?;
    let mut rest = rest.strip_prefix(b"\",")?;
    let seq = plain_seq(&mut rest)?;
    let kind = match tag {
        b"msg" => MessageKind::Plain,
        b"req" => MessageKind::Request,
        b"res" => MessageKind::Reply(plain_seq(&mut rest)?),
        b"err" => MessageKind::Failure(plain_seq(&mut rest)?),
        _ => return None,
    };
    // One value, and nothing behind it: with an encoding behind the body this is not one.
    match text_body(rest, limits) {
        Err(DecodeError::Json(JsonError::Malformed(_))) => None,
        body => Some(body.map(|body| Frame::Message(Message { seq, kind, body }))),
    }
}

/// Takes a message's number off the front, and the comma behind it.
fn plain_seq(text: &mut &[u8]) -> Option<Seq> {
    /// As many digits as no number is too large for.
    const DIGITS: usize = 15;
    let mut number = 0_u64;
    for (at, &byte) in text.iter().take(DIGITS.saturating_add(1)).enumerate() {
        match byte {
            // None is 0, or begins with it.
            b'0'..=b'9' if at < DIGITS && (number > 0 || byte > b'0') => {
                number = number.wrapping_mul(10).wrapping_add(u64::from(byte.wrapping_sub(b'0')));
            }
            b',' if number > 0 => {
                *text = text.get(at.saturating_add(1)..)?;
                return Seq::new(number);
            }
            _ => return None,
        }
    }
    None
}

/// A frame of one object, `["hello",{…}]`, in the one form in which encoders write it: what it says is read at once.
/// `None` leaves all else, and whatever may be wrong with the text, to the general way.
fn plain_object(text: &[u8]) -> Option<Frame> {
    /// As many bytes as no tag has more.
    const TAG: usize = 8;
    let rest = text.strip_prefix(b"[\"")?.strip_suffix(b"]")?;
    let quote = rest.iter().take(TAG).position(|&byte| byte == b'"')?;
    let (tag, rest) = rest.split_at_checked(quote)?;
    let kind = ObjectKind::of_tag(std::str::from_utf8(tag).ok()?)?;
    decode_checked_object(kind, rest.strip_prefix(b"\",")?)
}

/// Reads the object that a text consists of, if that is all there is to it and nothing is wrong.
pub(super) fn decode_checked_object(kind: ObjectKind, text: &[u8]) -> Option<Frame> {
    decode_object(kind, std::str::from_utf8(text).ok()?).ok()
}

/// The frames that carry one object.
#[derive(Clone, Copy)]
pub(super) enum ObjectKind {
    Hello,
    Welcome,
    Attach,
    Move,
    Poll,
    Push,
}

impl ObjectKind {
    fn of_tag(tag: &str) -> Option<Self> {
        Some(match tag {
            "hello" => Self::Hello,
            "welcome" => Self::Welcome,
            "attach" => Self::Attach,
            "move" => Self::Move,
            "poll" => Self::Poll,
            "push" => Self::Push,
            _ => return None,
        })
    }
}

/// Reads the object of a frame. If it is not well-formed, that is not always what the error says.
pub(super) fn decode_object(kind: ObjectKind, raw: &str) -> Result<Frame, DecodeError> {
    Ok(match kind {
        ObjectKind::Hello => {
            let hello: Box<super::Hello> = object(raw)?;
            check_taken(hello.received, hello.taken)?;
            Frame::Hello(hello)
        }
        ObjectKind::Welcome => {
            let welcome: Box<super::Welcome> = object(raw)?;
            check_taken(welcome.received, welcome.taken)?;
            Frame::Welcome(welcome)
        }
        ObjectKind::Attach => {
            let attach: super::Attach = object(raw)?;
            check_taken(attach.received, attach.taken)?;
            Frame::Attach(attach)
        }
        ObjectKind::Move => Frame::Move(object(raw)?),
        ObjectKind::Poll => {
            let poll: Box<super::Poll> = object(raw)?;
            check_taken(poll.received, poll.taken)?;
            Frame::Poll(poll)
        }
        ObjectKind::Push => Frame::Push(object(raw)?),
    })
}

/// Reads the array of a `close`, which the binary encoding writes without the tag.
pub(super) fn decode_close(text: &[u8]) -> Result<Close, DecodeError> {
    let mut elements = Elements::of(text)?;
    let close = close(&mut elements)?;
    elements.end()?;
    Ok(close)
}

/// Finds the one JSON value that a text consists of.
pub(super) fn raw(text: &[u8]) -> Result<&RawValue, DecodeError> {
    serde_json::from_slice(text).map_err(malformed)
}

/// Reads the one JSON value that a text consists of as a body.
pub(super) fn text_body(text: &[u8], limits: &Limits) -> Result<Body, DecodeError> {
    match Json::copy_plain_string(text) {
        Some(json) => check_size(text.len(), limits).map(|()| Body::Json(json)),
        None => json_body(raw(text)?, limits),
    }
}

/// Checks the size of a JSON body, and copies it.
fn json_body(raw: &RawValue, limits: &Limits) -> Result<Body, DecodeError> {
    check_size(raw.get().len(), limits)?;
    Ok(Body::Json(Json::copy_checked(raw)?))
}

/// Refuses what is too large for a body.
pub(super) fn check_size(bytes: usize, limits: &Limits) -> Result<(), DecodeError> {
    if bytes > limits.max_message_bytes {
        return Err(DecodeError::TooLarge { what: "message", limit: limits.max_message_bytes });
    }
    Ok(())
}

/// Nothing is taken that was not received.
pub(super) fn check_taken(received: Seq, taken: Option<Seq>) -> Result<(), DecodeError> {
    if taken.is_some_and(|taken| taken > received) { Err(DecodeError::Number) } else { Ok(()) }
}

fn message<'de>(
    elements: &mut Elements<'de>,
    limits: &Limits,
    kind: impl FnOnce(&mut Elements<'de>) -> Result<MessageKind, DecodeError>,
) -> Result<Frame, DecodeError> {
    let seq = elements.id()?;
    let kind = kind(elements)?;
    let raw = elements.next("a body")?;
    let body = if elements.is_empty() || matches!(kind, MessageKind::Failure(_)) {
        json_body(raw, limits)?
    } else {
        if elements.text("an encoding")? != "base64" {
            return Err(shape("the encoding of a body is base64 or left out"));
        }
        base64_body(raw, limits)?
    };
    Ok(Frame::Message(Message { seq, kind, body }))
}

fn base64_body(raw: &RawValue, limits: &Limits) -> Result<Body, DecodeError> {
    let text = text_of(raw).ok_or_else(|| shape("a base64 body is a string"))?;
    // What is too large is not decoded first.
    let padding = text.bytes().rev().take(2).filter(|&byte| byte == b'=').count();
    let length = (text.len() / 4).saturating_mul(3).saturating_sub(padding);
    check_size(length, limits)?;
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| DecodeError::Base64)?;
    // `data_encoding` also takes several padded texts one after the other.
    if bytes.len() != length {
        return Err(DecodeError::Base64);
    }
    Ok(Body::Binary(Bytes::from(bytes)))
}

fn close(elements: &mut Elements<'_>) -> Result<Close, DecodeError> {
    let code = CloseCode::from_word(&elements.text("a close code")?).map_err(|_| DecodeError::CloseCode)?;
    let reason = if elements.is_empty() { Cow::Borrowed("") } else { elements.text("a reason")? };
    let detail =
        if elements.is_empty() { CloseDetail::default() } else { object(elements.next("a detail")?.get())? };
    let reason = Close::cut(&reason).to_owned();
    Ok(Close::new(code, reason).with_detail(detail))
}

/// Reads an object. It may be one deeper than JSON of the application, which can stand in it.
fn object<T: DeserializeOwned>(raw: &str) -> Result<T, DecodeError> {
    // A derived `Deserialize` would take an array of the fields as well.
    if !raw.starts_with('{') {
        return Err(shape("expected an object"));
    }
    check_depth(raw.as_bytes(), MAX_JSON_DEPTH.saturating_add(1))?;
    serde_json::from_str(raw).map_err(malformed)
}

/// The text of a JSON string; `None` for any other value, or a string that is no Unicode text.
fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = raw.get();
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(quoted).ok().map(Cow::Owned)
}

fn malformed(error: serde_json::Error) -> DecodeError {
    DecodeError::Json(JsonError::Malformed(error))
}

fn shape(message: &'static str) -> DecodeError {
    malformed(serde_json::Error::custom(message))
}

/// The raw elements of one array: no frame has more than [`Elements::MOST`].
struct Elements<'de> {
    next: std::array::IntoIter<Option<&'de RawValue>, { Elements::MOST }>,
    more: bool,
}

impl<'de> Elements<'de> {
    /// `["res",7,19,"AAEC","base64"]`.
    const MOST: usize = 5;

    fn of(text: &'de [u8]) -> Result<Self, DecodeError> {
        // Once for all elements, instead of once for each.
        let text = std::str::from_utf8(text).map_err(|error| malformed(serde_json::Error::custom(error)))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let elements = deserializer.deserialize_seq(ElementsVisitor).map_err(malformed)?;
        deserializer.end().map_err(malformed)?;
        Ok(elements)
    }

    fn take(&mut self) -> Option<&'de RawValue> {
        self.next.next().flatten()
    }

    fn next(&mut self, what: &'static str) -> Result<&'de RawValue, DecodeError> {
        self.take().ok_or_else(|| malformed(serde_json::Error::custom(format_args!("{what} is missing"))))
    }

    fn text(&mut self, what: &'static str) -> Result<Cow<'de, str>, DecodeError> {
        text_of(self.next(what)?)
            .ok_or_else(|| malformed(serde_json::Error::custom(format_args!("{what} is a string"))))
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.more || !self.is_empty() { Err(shape("too many elements")) } else { Ok(()) }
    }
}

impl Numbers for Elements<'_> {
    fn is_empty(&self) -> bool {
        !self.next.as_slice().first().is_some_and(Option::is_some)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let text = self.next("a number")?.get();
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // What does not parse is beyond 64 bits.
            return text.parse().ok().filter(|&number| number <= MAX_NUMBER).ok_or(DecodeError::Number);
        }
        // Numbers are plain digits: no sign, fraction or exponent.
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        Err(if is_number { DecodeError::Number } else { shape("expected a number") })
    }
}

struct ElementsVisitor;

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Elements<'de>, A::Error> {
        let mut elements = [None; Elements::MOST];
        for slot in &mut elements {
            *slot = array.next_element::<&RawValue>()?;
            if slot.is_none() {
                return Ok(Elements { next: elements.into_iter(), more: false });
            }
        }
        let mut more = false;
        while array.next_element::<&RawValue>()?.is_some() {
            more = true;
        }
        Ok(Elements { next: elements.into_iter(), more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A space behind the bracket means nothing, and leads past the quick way.
    #[test]
    fn messages_are_the_same_by_the_quick_way_and_by_the_general_one() {
        let numbers = [
            "1",
            "17",
            "0",
            "01",
            "-1",
            "1.0",
            "",
            "999999999999999",
            "9007199254740991",
            "9007199254740992",
        ];
        let bodies = [
            r#""x""#,
            "{}",
            "[1]",
            "null",
            "",
            "1 2",
            r#""AAEC","base64""#,
            "\"\u{fc}\"",
            "\"\r\"",
            "\"\\\"",
            "\"",
            "\"a\"b\"",
            "\"\\u0041\"",
            "\"\t\"",
            "\"\u{7f}\"",
            "\" !#[]~\"",
            " 1 ",
        ];
        let (mut taken, mut refused) = (0, 0);
        for tag in ["msg", "req", "res", "err", "ack", "xyz"] {
            for seq in numbers {
                for body in bodies {
                    for answered in ["", "1,", "0,", "02,", "3"] {
                        let text = format!("[\"{tag}\",{seq},{answered}{body}]");
                        let spaced = text.replacen('[', "[ ", 1);
                        let (quick, general) = (
                            decode(text.as_bytes(), &Limits::default()),
                            decode(spaced.as_bytes(), &Limits::default()),
                        );
                        match (quick, general) {
                            (Ok(quick), Ok(general)) => {
                                assert_eq!(quick, general, "{text}");
                                taken += 1;
                            }
                            (Err(_), Err(_)) => refused += 1,
                            (quick, general) => panic!("{text}: {quick:?}, {general:?}"),
                        }
                    }
                }
            }
        }
        assert!(taken > 100 && refused > 1000, "{taken} taken, {refused} refused");
    }

    #[test]
    fn what_encoders_write_of_a_message_takes_the_quick_way() {
        for text in
            [r#"["msg",1,"x"]"#, r#"["req",20,{"a":1}]"#, r#"["res",300,1,[]]"#, r#"["err",4,99,null]"#]
        {
            assert!(
                plain_message(text.as_bytes(), &Limits::default()).is_some_and(|frame| frame.is_ok()),
                "{text}"
            );
        }
        assert!(plain_message(br#"["msg",1,"AAEC","base64"]"#, &Limits::default()).is_none());
    }
}
