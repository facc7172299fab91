//! What the environment says about proxies.

use std::sync::Arc;

use crate::client::ConnectError;

use super::exempt::Exempt;
use super::{Proxies, Proxy};

/// The variables that count, as they were when somebody looked.
///
/// Of two ways to write a variable the lower case one wins, as with curl; an empty one counts as none.
pub(super) struct Environment<F> {
    read: F,
}

impl Environment<fn(&str) -> Option<String>> {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        Self { read: |name| std::env::var(name).ok() }
    }
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    /// The proxies that it names.
    ///
    /// # Errors
    /// When one is named that is none: to go on without it would be a riddle.
    pub(super) fn proxies(&self) -> Result<Proxies, ConnectError> {
        // Who runs as CGI got `HTTP_PROXY` from a header `Proxy` of somebody's request (CVE-2016-5385).
        let cgi = (self.read)("REQUEST_METHOD").is_some();
        let http = self.proxy("http_proxy", (!cgi).then_some("HTTP_PROXY"))?;
        let https = self.proxy("https_proxy", Some("HTTPS_PROXY"))?;
        let all = self.proxy("all_proxy", Some("ALL_PROXY"))?;
        let exempt = self.value("no_proxy").or_else(|| self.value("NO_PROXY"));
        let exempt = exempt.map(|list| Exempt::parse(&list)).unwrap_or_default();
        Ok(Proxies { http: http.or_else(|| all.clone()), https: https.or(all), exempt })
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.read)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn proxy(
        &self,
        lower: &'static str,
        upper: Option<&'static str>,
    ) -> Result<Option<Arc<Proxy>>, ConnectError> {
        let mut names = [Some(lower), upper].into_iter().flatten();
        let named = names.find_map(|name| self.value(name).map(|value| (name, value)));
        named.map(|(name, value)| Proxy::parse(&value, name).map(Arc::new)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, ConnectError> {
        let read = |name: &str| {
            variables.iter().find(|(named, _)| *named == name).map(|(_, value)| (*value).to_owned())
        };
        Environment { read }.proxies()
    }

    /// The proxy before a server, with its port.
    fn before(proxies: &Proxies, target: &str) -> Option<String> {
        proxies.before(&target.parse().unwrap()).map(|proxy| super::super::shown(&proxy.uri))
    }

    #[test]
    fn each_scheme_has_its_proxy_and_all_proxy_stands_for_both() {
        let both =
            proxies(&[("HTTP_PROXY", "http://a:1"), ("HTTPS_PROXY", "b:2"), ("ALL_PROXY", "c:3")]).unwrap();
        assert_eq!(before(&both, "http://host/"), Some("a:1".into()));
        assert_eq!(before(&both, "https://host/"), Some("b:2".into()));
        let one = proxies(&[("HTTPS_PROXY", "b:2"), ("all_proxy", "socks5h://c")]).unwrap();
        assert_eq!(before(&one, "http://host/"), Some("c:1080".into()));
        assert_eq!(before(&one, "https://host/"), Some("b:2".into()));
        assert_eq!(before(&proxies(&[]).unwrap(), "http://host/"), None);
    }

    #[test]
    fn the_lower_case_wins_and_an_empty_variable_is_none() {
        let lower = proxies(&[("http_proxy", "a:1"), ("HTTP_PROXY", "b:2")]).unwrap();
        assert_eq!(before(&lower, "http://host/"), Some("a:1".into()));
        let empty = proxies(&[("http_proxy", " "), ("HTTP_PROXY", "b:2")]).unwrap();
        assert_eq!(before(&empty, "http://host/"), Some("b:2".into()));
    }

    #[test]
    fn no_proxy_is_heeded_with_the_port_that_a_scheme_means() {
        let set = [("ALL_PROXY", "a:1"), ("NO_PROXY", "in.example,out.example:443")];
        let proxies = proxies(&set).unwrap();
        for (target, expected) in [
            ("http://www.in.example:3000/", None),
            ("https://out.example/", None),
            ("http://out.example/", Some("a:1".into())),
            ("https://other.example/", Some("a:1".into())),
        ] {
            assert_eq!(before(&proxies, target), expected, "{target}");
        }
    }

    #[test]
    fn a_cgi_program_does_not_heed_what_a_request_may_have_set() {
        let cgi =
            proxies(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "a:1"), ("HTTPS_PROXY", "b:2")]).unwrap();
        assert_eq!(before(&cgi, "http://host/"), None);
        assert_eq!(before(&cgi, "https://host/"), Some("b:2".into()));
    }

    #[test]
    fn what_is_no_proxy_is_refused_by_its_name_and_without_its_password() {
        for (url, rule) in [
            ("ftp://me:secret@a", "http://"),
            ("socks4://me:secret@a", "socks5"),
            ("http://me:secret@", "URL"),
            ("not a url", "URL"),
        ] {
            let error = proxies(&[("HTTPS_PROXY", url)]).unwrap_err().to_string();
            assert!(error.starts_with("HTTPS_PROXY") && error.contains(rule), "{url}: {error}");
            assert!(!error.contains("secret"));
        }
        let kept = proxies(&[("ALL_PROXY", "http://me:secret@a:1")]).unwrap();
        assert!(!format!("{kept:?}").contains("secret"));
    }
}
