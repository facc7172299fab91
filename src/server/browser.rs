//! The client for browsers, which the service serves itself: the first minutes need no package.
//!
//! It implements `docs/PROTOCOL.md`, "Discovery and CORS". The files are built from `js/`, by `npm run build` there; the
//! test command builds it again and compares.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{HeaderName, StatusCode};

use super::answer::{self, Answer};

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// The client.
    Client,
    /// Rooms, which it can do without.
    Rooms,
}

const CLIENT: &[u8] = include_bytes!("client.js");
const ROOMS: &[u8] = include_bytes!("rooms.js");

const DIGEST_OF_CLIENT: u64 = digest(CLIENT);
const DIGEST_OF_ROOMS: u64 = digest(ROOMS);

/// Changes with the file: FNV-1a over it (Fowler, Noll, Vo), computed when this is compiled.
const fn digest(mut rest: &[u8]) -> u64 {
    let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
    while let Some((&byte, behind)) = rest.split_first() {
        digest = (digest ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        rest = behind;
    }
    digest
}

impl Script {
    /// What a parameter of the query asks for.
    pub(super) fn asked_by(parameter: &str) -> Option<Self> {
        match parameter {
            "client.js" => Some(Self::Client),
            "rooms.js" => Some(Self::Rooms),
            _ => None,
        }
    }
}

/// The script, or 304 to who has it already.
///
/// A browser keeps it and asks each time whether it is still the one: so pages and servers are updated together.
pub(super) fn answer(script: Script, headers: &HeaderMap) -> Answer {
    let (text, digest) = match script {
        Script::Client => (CLIENT, DIGEST_OF_CLIENT),
        Script::Rooms => (ROOMS, DIGEST_OF_ROOMS),
    };
    let tag = format!("\"{digest:016x}\"");
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    });
    let mut answer = if known {
        answer::bytes(StatusCode::NOT_MODIFIED, "text/javascript; charset=utf-8", Bytes::new())
    } else {
        answer::bytes(StatusCode::OK, "text/javascript; charset=utf-8", text)
    };
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Boxes on the way may compress this one.
    headers.remove(CONTENT_ENCODING);
    headers.remove(HeaderName::from_static("x-accel-buffering"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    answer
}
