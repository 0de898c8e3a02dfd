//! Proxies whose word is taken for where a request comes from.
//!
//! Of `X-Forwarded-For`, each proxy adds at the end whom it was asked by. So what stands left of the last address that
//! is not a trusted proxy's own is that client's invention. `Forwarded` (RFC 7239) is not looked at: a proxy that knows
//! nothing of it hands it on as the client wrote it, and nothing tells such a proxy from one that does.

use super::Source;
use http::HeaderMap;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Who is trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Vec<IpNet>,
    unix: bool,
}

impl Proxies {
    /// `10.0.0.0/8, 2001:db8::1, unix`
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Self::default();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            if one == "unix" {
                all.unix = true;
                continue;
            }
            let network = match one.parse::<IpAddr>() {
                Ok(address) => IpNet::from(address.to_canonical()),
                Err(_) => one.parse().ok()?,
            };
            all.networks.push(network);
        }
        Some(all)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is one of them.
    pub fn trust(&self, source: Source) -> bool {
        match source {
            Source::Unix => self.unix,
            Source::Address(address) => self.networks.iter().any(|network| network.contains(&address)),
        }
    }

    /// Where a request of `peer` comes from.
    pub fn client(&self, peer: Source, headers: &HeaderMap) -> Source {
        let mut client = peer;
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut hops = values.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        while self.trust(client) {
            // What cannot be read comes from where the last proxy that can be is.
            let Some(hop) = hops.next().and_then(|hop| address(hop.trim())) else { break };
            client = Source::of(hop);
        }
        client
    }
}

/// An address, with a port or brackets as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> Source {
        if text == "unix" { Source::Unix } else { Source::of(text.parse().unwrap()) }
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (http::HeaderName::from_static(FORWARDED_FOR), line.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let proxies = Proxies::parse("10.0.0.0/8, 2001:db8::1,unix").unwrap();
        for (peer, lines, client) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            // A client that makes something up.
            ("192.0.2.1", &["10.1.1.1"], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1,198.51.100.7 ,10.9.9.9"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.7", "10.9.9.9"], "198.51.100.7"),
            ("10.0.0.1", &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1, unknown, 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("2001:db8::1", &["2001:db8::2"], "2001:db8::2"),
            ("2001:db8::1", &["[2001:db8::2]"], "2001:db8::2"),
            ("2001:db8::1", &["[2001:db8::2]:80"], "2001:db8::2"),
            ("unix", &["198.51.100.7"], "198.51.100.7"),
            ("unix", &[], "unix"),
        ] {
            assert_eq!(proxies.client(source(peer), &headers(lines)), source(client), "{peer} {lines:?}");
        }
        let none = Proxies::parse("").unwrap();
        assert!(none.is_empty() && !proxies.is_empty());
        for peer in ["unix", "127.0.0.1"] {
            assert_eq!(none.client(source(peer), &headers(&["198.51.100.7"])), source(peer));
        }
    }

    #[test]
    fn networks_are_what_can_be_trusted() {
        for bad in ["10.0.0.0/33", "example.com", "10.0.0", "10.0.0.1:80", "/8"] {
            assert_eq!(Proxies::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whoever_is_not_trusted_is_who_they_are(line in "[ -~]{0,60}") {
            let proxies = Proxies::parse("10.0.0.0/8").unwrap();
            let peer = source("192.0.2.1");
            prop_assert_eq!(proxies.client(peer, &headers(&[&line])), peer);
            // And nothing that is said panics.
            proxies.client(source("10.0.0.1"), &headers(&[&line]));
        }
    }
}
