//! Where requests come from, and whom they count for.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// An address; never an IPv4 address in the clothes of an IPv6 one.
    Address(IpAddr),
    /// A process of this machine, by a Unix socket.
    Unix,
}

impl Source {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Unix => true,
        }
    }

    /// All that is likely to be the same machine: of IPv6 the network of 64 bits, in which one has as many addresses as
    /// it likes.
    pub fn group(self) -> Self {
        match self {
            Self::Address(IpAddr::V6(address)) => {
                let network = u128::from(address) >> 64 << 64;
                Self::Address(IpAddr::V6(Ipv6Addr::from(network)))
            }
            other => other,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Whom work and connections count for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Client {
    /// Somebody who has logged in, from wherever.
    User(Arc<str>),
    /// Whoever asks from there.
    Source(Source),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_machine_are_one() {
        let group = |address: &str| Source::of(address.parse().unwrap()).group().to_string();
        assert_eq!(group("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(group("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(group("192.0.2.1"), "192.0.2.1");
        assert_eq!(Source::Unix.group(), Source::Unix);
        assert!(Source::of("::ffff:127.0.0.1".parse().unwrap()).is_local());
    }
}
