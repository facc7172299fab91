//! `NO_PROXY`: which servers are dialled directly although there is a proxy.

use std::net::IpAddr;

use ipnet::IpNet;

/// The servers that no proxy stands before.
///
/// The list is read as curl, Go and Python read it where they agree, and as the most generous of them where they do
/// not: commas or spaces between entries; `*` is everybody; a name covers itself and all below it, with or without a
/// dot or `*.` before it; addresses and networks (`10.0.0.0/8`) cover addresses; and with `:port` behind it an entry
/// covers only that port. Case does not matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Exempt {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    what: What,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum What {
    Everybody,
    Network(IpNet),
    /// In lower case, without dots at its ends.
    Name(String),
}

impl Exempt {
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty());
        Self { entries: entries.map(Entry::parse).collect() }
    }

    /// Whether a host, as a URL names it, is dialled directly.
    pub(super) fn covers(&self, host: &str, port: u16) -> bool {
        let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        self.entries.iter().any(|entry| {
            let fits = match &entry.what {
                What::Everybody => true,
                What::Network(network) => address.is_some_and(|address| network.contains(&address)),
                What::Name(name) => host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            };
            fits && entry.port.is_none_or(|only| only == port)
        })
    }
}

impl Entry {
    fn parse(entry: &str) -> Self {
        if let Some(what) = What::network(entry) {
            return Self { what, port: None };
        }
        // What is an address was one above: a colon that is left stands before a port.
        let (host, port) = match entry.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host, Some(port)),
            _ => (entry, None),
        };
        let what = What::network(host).unwrap_or_else(|| What::name(host));
        Self { what, port }
    }
}

impl What {
    fn network(text: &str) -> Option<Self> {
        let text = bare(text);
        text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok().map(Self::Network)
    }

    fn name(text: &str) -> Self {
        let name = text.strip_prefix('*').unwrap_or(text).trim_matches('.');
        if name.is_empty() { Self::Everybody } else { Self::Name(name.to_ascii_lowercase()) }
    }
}

/// An address without the brackets that URLs put around those of IPv6.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cover_what_is_below_them_and_no_neighbours() {
        for entry in ["corp.example", ".corp.example", "*.corp.example", "CORP.Example."] {
            let exempt = Exempt::parse(entry);
            for host in ["corp.example", "a.corp.example", "A.B.Corp.Example", "corp.example."] {
                assert!(exempt.covers(host, 443), "{entry}: {host}");
            }
            for host in ["notcorp.example", "example", "corp.example.com", "10.0.0.1"] {
                assert!(!exempt.covers(host, 443), "{entry}: {host}");
            }
        }
    }

    #[test]
    fn addresses_and_networks_cover_addresses() {
        let exempt = Exempt::parse("127.0.0.1, 10.0.0.0/8 ::1 fd00::/8");
        for host in ["127.0.0.1", "10.255.3.4", "[::1]", "[fd12::1]", "[::ffff:10.1.2.3]"] {
            assert!(exempt.covers(host, 80), "{host}");
        }
        for host in ["127.0.0.2", "11.0.0.1", "[::2]", "localhost", "10.example"] {
            assert!(!exempt.covers(host, 80), "{host}");
        }
    }

    #[test]
    fn an_entry_with_a_port_covers_that_port_only() {
        let exempt = Exempt::parse("localhost:3000,127.0.0.1:80,[::1]:8080,*:9");
        for (host, port) in [("localhost", 3000), ("127.0.0.1", 80), ("[::1]", 8080), ("any.example", 9)] {
            assert!(exempt.covers(host, port), "{host}:{port}");
            assert!(!exempt.covers(host, port + 1), "{host}:{port}");
        }
    }

    #[test]
    fn a_star_is_everybody_and_an_empty_list_nobody() {
        let (everybody, nobody) = (Exempt::parse("a.example,*"), Exempt::parse(" , "));
        for host in ["b.example", "127.0.0.1", "[::1]"] {
            assert!(everybody.covers(host, 1));
            assert!(!nobody.covers(host, 1));
        }
    }
}
