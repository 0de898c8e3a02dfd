//! A look at everything that has a size, for the metrics.

use super::{Behalf, Registry, Result, images::blocking};
use crate::{
    index::{ImageId, Index, IndexError},
    metrics::Measured,
    nix::Present,
    resolve::Catalog,
};
use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long what was found is told again without another look, however often somebody asks.
const REMEMBERED: Duration = Duration::from_secs(2);

/// How many GC roots each image is to have.
type Counts = HashMap<ImageId, usize>;

/// What the index said of that, for as long as nothing else has been written to it.
#[derive(Debug, Default)]
pub(super) struct ExpectedRoots(Mutex<Option<(u64, Arc<Counts>)>>);

impl ExpectedRoots {
    fn get(&self, index: &Index) -> Result<Arc<Counts>, IndexError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = index.generation();
        let known = match &*last {
            Some((of, counts)) if *of == generation => return Ok(counts.clone()),
            Some((_, counts)) => counts.clone(),
            None => Arc::default(),
        };
        let counts = Arc::new(index.object_counts(&known)?);
        *last = Some((generation, counts.clone()));
        Ok(counts)
    }
}

impl Registry {
    /// How large everything is, or was a moment ago. There is one look at a time, which all who ask share.
    pub async fn measured(self: &Arc<Self>) -> Arc<Measured> {
        if let Some(measured) = self.measured.get(&()) {
            return measured;
        }
        let this = self.clone();
        let look = self.measuring.join(&Behalf::Client(None), (), || async move {
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
        // Roots are made before rows, so what is expected first is there afterwards, but for what is dropped meanwhile.
        let expected = self.expected.get(&self.index);
        let present = said(self.roots.present(), "the folder of GC roots");
        let missing = |(expected, present): (Arc<Counts>, &Present)| {
            expected.iter().map(|(id, count)| present.missing(&id.file_name(), *count)).sum()
        };
        Measured {
            index: said(self.index.size(), "the index"),
            gc_roots: present.as_ref().map(Present::count),
            gc_roots_missing: said(expected, "the index").zip(present.as_ref()).map(missing),
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
