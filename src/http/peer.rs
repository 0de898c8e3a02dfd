//! Who asks.

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
    /// Whether it is on this machine, where bytes cost less than anything that makes them fewer.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Inet(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix => true,
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
