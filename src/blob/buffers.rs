//! Buffers that are used again, by one response after the other. A fresh one costs a page fault for every 4 KiB, and it is
//! not in the processor's cache.

use super::body::CHUNK;
use bytes::Bytes;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

/// As many as eight busy responses use: 16 MiB.
const KEPT_CHUNKS: usize = 16;

/// Hands out buffers of one size.
#[derive(Debug)]
pub struct Buffers {
    size: usize,
    kept: usize,
    /// What nobody uses at the moment.
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Buffers of `size` bytes, of which at most `kept` wait for their next use.
    pub fn new(size: usize, kept: usize) -> Arc<Self> {
        Arc::new(Self { size, kept, free: Mutex::default() })
    }

    /// For the chunks of responses. A busy response has two, one that is being filled and one that is being sent.
    pub fn for_chunks() -> Arc<Self> {
        Self::new(CHUNK as usize, KEPT_CHUNKS)
    }

    /// An empty buffer. It comes back when it is dropped, or the last [`Bytes`] that are made of it are.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: free.unwrap_or_else(|| vec![0; self.size]), filled: 0, home: self.clone() }
    }
}

/// A buffer that is filled from its beginning.
#[derive(Debug)]
pub(super) struct Buffer {
    /// All of it, with what an earlier use left behind.
    bytes: Vec<u8>,
    filled: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.space(bytes.len() as u64)?.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Appends zeroes.
    pub(super) fn zeroes(&mut self, count: u64) -> io::Result<()> {
        let space = self.space(count)?;
        space.fill(0);
        self.filled += space.len();
        Ok(())
    }

    /// Appends `count` bytes of a file from `position` on; an error if it is shorter.
    pub(super) fn read(&mut self, file: &File, position: u64, count: u64) -> io::Result<()> {
        let space = self.space(count)?;
        file.read_exact_at(space, position)?;
        self.filled += space.len();
        Ok(())
    }

    fn space(&mut self, count: u64) -> io::Result<&mut [u8]> {
        let end = usize::try_from(count).ok().and_then(|count| self.filled.checked_add(count));
        let space = end.and_then(|end| self.bytes.get_mut(self.filled..end));
        space.ok_or_else(|| io::Error::other("a chunk is longer than its buffer"))
    }

    /// What it was filled with.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.home.kept {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_only_when_all_its_bytes_are_gone() {
        let buffers = Buffers::new(4, 1);
        let mut first = buffers.take();
        first.push(b"abcd").unwrap();
        let all = first.freeze();
        let part = all.slice(1..3);
        drop(all);
        let mut second = buffers.take();
        second.push(b"xy").unwrap();
        assert_eq!(part, "bc", "still in use, so the second is another one");
        drop(part);
        let mut third = buffers.take();
        third.zeroes(2).unwrap();
        assert_eq!(third.freeze(), [0, 0][..], "what it held before is not to be seen");
        assert_eq!(second.freeze(), "xy");
    }

    #[test]
    fn no_more_buffers_are_kept_than_it_was_told() {
        let buffers = Buffers::new(4, 2);
        let many: Vec<_> = (0..5).map(|_| buffers.take()).collect();
        drop(many);
        assert_eq!(buffers.free.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_buffer_does_not_grow() {
        let mut buffer = Buffers::new(4, 1).take();
        buffer.push(b"abc").unwrap();
        assert!(buffer.push(b"de").is_err() && buffer.zeroes(u64::MAX).is_err());
        buffer.push(b"d").unwrap();
        assert_eq!(buffer.freeze(), "abcd");
    }
}
