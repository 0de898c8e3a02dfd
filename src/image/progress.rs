//! How far the reading of an image is.

use super::{Reader, limits::LimitExceeded};
use std::{
    io::{self, Read},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// Counts the bytes of the store that are read for an image. Whoever waits for it can look at any time.
#[derive(Debug, Default)]
pub struct ReadProgress {
    done: AtomicU64,
    expected: AtomicU64,
    /// Files are still being found, so that nobody knows how many bytes there are.
    open_ended: AtomicBool,
}

impl ReadProgress {
    /// The bytes that have been read, and all that there are if that is known.
    pub fn status(&self) -> (u64, Option<u64>) {
        let (done, expected) = (self.done.load(Relaxed), self.expected.load(Relaxed));
        (done, Some(expected).filter(|expected| *expected > 0 && !self.open_ended.load(Relaxed)))
    }

    pub(super) fn read(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.expected.fetch_add(bytes, Relaxed);
    }

    pub(super) fn is_open_ended(&self) {
        self.open_ended.store(true, Relaxed);
    }
}

/// Counts what is read, and looks at the clock.
pub(super) struct Counted<'p, R> {
    pub(super) inner: R,
    pub(super) reader: &'p Reader,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.reader.progress.read(n as u64);
        self.reader.budget.in_time().map_err(LimitExceeded::from)?;
        Ok(n)
    }
}
