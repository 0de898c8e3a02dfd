//! One gzip member of independent chunks (RFC 1951, RFC 1952): each ends at a byte, and refers to none before it. Some
//! clients take only the first of several members for the content, so there is one.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::ops::Range;

/// Deflate, no flags, no time, no hint, unknown system.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// What one stored block can hold.
const STORED_MAX: usize = 0xffff;

/// Compresses chunks.
#[derive(Debug)]
pub(super) struct Deflate {
    level: u32,
    compress: Compress,
}

impl Deflate {
    pub(super) fn new(level: u32) -> Self {
        Self { level, compress: Compress::new(Compression::new(level), false) }
    }

    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// Compresses a chunk into `out`; how long it got, or none if it does not fit.
    pub(super) fn chunk(&mut self, chunk: &[u8], out: &mut [u8]) -> Option<usize> {
        self.compress.reset();
        let status = self.compress.compress(chunk, out, FlushCompress::Sync);
        let (taken, filled) = (self.compress.total_in(), self.compress.total_out() as usize);
        // A buffer that is full to its end may lack the end of the flush.
        let complete = matches!(status, Ok(Status::Ok)) && taken == chunk.len() as u64 && filled < out.len();
        complete.then_some(filled)
    }
}

/// Stored blocks for a chunk: the header of each, and what it holds.
pub(super) fn stored(length: usize) -> impl Iterator<Item = ([u8; 5], Range<usize>)> {
    (0..length).step_by(STORED_MAX).map(move |start| {
        let end = length.min(start + STORED_MAX);
        // At most STORED_MAX.
        let [low, high] = ((end - start) as u16).to_le_bytes();
        ([0, low, high, !low, !high], start..end)
    })
}

/// The end: an empty last block, checksum and length of what was encoded.
pub(super) fn trailer(crc: &Crc) -> [u8; 10] {
    let mut trailer = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    trailer[2..6].copy_from_slice(&crc.sum().to_le_bytes());
    trailer[6..].copy_from_slice(&crc.amount().to_le_bytes());
    trailer
}
