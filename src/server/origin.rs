//! Which pages may talk to this server: the Origin check and CORS.
//!
//! It implements `docs/PROTOCOL.md`, "Origin". A request passes when its `Origin` is this server's own or listed.
//! Without an `Origin` it passes too, because only browsers send one; but then nothing that a browser adds by
//! itself counts as a credential, unless `Sec-Fetch-Site` says that a page of this very origin asks.
//!
//! A browser leaves `Origin` out of a simple `GET` even when a foreign page makes it (an image, `no-cors`). Such a
//! request cannot read an answer, but it could open a session; so where `Sec-Fetch-Site` says that another site
//! asks and there is no `Origin`, only the discovery document is served.

use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use http::{HeaderName, Uri};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Which origins are let in.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    /// As [`normalize`] writes them.
    pub(super) listed: Vec<String>,
    pub(super) any: bool,
    pub(super) trust_forwarded: bool,
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A page of this origin.
    Same,
    /// A page of an allowed one: it may read the answer.
    Allowed(HeaderValue),
    /// Not a browser, or one that does not say.
    Unsaid,
    /// A page of another site, in a request that a browser sends without asking and without `Origin`.
    Foreign,
    /// A page that is not allowed.
    Refused,
}

impl From {
    /// Whether what a browser adds by itself counts as a credential.
    pub(super) fn vouches(&self) -> bool {
        matches!(self, Self::Same | Self::Allowed(_))
    }
}

impl Policy {
    pub(super) fn judge(&self, headers: &HeaderMap, uri: &Uri) -> From {
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(value), None) = (origins.next(), origins.next()) else {
            return if headers.contains_key(ORIGIN) { From::Refused } else { unsaid(headers) };
        };
        if let Some(origin) = value.to_str().ok().and_then(normalize) {
            if self.host(headers, uri).is_some_and(|host| is_same(&origin, host)) {
                return From::Same;
            }
            if self.listed.contains(&origin) {
                return allowed(value);
            }
        }
        if self.any { allowed(value) } else { From::Refused }
    }

    /// The host, and port, by which the client named this server.
    fn host<'a>(&self, headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
        if self.trust_forwarded {
            if let Some(value) = headers.get(X_FORWARDED_HOST) {
                // The first is what the client said to the proxy nearest to it.
                return value.to_str().ok()?.split(',').next().map(str::trim);
            }
        }
        match headers.get(HOST) {
            Some(value) => value.to_str().ok(),
            None => uri.authority().map(http::uri::Authority::as_str),
        }
    }
}

/// The value is copied: as it came it pins the block of memory that hyper reads into, for as long as a stream lasts.
fn allowed(value: &HeaderValue) -> From {
    HeaderValue::from_bytes(value.as_bytes()).map_or(From::Refused, From::Allowed)
}

fn unsaid(headers: &HeaderMap) -> From {
    match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        Some(b"same-origin") => From::Same,
        None | Some(b"none") => From::Unsaid,
        Some(_) => From::Foreign,
    }
}

/// An origin in the one way to write it: lower case, no default port. None if it is not one; `null` is not.
pub(super) fn normalize(origin: &str) -> Option<String> {
    let (scheme, rest) = origin.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let is_host = !rest.is_empty()
        && rest
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'?' | b'#' | b'@' | b',' | b'\\'));
    if !is_scheme || !is_host {
        return None;
    }
    let rest = rest.to_ascii_lowercase();
    let host = without_default_port(&scheme, &rest);
    Some(format!("{scheme}://{host}"))
}

fn without_default_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let port = match scheme {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => return host,
    };
    host.strip_suffix(port).unwrap_or(host)
}

/// Whether an origin names this host. Of the scheme nothing is known behind a proxy, so it does not count.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, named)) = origin.split_once("://") else { return false };
    let web = matches!(scheme, "http" | "https");
    web && without_default_port(scheme, &host.to_ascii_lowercase()) == named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parse =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(parse).collect()
    }

    fn policy() -> Policy {
        Policy {
            listed: vec![normalize("https://App.example:443").unwrap()],
            any: false,
            trust_forwarded: false,
        }
    }

    fn judge(policy: &Policy, pairs: &[(&str, &str)]) -> &'static str {
        match policy.judge(&headers(pairs), &Uri::from_static("/")) {
            From::Same => "same",
            From::Allowed(_) => "allowed",
            From::Unsaid => "unsaid",
            From::Foreign => "foreign",
            From::Refused => "refused",
        }
    }

    #[test]
    fn an_origin_is_let_in_when_it_is_the_same_or_listed() {
        let table = [
            ("http://live.example", "live.example", "same"),
            ("https://live.example", "live.example", "same"),
            ("https://live.example", "live.example:443", "same"),
            ("https://LIVE.example", "live.EXAMPLE", "same"),
            ("http://live.example:3000", "live.example:3000", "same"),
            ("http://[::1]:3000", "[::1]:3000", "same"),
            ("http://live.example:3000", "live.example", "refused"),
            ("http://live.example", "live.example:3000", "refused"),
            ("http://live.example:443", "live.example", "refused"),
            ("https://app.example", "live.example", "allowed"),
            ("https://app.example:443", "live.example", "allowed"),
            ("http://app.example", "live.example", "refused"),
            ("https://app.example:8443", "live.example", "refused"),
            ("https://evil.app.example", "live.example", "refused"),
            ("https://app.example.evil", "live.example", "refused"),
            ("https://live.example@evil", "live.example", "refused"),
            ("chrome-extension://live.example", "live.example", "refused"),
            ("null", "null", "refused"),
            ("file://", "live.example", "refused"),
            ("", "", "refused"),
            ("http://", "", "refused"),
        ];
        for (origin, host, expected) in table {
            assert_eq!(
                judge(&policy(), &[("origin", origin), ("host", host)]),
                expected,
                "{origin} at {host}"
            );
        }
    }

    #[test]
    fn two_origins_are_none() {
        let two = [("origin", "http://a"), ("origin", "http://a"), ("host", "a")];
        assert_eq!(judge(&policy(), &two), "refused");
    }

    #[test]
    fn without_an_origin_only_the_browser_can_vouch() {
        let table = [
            ("same-origin", "same"),
            ("none", "unsaid"),
            ("same-site", "foreign"),
            ("cross-site", "foreign"),
        ];
        for (site, expected) in table {
            assert_eq!(judge(&policy(), &[("host", "a"), ("sec-fetch-site", site)]), expected, "{site}");
        }
        assert_eq!(judge(&policy(), &[("host", "a")]), "unsaid");
    }

    #[test]
    fn a_forwarded_host_counts_only_where_it_is_trusted() {
        let pairs = [("origin", "https://a"), ("host", "inner"), ("x-forwarded-host", "a, b")];
        assert_eq!(judge(&policy(), &pairs), "refused");
        assert_eq!(judge(&Policy { trust_forwarded: true, ..policy() }, &pairs), "same");
        let pairs = [("origin", "https://inner"), ("host", "inner"), ("x-forwarded-host", "a")];
        assert_eq!(judge(&Policy { trust_forwarded: true, ..policy() }, &pairs), "refused");
    }

    #[test]
    fn any_origin_is_let_in_only_by_the_frightening_switch() {
        let any = Policy { any: true, ..policy() };
        for origin in ["null", "https://evil.example"] {
            assert_eq!(judge(&any, &[("origin", origin), ("host", "a")]), "allowed");
        }
    }

    #[test]
    fn http2_names_the_host_in_the_uri() {
        let uri = Uri::from_static("https://a/live");
        assert_eq!(policy().judge(&headers(&[("origin", "https://a")]), &uri), From::Same);
    }
}
