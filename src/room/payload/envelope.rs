//! What all payloads of the layer have in common: a tag, a JSON head, and perhaps a body.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::{Body, Json, JsonError};

use super::{PayloadError, stated};

/// How JSON of the layer begins.
const JSON_MARK: &[u8] = b"{\"$\":";

/// How binary of the layer begins.
const BINARY_MARK: u8 = b'$';

/// The tag of a body that is the application's all the same.
pub(super) const APP: &str = "app";

/// A payload of the layer, of which only the tag has been understood.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) tag: String,
    head: Bytes,
    /// Of a binary payload: what stands behind the head.
    blob: Option<Bytes>,
}

/// Only the tag.
#[derive(Deserialize)]
struct Tag {
    #[serde(rename = "$")]
    tag: String,
}

/// Only the body.
#[derive(Deserialize)]
struct Inner {
    #[serde(default, deserialize_with = "stated")]
    body: Option<Json>,
}

/// What is written: the tag first, and so as the layer's.
#[derive(Serialize)]
struct Tagged<'a, T> {
    #[serde(rename = "$")]
    tag: &'a str,
    #[serde(flatten)]
    head: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a Json>,
}

/// A head without anything in it.
#[derive(Serialize)]
struct Nothing {}

/// Whether this body is the layer's.
fn is_marked(body: &Body) -> bool {
    match body {
        Body::Json(json) => json.as_bytes().starts_with(JSON_MARK),
        Body::Binary(bytes) => bytes.first() == Some(&BINARY_MARK),
    }
}

/// Whether a reader might take this body for the layer's: one that sees values and no text tells by the first member.
fn looks_marked(body: &Body) -> bool {
    let Body::Json(json) = body else { return is_marked(body) };
    let inside = json.as_bytes().trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    inside.is_some_and(|member| member.starts_with(br#""$""#) || member.starts_with(br#""\u0024""#))
}

/// A body of the application as it must be sent: wrapped if a reader might take it for the layer's, as it is otherwise.
///
/// # Errors
/// When it nests so deep that it cannot be wrapped.
pub fn escape(body: Body) -> Result<Body, PayloadError> {
    if looks_marked(&body) { write(APP, &Nothing {}, Some(&body)) } else { Ok(body) }
}

/// Writes a payload. Its body decides whether it is JSON or binary.
pub(super) fn write<T: Serialize>(tag: &str, head: &T, body: Option<&Body>) -> Result<Body, PayloadError> {
    let (json, blob) = match body {
        Some(Body::Json(json)) => (Some(json), None),
        Some(Body::Binary(bytes)) => (None, Some(bytes)),
        None => (None, None),
    };
    let text = Json::of(&Tagged { tag, head, body: json }).map_err(PayloadError::Body)?;
    let Some(blob) = blob else { return Ok(Body::Json(text)) };
    let length = u16::try_from(text.as_bytes().len()).map_err(|_| PayloadError::Head)?;
    let mut bytes =
        BytesMut::with_capacity(blob.len().saturating_add(text.as_bytes().len()).saturating_add(3));
    bytes.put_u8(BINARY_MARK);
    bytes.put_u16(length);
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(blob);
    Ok(Body::Binary(bytes.freeze()))
}

impl Envelope {
    /// Opens a payload of the layer; `Err(Ok(…))` gives back what is the application's.
    pub(super) fn open(body: Body) -> Result<Self, Result<Body, PayloadError>> {
        if !is_marked(&body) {
            return Err(Ok(body));
        }
        let (head, blob) = match body {
            Body::Json(json) => (json.as_bytes().clone(), None),
            Body::Binary(bytes) => split(&bytes).map(|(head, blob)| (head, Some(blob))).map_err(Err)?,
        };
        let malformed = |error| Err(PayloadError::Malformed(error));
        let Tag { tag } = serde_json::from_slice(&head).map_err(malformed)?;
        Ok(Self { tag, head, blob })
    }

    /// The head.
    pub(super) fn head<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        serde_json::from_slice(&self.head).map_err(PayloadError::Malformed)
    }

    /// The body: in JSON a member of the head, in binary what stands behind it.
    pub(super) fn body(&self) -> Result<Body, PayloadError> {
        let inner: Inner = self.head()?;
        match (inner.body, &self.blob) {
            (Some(json), None) => Ok(Body::Json(json)),
            (None, Some(blob)) => Ok(Body::Binary(blob.clone())),
            (Some(_), Some(_)) => Err(missing("two bodies")),
            (None, None) => Err(missing("no body")),
        }
    }

    /// The application's body that was wrapped.
    pub(super) fn app(&self) -> Result<Body, PayloadError> {
        self.body()
    }
}

fn missing(what: &str) -> PayloadError {
    PayloadError::Malformed(serde::de::Error::custom(what))
}

/// The head of a binary payload, checked like any JSON that enters, and what stands behind it.
fn split(bytes: &Bytes) -> Result<(Bytes, Bytes), PayloadError> {
    let (length, rest) = match bytes.get(1..).map(|rest| rest.split_first_chunk::<2>()) {
        Some(Some((length, rest))) => (usize::from(u16::from_be_bytes(*length)), rest),
        _ => return Err(PayloadError::Head),
    };
    if !rest.starts_with(JSON_MARK) {
        return Err(PayloadError::Head);
    }
    let (head, blob) = rest.split_at_checked(length).ok_or(PayloadError::Head)?;
    let checked = Json::parse(bytes.slice_ref(head)).map_err(|error| match error {
        JsonError::Malformed(error) => PayloadError::Malformed(error),
        deep @ JsonError::TooDeep => PayloadError::Body(deep),
    })?;
    Ok((checked.as_bytes().clone(), bytes.slice_ref(blob)))
}
