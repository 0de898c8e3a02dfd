//! Who asks.

use crate::access::Source;
use std::{fmt, net::SocketAddr};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An address and port.
    Inet(SocketAddr),
    /// A process of this machine, by a Unix socket.
    Unix,
}

impl Peer {
    /// Where it is.
    pub fn source(&self) -> Source {
        match self {
            Self::Inet(address) => Source::of(address.ip()),
            Self::Unix => Source::Unix,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
