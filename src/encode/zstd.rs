//! Zstandard frames (RFC 8878), one a chunk: no window is larger than a chunk, far below the 8 MiB that RFC 9659 allows.

use std::{io, ops::Range};
use zstd::bulk::Compressor;

/// What one block can hold (section 3.1.1.2.3).
const BLOCK_MAX: usize = 128 << 10;
/// The magic number, and a frame header descriptor: content size in four bytes, single segment.
const HEADER: [u8; 5] = [0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000];

/// Compresses a chunk into `out`; how long it got, or none if it does not fit.
pub(super) fn chunk(
    compressor: &mut Compressor<'static>,
    level: i32,
    chunk: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let mut compressed = || -> io::Result<usize> {
        compressor.set_compression_level(level)?;
        compressor.compress_to_buffer(chunk, out)
    };
    compressed().ok()
}

/// A frame of raw blocks for a chunk: what stands before each block, and what it holds.
pub(super) fn stored(length: u32) -> impl Iterator<Item = (Vec<u8>, Range<usize>)> {
    let size = length as usize;
    (0..size.max(1)).step_by(BLOCK_MAX).map(move |start| {
        let end = size.min(start + BLOCK_MAX);
        let mut before = if start == 0 { [&HEADER[..], &length.to_le_bytes()].concat() } else { Vec::new() };
        let block = (end - start) << 3 | usize::from(end == size);
        // 21 bits of length, two of type (0, raw), one for the last.
        before.extend_from_slice(&block.to_le_bytes()[..3]);
        (before, start..end)
    })
}
