//! Who a session is: its public id, its secret key, and the epoch its server gave it.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::de::Visitor;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;

/// Text that is not the base64url form (RFC 4648, section 5, no padding) of the right length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not base64url of {bytes} bytes without padding")]
pub struct ParseIdentityError {
    bytes: usize,
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], ParseIdentityError> {
    let wrong = ParseIdentityError { bytes: N };
    let mut bytes = [0; N];
    if BASE64URL_NOPAD.decode_len(text.len()) != Ok(N) {
        return Err(wrong);
    }
    BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).map_err(|_| wrong)?;
    Ok(bytes)
}

/// Writes a text that is never longer than the 43 characters of 32 bytes, without a copy of it.
fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut room = [0; 43];
    let text = room.get_mut(..BASE64URL_NOPAD.encode_len(bytes.len()));
    let text = text.ok_or_else(|| S::Error::custom("more than 32 bytes"))?;
    BASE64URL_NOPAD.encode_mut(bytes, text);
    serializer.serialize_str(std::str::from_utf8(text).map_err(S::Error::custom)?)
}

/// Reads from a text where it stands.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err = ParseIdentityError>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64url without padding")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! base64url_text {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = ParseIdentityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                decode(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(PhantomData))
            }
        }
    };
}

/// The public name of a session: 128 random bits, chosen by the client.
///
/// Safe in logs, URLs and metrics. As text it is 22 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);
base64url_text!(SessionId);

impl SessionId {
    /// Makes an id from 16 bytes, which must come from a cryptographic generator.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        BASE64URL_NOPAD.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// The secret that proves a session is one's own: 256 random bits, chosen by the client.
///
/// It never stands in a URL, a log line, an error or a metric: `Debug` is redacted, there is no
/// `Display`, and equality is in constant time. As text it is 43 characters of base64url.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);
base64url_text!(SessionKey);

impl SessionKey {
    /// Makes a key from 32 bytes, which must come from a cryptographic generator.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes. What is made of them is a secret too.
    pub const fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SessionKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SessionKey {}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(redacted)")
    }
}

/// Which life of a session this is: 64 random bits, chosen by the server when it creates the session.
///
/// Two epochs of one id are two sessions: nothing of one counts for the other. As text it is 11
/// characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; 8]);
base64url_text!(Epoch);

impl Epoch {
    /// Makes an epoch from 8 random bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The 8 bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        BASE64URL_NOPAD.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_is_the_identity() {
        let id = SessionId::from_bytes([0xfb; 16]);
        assert_eq!(id.to_string().len(), 22);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_lengths_padding_and_alphabets_are_refused() {
        for text in
            ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAA+/", "AAAAAAAAAAAAAAAAAAAAAB"]
        {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_shows_nothing_of_itself() {
        let key = SessionKey::from_bytes([7; 32]);
        assert_eq!(format!("{key:?}"), "SessionKey(redacted)");
        assert!(key != SessionKey::from_bytes([8; 32]));
    }
}
