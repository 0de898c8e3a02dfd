//! Compressing what is kept: reproducibly, and with as many threads as there are.
//!
//! Each block of the content is a gzip member or a Zstandard frame of its own, and both formats allow several of them
//! one after the other. So the bytes are the same however many threads make them. Nor does the processor make a
//! difference: libdeflate and zstd choose between ways to compute the same, while zlib-rs hashes with other
//! instructions, and finds other matches, where there are such. Only another version of a library may yield other bytes;
//! then [`VERSION`] has to be another one.

use super::Coding;
use libdeflater::CompressionLvl;
use std::io;

/// How many bytes of content are compressed for themselves. A larger window would gain less than 1 %.
pub const BLOCK: u64 = 4 << 20;
/// Names the bytes that come out.
pub const VERSION: u32 = 1;

const GZIP_LEVEL: i32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// Compresses blocks, one after the other.
pub struct Compressor {
    state: State,
}

enum State {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// For one of the formats; takes some MiB.
    pub fn new(coding: Coding) -> io::Result<Self> {
        let state = match coding {
            Coding::Gzip => {
                let level = CompressionLvl::new(GZIP_LEVEL)
                    .map_err(|error| io::Error::other(format!("{error:?}: level {GZIP_LEVEL}")))?;
                State::Gzip(libdeflater::Compressor::new(level))
            }
            Coding::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
                compressor.include_checksum(true)?;
                State::Zstd(compressor)
            }
        };
        Ok(Self { state })
    }

    /// One block, compressed.
    pub fn block(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self.state {
            State::Gzip(compressor) => {
                let mut out = vec![0; compressor.gzip_compress_bound(block.len())];
                let length = compressor.gzip_compress(block, &mut out).map_err(io::Error::other)?;
                out.truncate(length);
                Ok(out)
            }
            State::Zstd(compressor) => compressor.compress(block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use std::io::Read;

    #[test]
    fn the_bytes_are_those_that_version_1_is() {
        // Text, noise and zeroes.
        let mut state = 7u64;
        let noise = (0..300_000u32).map(|n| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if n % 3 == 0 { b"forge-registry"[n as usize % 14] } else { (state >> 60) as u8 }
        });
        let content: Vec<u8> = noise.chain(std::iter::repeat_n(0, 100_000)).collect();
        let expected = [
            (Coding::Gzip, "fc1c11577d259f795570ab6036f2a67b59fcd42c64f6afe74d312a82c5339f43"),
            (Coding::Zstd, "188dfed47e6d5558d1b1bb65e5d43cad4be13c6d25bfa2fc40e6d32c887d9c91"),
        ];
        for (coding, digest) in expected {
            let bytes = Compressor::new(coding).unwrap().block(&content).unwrap();
            let mut decoded = Vec::new();
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut decoded).unwrap(),
                Coding::Zstd => zstd::stream::copy_decode(&*bytes, &mut decoded).map(|()| 0).unwrap(),
            };
            assert!(decoded == content);
            assert_eq!(
                Digest::of(&bytes).hex(),
                digest,
                "another version of the library? then raise VERSION"
            );
        }
    }
}
