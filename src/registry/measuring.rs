//! A look at everything that has a size, for the metrics.

use super::{Registry, Result, images::blocking};
use crate::{metrics::Measured, resolve::Catalog};
use std::{fmt::Display, sync::Arc, time::Duration};

/// How long what was found is told again without another look, however often somebody asks.
const REMEMBERED: Duration = Duration::from_secs(2);

impl Registry {
    /// How large everything is, or was a moment ago. There is one look at a time, which all who ask share.
    pub async fn measured(self: &Arc<Self>) -> Arc<Measured> {
        if let Some(measured) = self.measured.get(&()) {
            return measured;
        }
        let this = self.clone();
        let look = self.measuring.join((), || async move {
            let (registry, runtime) = (this.clone(), tokio::runtime::Handle::current().metrics());
            let measured = blocking(move || Ok(registry.measure())).await.unwrap_or_default();
            let (workers, tasks) = (runtime.num_workers(), runtime.num_alive_tasks());
            let measured = Arc::new(Measured { workers, tasks, ..measured });
            this.measured.put((), measured.clone(), REMEMBERED);
            measured
        });
        look.wait().await.unwrap_or_default()
    }

    fn measure(&self) -> Measured {
        Measured {
            index: said(self.index.size(), "the index"),
            gc_roots: said(self.roots.count(), "the folder of GC roots"),
            blobs: self.reader.cache.usage(),
            layers: self.reader.lists.usage(),
            failures: self.failures.len() + self.unresolved.len() + self.lost.len(),
            failures_limit: self.settings.max_remembered.get(),
            catalog: self.resolver.catalog().map(Catalog::state),
            ..Measured::default()
        }
    }
}

/// What could be looked at; else a line in the log, and its metrics are missing.
fn said<T, E: Display>(looked: Result<T, E>, what: &str) -> Option<T> {
    looked.inspect_err(|error| tracing::warn!("{what} cannot be measured: {error}")).ok()
}
