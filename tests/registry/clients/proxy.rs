//! A network that fails in the middle of a download.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Passes connections on, and breaks one of them once.
pub struct Proxy {
    pub address: String,
    broken: Arc<AtomicBool>,
}

impl Proxy {
    /// Breaks the first connection that has carried this many bytes from the server.
    pub fn breaking_after(server: &str, bytes: u64) -> Self {
        let (server, listener) = (server.to_owned(), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap().to_string();
        let broken = Arc::new(AtomicBool::new(false));
        let breaks = broken.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let (to_server, from_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(from_client, to_server, |_| true));
                let breaks = breaks.clone();
                thread::spawn(move || {
                    pass(server, client, |passed| passed < bytes || breaks.swap(true, Ordering::SeqCst));
                });
            }
        });
        Self { address, broken }
    }

    /// Whether it has come to that.
    pub fn has_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }
}

/// Copies until the end, or until `go_on` says so of the bytes that have been copied; then closes both.
fn pass(mut from: TcpStream, mut to: TcpStream, go_on: impl Fn(u64) -> bool) {
    let (mut buffer, mut passed) = ([0; 64 * 1024], 0);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        passed += length as u64;
        if !go_on(passed) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
