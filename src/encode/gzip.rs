//! One gzip member of independent chunks (RFC 1951, RFC 1952): each ends at a byte, and refers to none before it. Some
//! clients take only the first of several members for the content, so there is one.

use flate2::{Compress, Compression, FlushCompress, Status};
use std::ops::Range;

/// Deflate, no flags, no time, no hint, unknown system.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// What one stored block can hold.
const STORED_MAX: usize = 0xffff;

/// Compresses chunks.
#[derive(Debug)]
pub(super) struct Deflate {
    level: u32,
    /// None after a chunk that did not fit: zlib-rs 0.6.8 does not forget all of it when it is reset, and panics later.
    compress: Option<Compress>,
}

impl Deflate {
    pub(super) fn new(level: u32) -> Self {
        Self { level, compress: None }
    }

    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// Compresses a chunk into `out`; how long it got, or none if it does not fit.
    pub(super) fn chunk(&mut self, chunk: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut compress =
            self.compress.take().unwrap_or_else(|| Compress::new(Compression::new(self.level), false));
        let status = compress.compress(chunk, out, FlushCompress::Sync);
        let (taken, filled) = (compress.total_in(), compress.total_out() as usize);
        // A buffer that is full to its end may lack the end of the flush.
        let complete = matches!(status, Ok(Status::Ok)) && taken == chunk.len() as u64 && filled < out.len();
        if complete {
            compress.reset();
            self.compress = Some(compress);
        }
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

/// The end: an empty last block, checksum and length, modulo 2³², of what was encoded.
pub(super) fn trailer(crc: u32, length: u32) -> [u8; 10] {
    let mut trailer = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    trailer[2..6].copy_from_slice(&crc.to_le_bytes());
    trailer[6..].copy_from_slice(&length.to_le_bytes());
    trailer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_behind_that_would_hurt_the_next_chunk() {
        let noise = noise(1 << 18);
        let text = b"text ".repeat(50_000);
        let mut out = vec![0; 1 << 18];
        for level in 1..=9 {
            let mut deflate = Deflate::new(level);
            for _ in 0..4 {
                assert_eq!(deflate.chunk(&noise, &mut out), None, "{level}");
                assert_eq!(deflate.chunk(&noise, &mut out), None, "{level}");
                let length = deflate.chunk(&text, &mut out).unwrap();
                let mut inflated = Vec::with_capacity(text.len() + 1);
                let mut decompress = flate2::Decompress::new(false);
                decompress
                    .decompress_vec(&out[..length], &mut inflated, flate2::FlushDecompress::Sync)
                    .unwrap();
                assert!(inflated == text, "{level}");
            }
        }
    }
}
