//! The base URL of a session, in one form.

use http::Uri;
use http::uri::Scheme;

use super::{ConnectError, tls};

/// Reads a base URL. `ws://` is another way to write `http://`, and `wss://` to write `https://`.
pub(super) fn parse(url: &str) -> Result<Uri, ConnectError> {
    let invalid = |reason| ConnectError::InvalidUrl { reason };
    let uri: Uri = url.parse().map_err(|_| invalid("it is not a URL"))?;
    let mut parts = uri.into_parts();
    match parts.scheme.as_ref().map(Scheme::as_str) {
        Some("http" | "ws") => parts.scheme = Some(Scheme::HTTP),
        Some("https" | "wss") if tls::AVAILABLE => parts.scheme = Some(Scheme::HTTPS),
        Some("https" | "wss") => return Err(ConnectError::NeedsTls),
        _ => return Err(invalid("it must begin with http://, https://, ws:// or wss://")),
    }
    let authority = parts.authority.as_ref().ok_or_else(|| invalid("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(invalid("credentials do not belong in it"));
    }
    if authority.host().is_empty() {
        return Err(invalid("it names no host"));
    }
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    Uri::from_parts(parts).map_err(|_| invalid("it is not a URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_it_are_one() {
        for url in ["http://localhost:3000/live?a=b", "ws://localhost:3000/live?a=b"] {
            assert_eq!(parse(url).unwrap().to_string(), "http://localhost:3000/live?a=b");
        }
        assert_eq!(parse("ws://[::1]:80").unwrap().to_string(), "http://[::1]:80/");
    }

    #[test]
    fn secure_schemes_are_one_too_or_say_what_they_need() {
        for url in ["https://localhost/live", "wss://localhost/live"] {
            if tls::AVAILABLE {
                assert_eq!(parse(url).unwrap().to_string(), "https://localhost/live");
                continue;
            }
            let error = parse(url).unwrap_err();
            assert!(matches!(error, ConnectError::NeedsTls), "{error}");
            assert!(error.to_string().contains("feature"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (url, reason) in [
            ("", "not a URL"),
            ("localhost:3000", "begin with"),
            ("/live", "begin with"),
            ("ftp://localhost/", "begin with"),
            ("http://me:secret@localhost/", "credentials"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("secret"));
        }
    }
}
