//! What nix-daemon says first: its protocol and its version, of which the client keeps only the former.
//!
//! ```text
//! greeting ::= magic: u64  protocol: u64  length: u64  version: [u8; length]  …
//! ```
//! (Nix, `worker-protocol-connection.cc`; every number is little-endian.)

use crate::metrics::DaemonConnection;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

const BEFORE: usize = 24;
/// Versions of development builds have a date and a commit in them.
const MAX_VERSION: usize = 64;

/// The beginning of what has been read.
#[derive(Debug, Clone, Default)]
pub(super) struct Greeting(Arc<Mutex<Vec<u8>>>);

/// A reader that keeps the beginning of what it reads.
#[derive(Debug)]
pub(super) struct Greeted<R> {
    inner: R,
    greeting: Greeting,
    /// Counted for as long as it is read from.
    _counted: DaemonConnection,
}

impl<R> Greeted<R> {
    pub(super) fn new(inner: R, counted: DaemonConnection) -> (Self, Greeting) {
        let greeting = Greeting::default();
        (Self { inner, greeting: greeting.clone(), _counted: counted }, greeting)
    }
}

impl Greeting {
    /// The version of Nix, `2.34.8` for instance, if it has been said.
    pub(super) fn nix_version(&self) -> Option<String> {
        let head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length = u64::from_le_bytes(head.get(BEFORE - 8..BEFORE)?.try_into().ok()?);
        let version = head.get(BEFORE..)?.get(..usize::try_from(length).ok()?)?;
        let version = std::str::from_utf8(version).ok()?;
        let plain = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_graphic());
        plain.then(|| version.to_owned())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Greeted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buf);
        let mut head = self.greeting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = (BEFORE + MAX_VERSION).saturating_sub(head.len());
        head.extend(buf.filled()[before..].iter().take(missing));
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::DaemonConnections;
    use tokio::io::AsyncReadExt;

    async fn version(bytes: &[u8]) -> Option<String> {
        let (mut reader, greeting) = Greeted::new(bytes, DaemonConnections::default().open());
        let mut read = Vec::new();
        while reader.read_buf(&mut read).await.unwrap() > 0 {}
        assert_eq!(read, bytes);
        greeting.nix_version()
    }

    #[tokio::test]
    async fn the_version_is_found_and_nonsense_is_none() {
        let greeting = |length: u64, version: &str| {
            let mut bytes = vec![7; 16];
            bytes.extend(length.to_le_bytes());
            bytes.extend(version.as_bytes());
            bytes
        };
        assert_eq!(version(&greeting(6, "2.34.8\0\0more")).await.as_deref(), Some("2.34.8"));
        for (length, text) in
            [(6, "2.3"), (0, ""), (u64::MAX, "2.34.8"), (3, "\0\0\0"), (80, &"2".repeat(80))]
        {
            assert_eq!(version(&greeting(length, text)).await, None, "{length} {text:?}");
        }
        assert_eq!(version(b"short").await, None);
    }
}
