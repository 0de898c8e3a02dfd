//! What retention does.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Runs, and what they did. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    runs: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Retention {
    /// A run has ended.
    pub fn ran(&self, well: bool) {
        self.runs.inc();
        if !well {
            self.failed.inc();
        }
    }

    /// So many images were dropped.
    pub fn dropped(&self, images: usize) {
        self.dropped.inc_by(images as u64);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("retention_runs", "Looks for images to drop", self.runs.clone());
        registry.register(
            "retention_failed_runs",
            "Looks for images to drop that failed",
            self.failed.clone(),
        );
        registry.register(
            "retention_dropped_images",
            "Images that were dropped since nobody had asked for them, or there were too many",
            self.dropped.clone(),
        );
    }
}
