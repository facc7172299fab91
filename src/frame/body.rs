//! What a message says: JSON text, checked once, or bytes.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// How deep JSON may nest. The same bound as `serde_json`'s own for typed values.
pub const MAX_JSON_DEPTH: usize = 128;

/// Why a text is not taken as JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not well-formed (RFC 8259), or not UTF-8; or a value that has no JSON form.
    #[error("not well-formed JSON")]
    Malformed(#[source] serde_json::Error),
    /// Nested deeper than [`MAX_JSON_DEPTH`].
    #[error("JSON nests deeper than {MAX_JSON_DEPTH}")]
    TooDeep,
}

/// A JSON text (RFC 8259) that has been checked, on one line.
///
/// It is checked where it enters the process and then passed on as it came: only raw CR and LF, which in
/// well-formed JSON are white space, are replaced by spaces, because batches are joined by newlines.
/// Clones share the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// Checks a text.
    ///
    /// # Errors
    /// When it is not well-formed JSON in UTF-8 or nests deeper than [`MAX_JSON_DEPTH`].
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, JsonError> {
        let text = text.into();
        let raw: &RawValue = serde_json::from_slice(&text).map_err(JsonError::Malformed)?;
        check_depth(raw.get().as_bytes(), MAX_JSON_DEPTH)?;
        // `RawValue` leaves surrounding white space out, and so does what is kept.
        let kept = if raw.get().len() == text.len() && !has_line_ends(&text) {
            None
        } else {
            Some(one_line(raw.get().as_bytes()))
        };
        Ok(Self(kept.unwrap_or(text)))
    }

    /// The JSON of a value.
    ///
    /// # Errors
    /// When the value has no JSON form (a map whose keys are not strings, say) or nests too deep.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let text = serde_json::to_vec(value).map_err(JsonError::Malformed)?;
        check_depth(&text, MAX_JSON_DEPTH)?;
        // `serde_json` escapes CR and LF in strings; only a `RawValue` inside can bring raw ones.
        Ok(if has_line_ends(&text) { Self(one_line(&text)) } else { Self(Bytes::from(text)) })
    }

    /// The JSON `null`.
    pub const fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// Copies a text that a JSON parser has just accepted; its depth is checked here.
    pub(in crate::frame) fn copy_checked(raw: &RawValue) -> Result<Self, JsonError> {
        let text = raw.get().as_bytes();
        check_depth(text, MAX_JSON_DEPTH)?;
        Ok(if has_line_ends(text) { Self(one_line(text)) } else { Self(Bytes::copy_from_slice(text)) })
    }

    /// Copies a text that is one string, all printable ASCII and without escapes: no parser is needed to see that. `None` is
    /// anything else.
    pub(in crate::frame) fn copy_plain_string(text: &[u8]) -> Option<Self> {
        let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        // To the end, whatever is found: so it is looked at many bytes at once.
        let plain =
            |plain, &byte: &u8| plain & matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
        inner.iter().fold(true, plain).then(|| Self(Bytes::copy_from_slice(text)))
    }

    /// Reads the text as a value of type `T`.
    ///
    /// # Errors
    /// When the JSON does not fit the type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Checked when it was made: the default is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as shared bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

fn has_line_ends(text: &[u8]) -> bool {
    memchr::memchr2(b'\n', b'\r', text).is_some()
}

fn one_line(text: &[u8]) -> Bytes {
    text.iter()
        .map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte })
        .collect::<Vec<_>>()
        .into()
}

/// Checks the depth of well-formed JSON.
pub(super) fn check_depth(text: &[u8], limit: usize) -> Result<(), JsonError> {
    // Cheap for nearly all texts: neither fewer bytes nor fewer openings than this can nest deeper.
    if text.len() / 2 <= limit || memchr::memchr2_iter(b'[', b'{', text).nth(limit).is_none() {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth = depth.saturating_add(1);
                if depth > limit {
                    return Err(JsonError::TooDeep);
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({})", self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::copy_checked(&raw).map_err(serde::de::Error::custom)
    }
}

/// What a message says.
///
/// Clones share the bytes: a body that is published to a thousand sockets is encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// JSON text.
    Json(Json),
    /// Bytes that the protocol does not look into.
    Binary(Bytes),
}

impl Body {
    /// The JSON of a value as a body.
    ///
    /// # Errors
    /// When the value has no JSON form or nests deeper than [`MAX_JSON_DEPTH`].
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        Json::of(value).map(Self::Json)
    }

    /// Reads a JSON body as a value of type `T`.
    ///
    /// # Errors
    /// When the body is binary or its JSON does not fit the type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self {
            Self::Json(json) => json.to(),
            Self::Binary(_) => Err(serde::de::Error::custom("the body is binary, not JSON")),
        }
    }

    /// How many bytes it has: of JSON text, or raw. This is what windows and limits count.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether it has no bytes, as only a binary body can.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The bytes: of the JSON text, or raw.
    pub fn as_bytes(&self) -> &Bytes {
        match self {
            Self::Json(json) => json.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// JSON as its text; binary as its length.
impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(json) => json.fmt(f),
            Self::Binary(bytes) => write!(f, "({} bytes)", bytes.len()),
        }
    }
}

impl From<Json> for Body {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

/// A JSON string.
impl From<&str> for Body {
    fn from(text: &str) -> Self {
        let quoted = serde_json::Value::from(text).to_string();
        Self::Json(Json(Bytes::from(quoted)))
    }
}

/// A JSON string.
impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// The JSON of the value, which nests no deeper than it was built: see [`MAX_JSON_DEPTH`].
impl TryFrom<serde_json::Value> for Body {
    type Error = JsonError;

    fn try_from(value: serde_json::Value) -> Result<Self, JsonError> {
        Self::json(&value)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_passed_on_as_it_came_but_on_one_line() {
        let json = Json::parse("\n{\"a\" :\r\n 1.0}\n").unwrap();
        assert_eq!(json.as_str(), "{\"a\" :   1.0}");
    }

    #[test]
    fn depth_counts_brackets_but_not_those_in_strings() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(MAX_JSON_DEPTH)).is_ok());
        assert!(matches!(Json::parse(nested(MAX_JSON_DEPTH + 1)), Err(JsonError::TooDeep)));
        assert!(Json::parse(format!("\"\\\"{}\"", "[".repeat(1000))).is_ok());
    }

    #[test]
    fn broken_json_and_broken_utf8_are_refused() {
        for text in [&b"{"[..], b"", b"1 2", b"\"\xff\"", b"01", b"nul"] {
            assert!(matches!(Json::parse(Bytes::copy_from_slice(text)), Err(JsonError::Malformed(_))));
        }
    }

    #[test]
    fn a_str_becomes_a_json_string() {
        assert_eq!(Body::from("a\n\"b\"").to_string(), r#""a\n\"b\"""#);
    }
}
