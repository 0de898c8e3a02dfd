//! Responses as they come over a bare connection, as slowly as it takes.

use crate::support::{PATIENCE, Registry};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// A response that is being received.
pub struct Download {
    connection: TcpStream,
    received: Vec<u8>,
}

impl Download {
    /// Asks for it, and reads nothing yet.
    pub fn begin(registry: &Registry, path: &str) -> Self {
        Self::begin_with(registry, path, "")
    }

    /// The same, with further lines of the head.
    pub fn begin_with(registry: &Registry, path: &str, headers: &str) -> Self {
        let mut connection = TcpStream::connect(&registry.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
        Self { connection, received: Vec::new() }
    }

    /// Reads until so many bytes are there, head and all, or nothing more comes.
    pub fn receive(&mut self, length: usize) {
        let mut buffer = [0; 4096];
        while self.received.len() < length {
            // A reset is one way of being cut.
            let Ok(read @ 1..) = self.connection.read(&mut buffer) else { return };
            self.received.extend_from_slice(&buffer[..read]);
        }
    }

    /// Reads the rest: the status, and as much of the body as came. Nothing at all if the connection was cut before that.
    pub fn finish(self) -> (u16, Vec<u8>) {
        let (status, body, _) = self.finish_with_head();
        (status, body)
    }

    /// The same, and the head in small letters.
    pub fn finish_with_head(mut self) -> (u16, Vec<u8>, String) {
        self.receive(usize::MAX);
        let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") else {
            return (0, self.received, String::new());
        };
        let body = self.received.split_off(end + 4);
        let head = String::from_utf8_lossy(&self.received).to_lowercase();
        (head[9..12].parse().unwrap(), body, head)
    }
}

/// A request over a bare connection: see [`Download::finish`].
pub fn raw(registry: &Registry, path: &str) -> (u16, Vec<u8>) {
    Download::begin(registry, path).finish()
}
