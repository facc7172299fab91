//! The client for browsers, which the service serves itself: the first minutes need no package.
//!
//! It implements `docs/PROTOCOL.md`, "Discovery and CORS". The file is built from `js/`, by `npm run build` there; the
//! test command builds it again and compares.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{HeaderName, StatusCode};

use super::answer::{self, Answer};

/// The parameter of the query that asks for it.
pub(super) const NAME: &str = "client.js";

const SCRIPT: &[u8] = include_bytes!("client.js");

/// Changes with the file: FNV-1a over it (Fowler, Noll, Vo), computed when this is compiled.
const DIGEST: u64 = {
    let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
    let mut rest = SCRIPT;
    while let Some((&byte, behind)) = rest.split_first() {
        digest = (digest ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        rest = behind;
    }
    digest
};

/// The script, or 304 to who has it already.
///
/// A browser keeps it and asks each time whether it is still the one: so pages and servers are updated together.
pub(super) fn script(headers: &HeaderMap) -> Answer {
    let tag = format!("\"{DIGEST:016x}\"");
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    });
    let mut answer = if known {
        answer::bytes(StatusCode::NOT_MODIFIED, "text/javascript; charset=utf-8", Bytes::new())
    } else {
        answer::bytes(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT)
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
