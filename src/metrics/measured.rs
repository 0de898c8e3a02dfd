//! Sizes, and states: what needs no counting along, since it can be looked at when somebody asks.

use super::labels::{Cache, OfCache};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::time::{SystemTime, UNIX_EPOCH};

/// A look at everything that has a size. Nothing is said of what could not be looked at.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// The index.
    pub index: Option<IndexSize>,
    /// Links in the folder of GC roots.
    pub gc_roots: Option<usize>,
    /// Links that images of the index should have, and that are not there.
    pub gc_roots_missing: Option<usize>,
    /// The blob cache.
    pub blobs: CacheUsage,
    /// Entry lists of computed layers.
    pub layers: CacheUsage,
    /// Failures of tags, names and blobs that are remembered.
    pub failures: usize,
    /// How many of each may be (`MAX_REMEMBERED`).
    pub failures_limit: usize,
    /// The catalog, if there is one.
    pub catalog: Option<CatalogState>,
    /// Threads that serve requests, and tasks on them.
    pub workers: usize,
    /// Tasks that have been started and have not ended.
    pub tasks: usize,
}

/// Rows of the index, and its file.
#[derive(Debug, Clone, Copy, Default)]
pub struct IndexSize {
    /// Images.
    pub images: u64,
    /// Tags that have been resolved.
    pub tags: u64,
    /// Blobs and manifests, once for each image that has them.
    pub contents: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What a cache has, and had.
#[derive(Debug, Clone, Copy, Default)]
pub struct CacheUsage {
    /// Finished files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of files that are being written.
    pub unfinished: u64,
    /// Bytes that there may be, of both.
    pub limit: u64,
    /// Files that had to go for others since the start.
    pub evicted: u64,
}

/// The catalog that is in use.
#[derive(Debug, Clone, Copy)]
pub struct CatalogState {
    /// Its entries.
    pub entries: usize,
    /// When it was read.
    pub read_at: SystemTime,
    /// Whether the file can still be used; if not, this is the last good one.
    pub is_current: bool,
}

impl Measured {
    pub(super) fn register(&self, registry: &mut Registry) {
        let number = |number: usize| ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
        let rows = |number: u64| ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
        if let Some(index) = self.index {
            registry.register("index_images", "Images in the index", rows(index.images));
            registry.register("index_tags", "Tags in the index", rows(index.tags));
            registry.register(
                "index_contents",
                "Blobs and manifests in the index, counted once for each image that has them",
                rows(index.contents),
            );
            registry.register_with_unit("index_size", "The index's file", Unit::Bytes, rows(index.bytes));
        }
        if let Some(roots) = self.gc_roots {
            registry.register("gc_roots", "GC roots that keep images in the Nix store", number(roots));
        }
        if let Some(missing) = self.gc_roots_missing {
            registry.register(
                "gc_roots_missing",
                "GC roots that images in the index should have, and that are not in the registry's folder",
                number(missing),
            );
        }
        self.register_caches(registry);
        registry.register(
            "failures_remembered",
            "Failures of names, tags and blobs that are remembered instead of being tried again",
            number(self.failures),
        );
        registry.register(
            "failures_remembered_limit",
            "How many of each of the three kinds are remembered (MAX_REMEMBERED)",
            number(self.failures_limit),
        );
        if let Some(catalog) = self.catalog {
            let read_at = catalog.read_at.duration_since(UNIX_EPOCH).unwrap_or_default();
            registry.register("catalog_entries", "Images in the catalog", number(catalog.entries));
            registry.register(
                "catalog_current",
                "1 if the catalog's file could be used when it was last read; 0 if an older one is in use",
                number(catalog.is_current.into()),
            );
            registry.register_with_unit(
                "catalog_read_timestamp",
                "When the catalog that is in use was read, since 1970",
                Unit::Seconds,
                ConstGauge::new(read_at.as_secs_f64()),
            );
        }
        registry.register("runtime_workers", "Threads that serve requests", number(self.workers));
        registry.register("runtime_tasks", "Tasks of the runtime that have not ended", number(self.tasks));
    }

    fn register_caches(&self, registry: &mut Registry) {
        let caches: Vec<_> =
            Cache::ALL.iter().copied().map(|cache| (OfCache { cache }, self.usage(cache))).collect();
        let gauges = |value: fn(&CacheUsage) -> u64| {
            let family = Family::<OfCache, Gauge>::default();
            for (cache, usage) in &caches {
                let value = i64::try_from(value(usage)).unwrap_or(i64::MAX);
                family.get_or_create(cache).set(value);
            }
            family
        };
        registry.register("cache_files", "Files of a cache", gauges(|usage| usage.files as u64));
        registry.register_with_unit(
            "cache_size",
            "Files of a cache",
            Unit::Bytes,
            gauges(|usage| usage.bytes),
        );
        registry.register_with_unit(
            "cache_unfinished",
            "Files that are being written to a cache",
            Unit::Bytes,
            gauges(|usage| usage.unfinished),
        );
        registry.register_with_unit(
            "cache_limit",
            "What a cache may hold (CACHE_MAX_BYTES, LAYERS_MAX_BYTES)",
            Unit::Bytes,
            gauges(|usage| usage.limit),
        );
        let evictions = Family::<OfCache, Counter>::default();
        for (cache, usage) in &caches {
            evictions.get_or_create(cache).inc_by(usage.evicted);
        }
        registry.register("cache_evictions", "Files that had to leave a cache for others", evictions);
    }

    fn usage(&self, cache: Cache) -> &CacheUsage {
        match cache {
            Cache::Blobs => &self.blobs,
            Cache::Layers => &self.layers,
        }
    }
}
