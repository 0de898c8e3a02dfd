//! Forgetting a name or a tag on request.

use super::{Caller, Dropped, Registry, Result, tags};
use crate::{
    index::ImageId,
    oci::{Digest, RepositoryName, Tag},
};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a pull that began before may go on.
const PULLS_LAST: Duration = Duration::from_secs(3600);

/// The tags of a name that were forgotten last, each once.
fn forgotten(mut tags: Vec<Tag>, former: Vec<Tag>) -> Vec<Tag> {
    let before: Vec<Tag> = former.into_iter().filter(|tag| !tags.contains(tag)).collect();
    tags.extend(before);
    tags.truncate(tags::MAX_TRIED);
    tags
}

impl Registry {
    /// Forgets a name, or one tag of it, and drops the images that nothing else leads to. Blocks.
    ///
    /// Responses that are being sent are sent to their end. A pull that then asks for another layer has the image made
    /// again.
    pub fn forget(&self, repository: &RepositoryName, tag: Option<&Tag>) -> Result<Dropped> {
        self.flush();
        let _alone = self.changing.blocking_write();
        let known = self.index.tags(repository)?;
        let members = self.index.members(repository)?;
        let (gone, left): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|(of, _)| tag.is_none_or(|tag| tag == of));
        match tag {
            None if members.is_empty() && gone.is_empty() => {
                return Err(self.view().no_such_name(repository));
            }
            Some(tag) if gone.is_empty() => return Err(self.view().no_such_tag(repository, tag)),
            _ => {}
        }
        let candidates: HashSet<ImageId> = match tag {
            None => members.into_iter().collect(),
            Some(_) => gone.iter().map(|(_, row)| row.image).collect(),
        };
        let kept: HashSet<ImageId> = left.iter().map(|(_, row)| row.image).collect();
        let unlinked: Vec<ImageId> = candidates.difference(&kept).copied().collect();
        let mut dropped = HashSet::new();
        for image in &unlinked {
            if self.index.names(image)?.iter().all(|name| name == repository) {
                dropped.insert(*image);
            }
        }
        let view = self.view();
        let plan = view.plan(dropped)?;
        let mut report = Dropped { listed: view.listed(&plan), ..view.account(&plan) };
        // What other names or tags lead to stays, and yet these lead there no more.
        let tags: Vec<Tag> = gone.into_iter().map(|(tag, _)| tag).collect();
        let staying = tags.iter().filter(|tag| {
            !report
                .listed
                .iter()
                .any(|row| row.name == repository.as_str() && row.tag.as_deref() == Some(tag.as_str()))
        });
        let staying: Vec<_> = staying.filter_map(|tag| view.summary(repository, tag)).collect();
        report.listed.extend(staying);
        self.index.forget(repository, &tags, &unlinked)?;
        self.carry_out(&plan)?;
        let former = self.forgotten.get(repository).unwrap_or_default();
        self.forgotten.put(repository.clone(), forgotten(tags, former), PULLS_LAST);
        tracing::info!(%repository, tag = tag.map(Tag::as_str), images = report.count, bytes = report.bytes, "forgotten");
        Ok(report)
    }

    /// A pull asks for a blob of something that was forgotten while it ran: finds out what its tags mean, which makes
    /// the image again. Whether it may be there now. All of it takes no longer than a request may wait.
    pub(super) async fn remembered(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
        caller: &Caller,
    ) -> Result<bool> {
        let Some(forgotten) = self.forgotten.get(repository) else { return Ok(false) };
        let (since, wait) = (Instant::now(), self.wait_of(caller));
        for tag in &forgotten {
            let left = wait.saturating_sub(since.elapsed());
            match self.by_tag_within(repository, tag, caller, left).await {
                Ok(_) if !self.index.locations(repository, digest)?.is_empty() => return Ok(true),
                Ok(_) => {}
                // Another tag may lead to it all the same.
                Err(error) if self.lasts(&error).is_some() => {
                    tracing::debug!(%repository, %tag, %digest, "a pull of what was forgotten cannot go on: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_before_is_remembered_as_long_as_there_is_room() {
        let tags =
            |names: &str| -> Vec<Tag> { names.split_whitespace().map(|n| n.parse().unwrap()).collect() };
        for (new, former, all) in [
            ("", "a b", "a b"),
            ("c", "a b", "c a b"),
            ("b", "a b", "b a"),
            ("d e", "a b c", "d e a b"),
            ("a b c d e", "f", "a b c d"),
        ] {
            assert_eq!(forgotten(tags(new), tags(former)), tags(all), "{new} after {former}");
        }
    }
}
