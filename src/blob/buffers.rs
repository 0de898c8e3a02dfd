//! Buffers that are used again, by one response after the other. A fresh one costs a page fault for every 4 KiB, and it is
//! not in the processor's cache.

use bytes::Bytes;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

/// How long a buffer is for chunks of responses, which the processor's cache should still have when they are sent:
/// measured with `dev/bench layers`, twice and half as much are slower.
const CHUNK: usize = 512 << 10;
/// As many as sixteen busy responses use: 16 MiB.
const KEPT_CHUNKS: usize = 32;
/// How long a buffer is that is not one of the shared ones.
const SHORT: usize = 16 << 10;

/// Hands out buffers of one size.
#[derive(Debug)]
pub struct Buffers {
    size: usize,
    kept: usize,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_use: usize,
    /// What nobody uses at the moment.
    free: Vec<Vec<u8>>,
}

impl Buffers {
    /// Buffers of `size` bytes, of which at most `kept` wait for their next use.
    pub fn new(size: usize, kept: usize) -> Arc<Self> {
        Arc::new(Self { size, kept, limit: usize::MAX, state: Mutex::default() })
    }

    /// For the chunks of responses: at most `bytes` of them are in use. A busy response has two, one that is being filled
    /// and one that is being sent; one that finds none left gets on with short ones, so clients that take nothing of what
    /// they ask for keep nobody else from being served.
    pub fn for_chunks(bytes: u64) -> Arc<Self> {
        let limit = usize::try_from(bytes).unwrap_or(usize::MAX) / CHUNK;
        Arc::new(Self { size: CHUNK, kept: KEPT_CHUNKS, limit, state: Mutex::default() })
    }

    /// An empty buffer, unless as many as there may be are in use. It comes back when it is dropped, or the last [`Bytes`]
    /// that are made of it are.
    pub(super) fn take(self: &Arc<Self>) -> Option<Buffer> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.in_use >= self.limit {
            return None;
        }
        state.in_use += 1;
        let bytes = state.free.pop();
        drop(state);
        let bytes = bytes.unwrap_or_else(|| vec![0; self.size]);
        Some(Buffer { bytes, filled: 0, home: Some(self.clone()) })
    }

    /// One for `length` bytes, whoever else has one.
    pub(super) fn take_for(self: &Arc<Self>, length: usize) -> Buffer {
        let shared = (length <= self.size).then(|| self.take()).flatten();
        shared.unwrap_or_else(|| Buffer::of(length))
    }
}

/// A buffer that is filled from its beginning.
#[derive(Debug)]
pub(super) struct Buffer {
    /// All of it, with what an earlier use left behind.
    bytes: Vec<u8>,
    filled: usize,
    home: Option<Arc<Buffers>>,
}

impl Buffer {
    /// A short one that is no other's.
    pub(super) fn short() -> Self {
        Self::of(SHORT)
    }

    fn of(length: usize) -> Self {
        Self { bytes: vec![0; length], filled: 0, home: None }
    }

    /// How many bytes fit in.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

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
        let Some(home) = &self.home else { return };
        let mut state = home.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_use -= 1;
        if state.free.len() < home.kept {
            state.free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_only_when_all_its_bytes_are_gone() {
        let buffers = Buffers::new(4, 1);
        let mut first = buffers.take().unwrap();
        first.push(b"abcd").unwrap();
        let all = first.freeze();
        let part = all.slice(1..3);
        drop(all);
        let mut second = buffers.take().unwrap();
        second.push(b"xy").unwrap();
        assert_eq!(part, "bc", "still in use, so the second is another one");
        drop(part);
        let mut third = buffers.take().unwrap();
        third.zeroes(2).unwrap();
        assert_eq!(third.freeze(), [0, 0][..], "what it held before is not to be seen");
        assert_eq!(second.freeze(), "xy");
    }

    #[test]
    fn no_more_buffers_are_kept_than_it_was_told() {
        let buffers = Buffers::new(4, 2);
        let many: Vec<_> = (0..5).map(|_| buffers.take()).collect();
        drop(many);
        let state = buffers.state.lock().unwrap();
        assert_eq!((state.free.len(), state.in_use), (2, 0));
    }

    #[test]
    fn no_more_buffers_are_in_use_than_it_was_told() {
        let buffers = Buffers::for_chunks(3 * CHUNK as u64);
        let many: Vec<_> = (0..5).filter_map(|_| buffers.take()).collect();
        assert_eq!(many.len(), 3);
        assert_eq!(buffers.take_for(10).capacity(), 10, "one of its own");
        drop(many);
        assert_eq!(buffers.take_for(10).capacity(), CHUNK);
        assert!(Buffers::for_chunks(0).take().is_none());
    }

    #[test]
    fn a_buffer_does_not_grow() {
        let mut buffer = Buffers::new(4, 1).take().unwrap();
        buffer.push(b"abc").unwrap();
        assert!(buffer.push(b"de").is_err() && buffer.zeroes(u64::MAX).is_err());
        buffer.push(b"d").unwrap();
        assert_eq!(buffer.freeze(), "abcd");
    }
}
