//! Retention: images that nobody asked for lately are dropped, rows and GC root together.

use super::{
    ImageSummary, Registry, Result, StateError, images::blocking, inventory::View, plan::Plan, used_now,
};
use crate::{
    blob::Cache,
    index::{ImageId, IndexError},
    nix::{DaemonError, GcRootError},
    oci::Digest,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// How often retention is looked at, and last uses are written down.
const INTERVAL: Duration = Duration::from_secs(60);

/// When images are dropped.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// After this long without a request.
    pub max_age: Duration,
    /// When there are more than this many, the least recently used.
    pub max_images: NonZeroUsize,
}

/// What to drop on request, instead of what the settings say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Collect {
    /// Images that nobody has asked for in so many seconds; `RETENTION_DAYS` if there is no number.
    pub older_than_seconds: Option<u64>,
    /// All images.
    pub all: bool,
    /// Only say what would be dropped.
    pub dry_run: bool,
}

/// What was dropped, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// Names and tags, as they were.
    #[serde(rename = "dropped")]
    pub listed: Vec<ImageSummary>,
    /// How many images these are.
    #[serde(rename = "images")]
    pub count: usize,
    /// Bytes of files in the registry's own caches that nothing else needs.
    #[serde(rename = "freedBytes")]
    pub bytes: u64,
    /// GC roots: what only they protected goes with the next collection of the Nix store.
    #[serde(rename = "gcRoots")]
    pub roots: usize,
    /// Whether all of it is still there.
    pub dry_run: bool,
}

impl Registry {
    /// Remembers that an image was asked for; written down by the next maintenance.
    pub(super) fn touch(&self, image: ImageId) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(image, used_now());
    }

    /// Runs for as long as the registry does: writes down last uses and drops what retention says.
    pub async fn maintain(self: Arc<Self>) {
        let mut registered = false;
        loop {
            if !registered {
                registered = self.register_roots().await;
            }
            let this = self.clone();
            if let Err(error) = blocking(move || this.enforce_retention()).await {
                tracing::error!(%error, "retention");
            }
            self.daemon.close_idle();
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Writes down last uses; for the shutdown.
    pub fn flush(&self) {
        let used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        if !used.is_empty()
            && let Err(error) = self.index.touch(&used)
        {
            tracing::error!(%error, "last uses are lost");
        }
    }

    pub(super) fn enforce_retention_soon(self: &Arc<Self>) {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = this.enforce_retention() {
                tracing::error!(%error, "retention");
            }
        });
    }

    fn enforce_retention(&self) -> Result<()> {
        // Nobody reads which ones these were, and whoever makes one waits until this is over.
        let result = self.drop_unused(Collect::default(), |_, _| Vec::new());
        self.metrics.retention.ran(result.is_ok());
        let dropped = result?;
        if dropped.count > 0 {
            tracing::info!(
                images = dropped.count,
                bytes = dropped.bytes,
                "dropped images that nobody asked for lately"
            );
        }
        Ok(())
    }

    /// Drops what nobody asked for lately, and says what that was. Blocks.
    pub fn collect(&self, what: Collect) -> Result<Dropped> {
        self.drop_unused(what, |view, plan| view.listed(plan))
    }

    fn drop_unused(
        &self,
        what: Collect,
        list: impl FnOnce(&View<'_>, &Plan) -> Vec<ImageSummary>,
    ) -> Result<Dropped> {
        self.flush();
        let _alone = self.changing.blocking_write();
        let view = self.view();
        let plan = view.plan(view.unused(what, self.settings.retention)?)?;
        // Whatever is listed is listed before it goes.
        let dropped = Dropped { listed: list(&view, &plan), dry_run: what.dry_run, ..view.account(&plan) };
        if !what.dry_run {
            self.carry_out(&plan)?;
            self.metrics.retention.dropped(dropped.count);
        }
        Ok(dropped)
    }

    /// Drops images. Blocks.
    pub(super) fn drop_images(&self, images: HashSet<ImageId>) -> Result<()> {
        let _alone = self.changing.blocking_write();
        self.carry_out(&self.view().plan(images)?)
    }

    /// Rows first, so that nothing points at what is about to lose its root.
    pub(super) fn carry_out(&self, plan: &Plan) -> Result<()> {
        if plan.images.is_empty() {
            return Ok(());
        }
        self.index.remove_images(&plan.images)?;
        for id in &plan.images {
            // Of a row that cannot be read it is not known; the next start removes the others.
            let count = plan.roots.get(id).copied().unwrap_or(1);
            if let Err(error) = self.roots.remove(&id.file_name(), count) {
                tracing::error!(image = ?id, %error, "its GC root cannot be removed");
            }
        }
        // An unlinked file that is mapped keeps its space on the disk.
        self.mapped.clear();
        remove(&self.reader.cache, plan.blobs.iter());
        remove(&self.reader.lists, plan.lists.iter());
        Ok(())
    }

    /// At the start: removes what a process that was killed left without a row.
    pub(super) fn sweep(&self) -> Result<(), StateError> {
        let rooted: HashSet<String> = match self.index.usage() {
            Ok(images) => images.iter().map(|(id, _)| id.file_name()).collect(),
            Err(error) => return Err(error.into()),
        };
        match self.roots.retain(&rooted) {
            Ok(0) => {}
            Ok(roots) => tracing::info!(roots, "removed GC roots of images that are not in the index"),
            Err(error) => tracing::error!(%error, "GC roots cannot be swept"),
        }
        let needed = match self.index.needed() {
            Ok(needed) => needed,
            Err(error @ IndexError::Damaged(_)) => {
                tracing::warn!("{error}");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for (cache, needed) in [(&self.reader.cache, &needed.blobs), (&self.reader.lists, &needed.lists)] {
            remove(cache, cache.digests().iter().filter(|digest| !needed.contains(digest)));
        }
        Ok(())
    }

    /// Makes sure that every image of the index has its GC root: somebody may have emptied the folder, or moved it.
    /// Whether nix-daemon could be asked about all of them.
    async fn register_roots(&self) -> bool {
        let images = match self.index.usage() {
            Ok(images) => images,
            Err(error) => {
                tracing::error!(%error, "GC roots cannot be checked");
                return false;
            }
        };
        let all = images.len();
        let mut failures: HashMap<String, usize> = HashMap::new();
        for (done, (id, _)) in images.into_iter().enumerate() {
            let Ok(Some(row)) = self.index.image(&id) else { continue };
            let root = match self.daemon.are_valid(&row.objects).await {
                Ok(true) => self.roots.add(&self.daemon, &id.file_name(), &row.objects).await,
                Ok(false) => Ok(()),
                Err(error) => Err(error.into()),
            };
            match root {
                Ok(()) => {}
                // The others would only wait for it as long.
                Err(GcRootError::Daemon(error @ DaemonError::Unavailable { .. })) => {
                    tracing::warn!(
                        images = all - done,
                        "GC roots were not registered, and will be soon: {error}"
                    );
                    return false;
                }
                Err(error) => *failures.entry(error.to_string()).or_default() += 1,
            }
        }
        for (error, images) in failures {
            tracing::warn!(images, "GC roots were not registered: {error}");
        }
        true
    }
}

fn remove<'d>(cache: &Cache, digests: impl Iterator<Item = &'d Digest>) {
    for digest in digests {
        if let Err(error) = cache.remove(digest) {
            tracing::warn!(%digest, %error, "it cannot be removed from {:?}", cache.dir());
        }
    }
}
