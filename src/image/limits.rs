//! What a hostile or broken image may cost at most.

use crate::budget::{Allowance, Budget, BudgetExceeded, Held};
use std::{
    io::{self, Read},
    sync::atomic::{AtomicU64, Ordering},
};

/// Limits on what reading an image may cost. The defaults fit every image that clients can run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What reading an image may cost as a whole. The limits below keep single things in proportion.
    pub reading: Allowance,
    /// Decompressed bytes a compressed byte, `MAX_COMPRESSION_RATIO`; 250.
    pub max_compression_ratio: u64,
    /// Decompressed bytes below which the ratio is not judged; 64 MiB. An image of nothing but zeroes is fine as long
    /// as it is small.
    pub ratio_grace: u64,
    /// Members of an archive, or files of a layout; 100 000.
    pub max_members: usize,
    /// Layers of one image; 500, the most that Linux' overlay file system can stack, so more could never run.
    pub max_layers: usize,
    /// Files, folders and links of a computed layer, `MAX_LAYER_FILES`; 4 000 000.
    pub max_layer_files: usize,
    /// Manifests and indexes in one layout; 1000.
    pub max_manifests: usize,
    /// Bytes of `manifest.json`, `index.json` and each manifest; 4 MiB, as registries and clients have it.
    pub max_manifest_bytes: u64,
    /// Bytes of an image configuration; 8 MiB.
    pub max_config_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reading: Allowance::default(),
            max_compression_ratio: 250,
            ratio_grace: 64 << 20,
            max_members: 100_000,
            max_layers: 500,
            max_layer_files: 4_000_000,
            max_manifests: 1000,
            max_manifest_bytes: 4 << 20,
            max_config_bytes: 8 << 20,
        }
    }
}

/// A limit that an image exceeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// The budget of a reading.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    /// Far too much comes out of so little.
    #[error(
        "it unpacks to more than {0} times its compressed size, which is what MAX_COMPRESSION_RATIO allows: \
         a decompression bomb?"
    )]
    Ratio(u64),
    /// A number of things.
    #[error("it has more than {limit} {what}")]
    Count {
        /// Of what, in plural.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The size of one thing.
    #[error("{what} has {size} bytes, and {limit} are allowed")]
    Bytes {
        /// The member.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl From<LimitExceeded> for io::Error {
    fn from(exceeded: LimitExceeded) -> Self {
        Self::other(exceeded)
    }
}

/// Counts the bytes that a decoder takes.
pub(super) struct Taken<'b, R> {
    pub(super) inner: R,
    pub(super) taken: &'b AtomicU64,
}

impl<R: Read> Read for Taken<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Holds what a decoder yields against the limits.
pub(super) struct Yielded<'b, R> {
    pub(super) inner: R,
    pub(super) taken: &'b AtomicU64,
    pub(super) budget: &'b Budget,
    pub(super) max_ratio: u64,
    pub(super) ratio_grace: u64,
    pub(super) yielded: u64,
    /// What the decoder needs.
    pub(super) _memory: Held<'b>,
}

impl<R: Read> Read for Yielded<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.yielded = self.yielded.saturating_add(n as u64);
        self.budget.unpacked(n as u64).map_err(LimitExceeded::from)?;
        let taken = self.taken.load(Ordering::Relaxed);
        if self.yielded > self.ratio_grace && self.yielded / self.max_ratio.max(1) > taken {
            return Err(LimitExceeded::Ratio(self.max_ratio).into());
        }
        Ok(n)
    }
}
