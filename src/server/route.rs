//! What a request asks for, by its method, headers and query; never by its path, which belongs to the host.
//!
//! It implements the table of `docs/PROTOCOL.md`, "One URL".

use http::header::{
    ACCEPT, CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Uri};

use crate::frame::Encoding;
use crate::transport::media;

use super::browser::Script;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `GET` with Upgrade.
    WebSocket,
    /// The same with `?plain`.
    PlainWebSocket,
    /// A WebSocket of a version that is not 13.
    OtherWebSocket,
    /// `GET` with the headers of a WebSocket but no Upgrade: some box took it out.
    Stripped,
    /// `GET` for an event stream.
    Events,
    /// `GET` of the client for browsers, or of what belongs to it.
    Script(Script),
    /// Any other `GET`.
    Discovery,
    /// `POST`.
    Exchange,
    /// `OPTIONS`.
    Preflight,
    /// All else.
    NotAllowed,
}

pub(super) fn route(method: &Method, uri: &Uri, headers: &HeaderMap) -> Route {
    match *method {
        Method::POST => Route::Exchange,
        Method::OPTIONS => Route::Preflight,
        Method::HEAD => script(uri).map_or(Route::Discovery, Route::Script),
        Method::GET => route_get(uri, headers),
        _ => Route::NotAllowed,
    }
}

/// What a `CONNECT` for the protocol `websocket` asks for: over HTTP/2 that is how a WebSocket is opened (RFC 8441).
pub(super) fn route_connect(uri: &Uri, headers: &HeaderMap) -> Route {
    match parameters(uri).any(|(name, _)| name == "plain") {
        _ if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|v| v.as_bytes() != b"13") => {
            Route::OtherWebSocket
        }
        true => Route::PlainWebSocket,
        false => Route::WebSocket,
    }
}

fn route_get(uri: &Uri, headers: &HeaderMap) -> Route {
    let upgrades = has_word(headers, &UPGRADE, "websocket") && has_word(headers, &CONNECTION, "upgrade");
    // A CONNECT of HTTP/2's that a box has made an Upgrade of bears no key.
    let (key, version) = (headers.contains_key(SEC_WEBSOCKET_KEY), headers.get(SEC_WEBSOCKET_VERSION));
    let meant = key || version.is_some();
    match (upgrades, meant) {
        (true, true) if version.is_none_or(|v| v.as_bytes() != b"13") => Route::OtherWebSocket,
        (true, true) if parameters(uri).any(|(name, _)| name == "plain") => Route::PlainWebSocket,
        (true, true) => Route::WebSocket,
        (false, true) => Route::Stripped,
        (_, false) => match script(uri) {
            Some(script) => Route::Script(script),
            None if accepts(headers).any(|media| media.eq_ignore_ascii_case(media::EVENT_STREAM)) => {
                Route::Events
            }
            None => Route::Discovery,
        },
    }
}

fn script(uri: &Uri) -> Option<Script> {
    parameters(uri).find_map(|(name, _)| Script::asked_by(name))
}

/// Whether a list of words in a header names one.
pub(super) fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name);
    let mut words = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.any(|named| named.trim().eq_ignore_ascii_case(word))
}

/// The parameters of a query, as they stand there: what is of ours needs no escapes.
pub(super) fn parameters(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    let query = uri.query().unwrap_or_default();
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The media types that `Accept` names, without parameters, except those it refuses (`q=0`).
fn accepts(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|range| {
        let Some((media, parameters)) = range.split_once(';') else { return Some(range.trim()) };
        let refused = parameters.split(';').map(str::trim).any(|part| {
            let quality = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            quality.and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0)
        });
        (!refused).then_some(media.trim())
    })
}

/// What a table of media types says of one; their case does not count.
fn look_up<T: Copy>(table: &[(&str, T)], media: &str) -> Option<T> {
    table.iter().find(|(known, _)| media.eq_ignore_ascii_case(known)).map(|(_, found)| *found)
}

/// How the body of a request is encoded; none if in no way of ours.
pub(super) fn body_encoding(headers: &HeaderMap) -> Option<Encoding> {
    let table = [
        (media::TEXT, Encoding::Json),
        (media::LINES, Encoding::Json),
        ("", Encoding::Json),
        (media::BINARY, Encoding::Binary),
    ];
    look_up(&table, media::named(headers))
}

/// How the one answer to a request is encoded: as `Accept` says or, where that leaves it open, as the request is.
pub(super) fn answer_encoding(headers: &HeaderMap, request: Encoding) -> Encoding {
    let table =
        [(media::LINES, Encoding::Json), (media::BINARY, Encoding::Binary), (media::TEXT, Encoding::Json)];
    accepts(headers).find_map(|media| look_up(&table, media)).unwrap_or(request)
}

/// In which way a stream of frames may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamForm {
    EventStream,
    Frames,
    Lines,
}

/// How a stream is written; none if `Accept` names no way of ours.
pub(super) fn stream_form(headers: &HeaderMap) -> Option<StreamForm> {
    if !headers.contains_key(ACCEPT) {
        return Some(StreamForm::EventStream);
    }
    let table = [
        (media::EVENT_STREAM, StreamForm::EventStream),
        (media::BINARY, StreamForm::Frames),
        (media::LINES, StreamForm::Lines),
        ("text/*", StreamForm::EventStream),
        ("*/*", StreamForm::EventStream),
    ];
    accepts(headers).find_map(|media| look_up(&table, media))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        let pairs = text.split('\n').filter_map(|line| line.split_once(": "));
        pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    const UPGRADE: &str = "connection: keep-alive, Upgrade\nupgrade: WebSocket\nsec-websocket-key: x\n";

    #[test]
    fn method_headers_and_query_choose_and_the_path_never_does() {
        let version = format!("{UPGRADE}sec-websocket-version: 13");
        let old = format!("{UPGRADE}sec-websocket-version: 8");
        let table = [
            (Method::GET, "", version.as_str(), Route::WebSocket),
            (Method::GET, "plain", &version, Route::PlainWebSocket),
            (Method::GET, "session=x&plain=1", &version, Route::PlainWebSocket),
            (Method::GET, "plainer", &version, Route::WebSocket),
            (Method::GET, "", &old, Route::OtherWebSocket),
            (Method::GET, "", UPGRADE, Route::OtherWebSocket),
            (Method::GET, "", "sec-websocket-key: x\nsec-websocket-version: 13", Route::Stripped),
            (Method::GET, "", "sec-websocket-version: 13", Route::Stripped),
            (
                Method::GET,
                "",
                "connection: upgrade\nupgrade: websocket\nsec-websocket-version: 13",
                Route::WebSocket,
            ),
            (Method::GET, "", "connection: upgrade\nupgrade: h2c", Route::Discovery),
            (Method::GET, "", "connection: close\nupgrade: websocket\nsec-websocket-key: x", Route::Stripped),
            (Method::GET, "", "accept: text/event-stream", Route::Events),
            (Method::GET, "", "accept: text/html, Text/Event-Stream;q=0.5", Route::Events),
            (Method::GET, "", "accept: text/event-stream;q=0", Route::Discovery),
            (Method::GET, "", "accept: */*", Route::Discovery),
            (Method::GET, "", "", Route::Discovery),
            (Method::HEAD, "", "", Route::Discovery),
            (Method::GET, "client.js", "accept: */*", Route::Script(Script::Client)),
            (Method::GET, "a=b&client.js=", "", Route::Script(Script::Client)),
            (Method::GET, "rooms.js", "accept: text/event-stream", Route::Script(Script::Rooms)),
            (Method::HEAD, "client.js", "", Route::Script(Script::Client)),
            (Method::GET, "client", "", Route::Discovery),
            (Method::POST, "client.js", "", Route::Exchange),
            (Method::POST, "", &version, Route::Exchange),
            (Method::OPTIONS, "", "", Route::Preflight),
            (Method::PUT, "", "", Route::NotAllowed),
            (Method::DELETE, "", &version, Route::NotAllowed),
        ];
        for path in ["/", "/live/plain", "/session"] {
            for (method, query, text, expected) in &table {
                let uri = format!("{path}?{query}").parse().unwrap();
                assert_eq!(route(method, &uri, &headers(text)), *expected, "{method} {uri} {text}");
            }
        }
    }

    #[test]
    fn bodies_and_answers_are_encoded_as_headers_say() {
        let table = [
            ("", Some(Encoding::Json), Encoding::Json),
            ("content-type: text/plain;charset=UTF-8", Some(Encoding::Json), Encoding::Json),
            ("content-type: application/x-ndjson", Some(Encoding::Json), Encoding::Json),
            ("content-type: application/vnd.throughline", Some(Encoding::Binary), Encoding::Binary),
            (
                "content-type: application/vnd.throughline\naccept: */*",
                Some(Encoding::Binary),
                Encoding::Binary,
            ),
            (
                "content-type: application/vnd.throughline\naccept: application/x-ndjson",
                Some(Encoding::Binary),
                Encoding::Json,
            ),
            (
                "content-type: text/plain\naccept: application/vnd.throughline",
                Some(Encoding::Json),
                Encoding::Binary,
            ),
            ("content-type: application/x-www-form-urlencoded", None, Encoding::Json),
        ];
        for (text, body, answer) in table {
            let headers = headers(text);
            assert_eq!(body_encoding(&headers), body, "{text}");
            assert_eq!(answer_encoding(&headers, body.unwrap_or(Encoding::Json)), answer, "{text}");
        }
    }

    #[test]
    fn streams_are_written_as_accept_says() {
        let table = [
            ("", Some(StreamForm::EventStream)),
            ("accept: */*", Some(StreamForm::EventStream)),
            ("accept: text/event-stream", Some(StreamForm::EventStream)),
            ("accept: application/vnd.throughline", Some(StreamForm::Frames)),
            ("accept: application/x-ndjson", Some(StreamForm::Lines)),
            ("accept: image/png", None),
        ];
        for (text, expected) in table {
            assert_eq!(stream_form(&headers(text)), expected, "{text}");
        }
    }
}
