//! The media types of the protocol's bodies.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Of a request body that is a JSON batch. It needs no preflight, even with credentials in the body.
pub const TEXT: &str = "text/plain";
/// Of a JSON batch, in a request or an answer.
pub const LINES: &str = "application/x-ndjson";
/// Of binary frames, in a request or an answer.
pub const BINARY: &str = "application/vnd.throughline";
/// Of a stream of events (HTML standard, "Server-sent events").
pub const EVENT_STREAM: &str = "text/event-stream";

/// The media type that headers name, without parameters; empty when they name none. Its case does not count.
pub fn named(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// The same in lower case.
pub fn content_type(headers: &HeaderMap) -> String {
    named(headers).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_count() {
        let mut headers = HeaderMap::new();
        assert_eq!(content_type(&headers), "");
        headers.insert(CONTENT_TYPE, "Text/Event-Stream; charset=utf-8".parse().unwrap());
        assert_eq!(content_type(&headers), EVENT_STREAM);
    }
}
