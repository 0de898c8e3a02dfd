//! How much a client may take of the server.

use std::time::Duration;

/// Limits of connections. Every wait for a client has an end, so that no client can hold anything for ever.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Connections served at a time (`MAX_CONNECTIONS`). For further ones, idle and half-sent ones are
    /// closed; where there are none, they wait in the listen queue.
    pub max_connections: u32,
    /// Connections of one address at a time (`MAX_CLIENT_CONNECTIONS`); zero is no limit.
    pub max_client_connections: usize,
    /// From the beginning of a connection to its first request, and from the first byte of a later request to the
    /// end of its headers (`HEADER_TIMEOUT`).
    pub header_timeout: Duration,
    /// How long a connection may stay open between requests (`IDLE_TIMEOUT`). Longer than the minute or so that
    /// clients and proxies keep theirs, so that it is seldom us who close one that is just being used again.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of a response (`WRITE_TIMEOUT`). A slow client takes the kernel's send
    /// buffer in gulps of up to a megabyte, so this also is the least speed: about 9 kB/s with the default.
    pub write_timeout: Duration,
    /// Bytes of a request's line and headers together (`MAX_HEADER_BYTES`), at least 8192; more is answered 431.
    pub max_header_bytes: usize,
    /// Header lines of a request (`MAX_HEADERS`); more is answered 431.
    pub max_headers: usize,
    /// Streams at a time in an HTTP/2 connection (`MAX_STREAMS`).
    pub max_streams: u32,
    /// How often a quiet HTTP/2 connection is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long to wait for it.
    pub ping_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_client_connections: 0,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(120),
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            max_streams: 128,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}
