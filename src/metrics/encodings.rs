//! Chunks of responses that are compressed.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// All of them. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Encodings {
    in_use: Gauge,
    limit: Gauge,
    compressed: Counter,
    stored: Counter,
}

impl Encodings {
    /// How many chunks may be compressed at a time.
    pub fn limit(&self, max: usize) {
        self.limit.set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    /// A chunk is being encoded, until what this returns is dropped.
    pub fn begin(&self) -> InUse {
        self.in_use.inc();
        InUse(self.in_use.clone())
    }

    /// A chunk has become smaller.
    pub fn compressed(&self) {
        self.compressed.inc();
    }

    /// A chunk was left as it is.
    pub fn stored(&self) {
        self.stored.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "encodings_running",
            "Chunks of responses that are being encoded",
            self.in_use.clone(),
        );
        registry.register(
            "encodings_limit",
            "Chunks that may be encoded at a time (MAX_ENCODINGS)",
            self.limit.clone(),
        );
        registry.register(
            "encoded_chunks_compressed",
            "Chunks of encoded responses that were compressed",
            self.compressed.clone(),
        );
        registry.register(
            "encoded_chunks_stored",
            "Chunks of encoded responses that were left as they are, for want of time, room or success",
            self.stored.clone(),
        );
    }
}

/// A chunk that is being encoded, until this is dropped.
#[derive(Debug)]
pub struct InUse(Gauge);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.dec();
    }
}
