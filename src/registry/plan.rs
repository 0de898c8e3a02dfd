//! What would be dropped, and what goes with it. Nothing is changed here.

use super::{Collect, Dropped, ImageSummary, Result, Retention, inventory::View, used_now};
use crate::{
    index::{ImageId, Needed},
    oci::Digest,
};
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    fs,
    time::Duration,
};

/// Images, and what goes with them.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) images: HashSet<ImageId>,
    /// How many GC roots each has.
    pub(super) roots: HashMap<ImageId, usize>,
    pub(super) blobs: Vec<Digest>,
    pub(super) lists: Vec<Digest>,
}

impl View<'_> {
    /// The images that nobody asked for lately.
    pub(super) fn unused(&self, what: Collect, retention: Retention) -> Result<HashSet<ImageId>> {
        let Retention { max_age, max_images } = retention;
        let max_age = what.older_than_seconds.map_or(max_age, Duration::from_secs);
        let mut images = self.index.usage()?;
        images.sort_by_key(|(_, used)| Reverse(*used));
        let micros = u64::try_from(max_age.as_micros()).unwrap_or(u64::MAX);
        let oldest = used_now().saturating_sub(micros);
        let old = |rank: usize, used: u64| what.all || rank >= max_images.get() || used < oldest;
        let images = images.into_iter().enumerate().filter(|(rank, (_, used))| old(*rank, *used));
        Ok(images.map(|(_, (id, _))| id).collect())
    }

    /// What goes with these images; to be asked for while nothing changes.
    pub(super) fn plan(&self, images: HashSet<ImageId>) -> Result<Plan> {
        if images.is_empty() {
            return Ok(Plan::default());
        }
        let (mut candidates, mut gone) = (Needed::default(), Vec::new());
        let mut roots = HashMap::new();
        for id in &images {
            let Ok(Some(row)) = self.index.image(id) else { continue };
            roots.insert(*id, row.objects.len());
            for digest in row.contents {
                if let Ok(Some(location)) = self.index.location(&digest, id) {
                    candidates.add(digest, &location.source);
                    gone.push((digest, location.source));
                }
            }
        }
        let needed = self.index.needed_of(&gone, &images)?;
        let blobs = candidates.blobs.difference(&needed.blobs).copied().collect();
        let lists = candidates.lists.difference(&needed.lists).copied().collect();
        Ok(Plan { images, roots, blobs, lists })
    }

    /// How much that is.
    pub(super) fn account(&self, plan: &Plan) -> Dropped {
        let sizes = |folder: &str, digests: &[Digest]| -> u64 {
            let size = |digest: &Digest| fs::metadata(self.file(folder, digest)).map_or(0, |file| file.len());
            digests.iter().map(size).sum()
        };
        Dropped {
            listed: Vec::new(),
            count: plan.images.len(),
            bytes: sizes("blobs", &plan.blobs) + sizes("layers", &plan.lists),
            roots: plan.roots.values().sum(),
            dry_run: false,
        }
    }

    /// The names and tags of these images, sorted.
    pub(super) fn listed(&self, plan: &Plan) -> Vec<ImageSummary> {
        let mut listed = self.summaries_of(&plan.images);
        listed.sort_by(|a, b| (&a.name, &a.tag).cmp(&(&b.name, &b.tag)));
        listed
    }
}
