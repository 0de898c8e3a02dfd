//! From a tag to an image: freshness, evaluation, and which tags there are.

use super::{
    Behalf, Caller, Evaluated, Flight, Indexed, Registry, RegistryError, Result,
    allowance::leads_nowhere,
    hot::Known,
    images::blocking,
    meanings::Counting::{Counted, Counts},
    now,
};
use crate::{
    image::Options,
    index::TagRow,
    oci::{RepositoryName, Tag},
    resolve::{LATEST, Resolution},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Tags that are evaluated to find the way to an image again.
pub(super) const MAX_TRIED: usize = 4;

/// The tag that means the source as it is.
pub(super) fn latest() -> Tag {
    #[allow(clippy::expect_used)]
    LATEST.parse().expect("a constant that is a tag")
}

enum Freshness {
    Fresh,
    Stale,
    Expired,
}

/// The error with when it is found out again whether there is such a tag.
fn looked_up_again(error: RegistryError, left: Duration) -> RegistryError {
    match error {
        RegistryError::ManifestUnknown { message } if !left.is_zero() => {
            let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            RegistryError::ManifestUnknown { message: format!("{message}; looked up again in {seconds} s") }
        }
        error => error,
    }
}

impl Registry {
    /// The image that a tag leads to: from the index while that is fresh enough, else by evaluating and building. For a
    /// caller for whom that may not be done, it is what the tag led to last, however long ago.
    pub(super) async fn by_tag(
        self: &Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        caller: &Caller,
    ) -> Result<Indexed> {
        self.by_tag_within(repository, tag, caller, self.wait_of(caller)).await
    }

    /// The same, waiting no longer than that.
    pub(super) async fn by_tag_within(
        self: &Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        caller: &Caller,
        wait: Duration,
    ) -> Result<Indexed> {
        if !caller.may_build {
            return self.led_to(repository, tag)?.ok_or_else(|| RegistryError::MayNotBuild {
                message: format!("{repository}:{tag} has not been built"),
            });
        }
        let update = || self.update(repository, tag, &caller.behalf());
        // No tag leads any more to what was made under other settings.
        let known = self.known(repository, tag).filter(|known| known.image.is_current);
        if let Some(Known { resolved_at, image }) = &known {
            match self.freshness(*resolved_at) {
                Freshness::Fresh => return Ok(image.clone()),
                Freshness::Stale => {
                    if self.failure(repository, tag).is_none() {
                        update();
                    }
                    return Ok(image.clone());
                }
                Freshness::Expired => {}
            }
        }
        if let Some(error) = self.failure(repository, tag) {
            return Err(error);
        }
        let Some(Known { image, .. }) = known else { return self.patient(update, wait).await };
        // Rather what it was than nothing.
        let client = (repository.clone(), tag.clone(), caller.client.clone());
        if self.refused.get(&client).is_some() {
            return Ok(image);
        }
        match self.patient(update, wait).await {
            Err(error @ RegistryError::OverLimit { retry_after, .. }) => {
                if self.refused.get(&client).is_none() {
                    tracing::warn!(%repository, %tag, "what it led to before is served: {error}");
                }
                self.refused.put(client, (), retry_after);
                Ok(image)
            }
            result => result,
        }
    }

    /// What the tag led to when it was last asked for, by itself or as another name of the same image, whatever the
    /// settings were.
    pub(super) fn led_to(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Indexed>> {
        if let Some(Known { image, .. }) = self.known(repository, tag) {
            return Ok(Some(image));
        }
        // Revisions may well state the same tags: an alias means the source as it is, else what was asked for last.
        let of_same = |row: &TagRow| row.aliases.iter().any(|alias| alias == tag.as_str());
        let rows = self.index.tags(repository)?.into_iter().filter(|(_, row)| of_same(row));
        let known = rows.filter_map(|(other, _)| Some((other == latest(), self.known(repository, &other)?)));
        let best = known.max_by_key(|(is_latest, known)| (*is_latest, known.resolved_at));
        Ok(best.map(|(_, known)| known.image))
    }

    /// Why the tag led nowhere a moment ago.
    fn failure(&self, repository: &RepositoryName, tag: &Tag) -> Option<RegistryError> {
        let failure = self.failures.get_with_left(&(repository.clone(), tag.clone()));
        failure
            .map(|(error, left)| looked_up_again(error, left))
            .or_else(|| if *tag == latest() { self.unresolved.get(repository) } else { None })
    }

    /// What the index knows of a tag. A row that cannot be read is as good as none: it will be written again.
    fn known(&self, repository: &RepositoryName, tag: &Tag) -> Option<Known> {
        let generation = self.index.generation();
        let read = || {
            let Some(row) = self.index.tag(repository, tag)? else { return Ok(None) };
            Ok(self.in_index(row.image)?.map(|image| Known { resolved_at: row.resolved_at, image }))
        };
        let known = self.hot.get((repository.clone(), tag.clone()), generation, read);
        known.unwrap_or_else(|error: crate::index::IndexError| {
            tracing::warn!(%repository, %tag, "{error}");
            None
        })
    }

    fn freshness(&self, resolved_at: u64) -> Freshness {
        // A time in the future was written under a wrong clock.
        let Some(age) = now().checked_sub(resolved_at).map(Duration::from_secs) else {
            return Freshness::Expired;
        };
        if !self.is_of_current_sources(resolved_at) {
            return Freshness::Expired;
        }
        if age < self.settings.tag_ttl {
            Freshness::Fresh
        } else if age < self.settings.tag_ttl + self.settings.tag_stale {
            Freshness::Stale
        } else {
            Freshness::Expired
        }
    }

    /// Whether something was found out after the sources were last read again on request.
    pub(super) fn is_of_current_sources(&self, at: u64) -> bool {
        at > self.reloaded.load(Ordering::Relaxed)
    }

    /// Finds out what the tag leads to now, and writes it to the index.
    fn update(
        self: &Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        behalf: &Behalf,
    ) -> Flight<Result<Indexed>> {
        let (this, key) = (self.clone(), (repository.clone(), tag.clone()));
        self.updating.join(behalf, key.clone(), || async move {
            let (repository, tag) = key;
            match this.find(&repository, &tag).await {
                Ok(image) => Ok(image),
                Err(error) => Err(match this.remember_failure(repository, tag, &error).await {
                    Some(duration) => looked_up_again(error, duration),
                    None => error,
                }),
            }
        })
    }

    /// Remembers why a tag leads nowhere; for how long, if it does.
    async fn remember_failure(
        self: &Arc<Self>,
        repository: RepositoryName,
        tag: Tag,
        error: &RegistryError,
    ) -> Option<Duration> {
        match error {
            RegistryError::NameUnknown { .. }
            | RegistryError::ManifestUnknown { .. }
            | RegistryError::NameInvalid { .. } => {
                let (this, key) = (self.clone(), (repository.clone(), tag.clone()));
                if let Err(error) = blocking(move || Ok(this.index.remove_tag(&key.0, &key.1)?)).await {
                    tracing::warn!(%repository, %tag, "{error}");
                }
            }
            RegistryError::Internal { .. } | RegistryError::StorageFull { .. } => {
                tracing::error!(%repository, %tag, "{error}");
            }
            error if self.lasts(error).is_some() => tracing::warn!(%repository, %tag, "{error}"),
            _ => {}
        }
        let duration = self.look_ups.rest(&tag, self.lasts(error)?, Instant::now());
        self.failures.put((repository, tag), error.clone(), duration);
        Some(duration)
    }

    /// How long it is not tried again what failed like this; nothing if it may go better at once.
    pub(super) fn lasts(&self, error: &RegistryError) -> Option<Duration> {
        use RegistryError as E;
        match error {
            E::NameUnknown { .. } | E::ManifestUnknown { .. } | E::NameInvalid { .. } => {
                Some(self.settings.unknown_ttl)
            }
            E::NotAnImage { .. }
            | E::EvaluationFailed { .. }
            | E::SourceBroken { .. }
            | E::SourceUnreachable { .. }
            | E::BuildFailed { .. }
            | E::TimedOut { .. }
            | E::StorageFull { .. } => Some(self.settings.failure_ttl),
            E::BlobUnknown { .. }
            | E::InProgress { .. }
            | E::Overloaded { .. }
            | E::OverLimit { .. }
            | E::MayNotBuild { .. }
            | E::Unavailable { .. }
            | E::Internal { .. } => None,
        }
    }

    async fn find(self: &Arc<Self>, repository: &RepositoryName, tag: &Tag) -> Result<Indexed> {
        let evaluated = self.resolve_tag(repository, tag).await?;
        let options = &self.settings.image_options;
        let image = self.image_of(&evaluated.resolution, options, false).await;
        match image.map_err(|error| error.with_hint(evaluated.resolution.hint.as_deref())) {
            // The derivation was only written by the evaluation, and has been collected since.
            Err(RegistryError::ManifestUnknown { .. }) => self.find_anew(repository, tag, options).await,
            image => self.found(repository, tag, &evaluated, image?).await,
        }
    }

    /// The same, whatever is known of the name and its image.
    pub(super) async fn find_anew(
        self: &Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        options: &Options,
    ) -> Result<Indexed> {
        self.evaluated.remove(&(repository.clone(), None));
        self.evaluated.remove(&(repository.clone(), Some(tag.clone())));
        let evaluated = self.resolve_tag(repository, tag).await?;
        let image = self.image_of(&evaluated.resolution, options, true).await?;
        self.found(repository, tag, &evaluated, image).await
    }

    async fn found(
        self: &Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        evaluated: &Evaluated,
        image: Indexed,
    ) -> Result<Indexed> {
        if !image.is_current {
            // Made again for its digests alone.
            return Ok(image);
        }
        let aliases = evaluated.resolution.tags.iter().map(Tag::to_string).collect();
        let row = TagRow { image: image.id, resolved_at: evaluated.at, aliases };
        let (this, repository, tags) = (self.clone(), repository.clone(), [(tag.clone(), row)]);
        blocking(move || Ok(this.index.put_tags(&repository, &tags)?)).await?;
        Ok(image)
    }

    /// What a tag means: the source as it is under `latest` and under the tags that the image itself or its package
    /// states, else a revision of the source. Nothing is built to find out.
    async fn resolve_tag(self: &Arc<Self>, repository: &RepositoryName, tag: &Tag) -> Result<Arc<Evaluated>> {
        use RegistryError as E;
        let unresolved = if *tag == latest() { None } else { self.unresolved.get(repository) };
        let (current, counting) = match unresolved {
            Some(error) => (Err(error), Counts),
            None => {
                // A wrong name counts once, whatever its tag is.
                let counting = if self.is_exempt(repository, None).await { Counts } else { Counted };
                (self.evaluate(repository, None, Counts).await, counting)
            }
        };
        let current = match current {
            Ok(current) => current,
            // Other revisions may have what this one has not, or evaluate or exist where it does not.
            Err(
                error @ (E::NameUnknown { .. }
                | E::NotAnImage { .. }
                | E::EvaluationFailed { .. }
                | E::SourceBroken { .. }),
            ) if *tag != latest() => {
                // What cannot be fetched has not been counted.
                let counting = if leads_nowhere(&error) { counting } else { Counts };
                let revision = self.evaluate(repository, Some(tag.clone()), counting).await;
                return revision.map_err(|other| match other {
                    E::ManifestUnknown { .. } => error,
                    other => other,
                });
            }
            Err(error) => return Err(error),
        };
        if *tag == latest()
            || current.resolution.tags.contains(tag)
            || self.own_tags(repository).contains(tag)
        {
            return Ok(current);
        }
        self.evaluate(repository, Some(tag.clone()), Counts).await.map_err(|error| match error {
            E::ManifestUnknown { message } => {
                let tags = self.alias_tags(repository, &current.resolution);
                let has: Vec<&str> = tags.iter().map(Tag::as_str).collect();
                E::ManifestUnknown { message: format!("{message}; it has: {}", has.join(", ")) }
            }
            error => error,
        })
    }

    /// The tags that the image of `latest` states itself; known once it has been read.
    pub(super) fn own_tags(&self, repository: &RepositoryName) -> Vec<Tag> {
        let row = self.index.tag(repository, &latest()).ok().flatten();
        let image = row.and_then(|row| self.index.image(&row.image).ok().flatten());
        image.map_or_else(Vec::new, |image| image.tags.iter().filter_map(|tag| tag.parse().ok()).collect())
    }

    fn alias_tags(&self, repository: &RepositoryName, resolution: &Resolution) -> BTreeSet<Tag> {
        let mut tags: BTreeSet<Tag> = resolution.tags.iter().cloned().collect();
        tags.extend(self.own_tags(repository));
        tags.insert(latest());
        tags
    }

    /// All tags of a repository, sorted. May evaluate, never builds; for a caller for whom nothing is evaluated, those
    /// that have been served.
    pub async fn tags(self: &Arc<Self>, repository: &RepositoryName, caller: &Caller) -> Result<Vec<Tag>> {
        let mut tags = BTreeSet::new();
        for (tag, row) in self.index.tags(repository)? {
            if !caller.may_build || !matches!(self.freshness(row.resolved_at), Freshness::Expired) {
                tags.extend(row.aliases.iter().filter_map(|alias| alias.parse().ok()));
                tags.insert(tag);
            }
        }
        if !caller.may_build {
            let message = || format!("nothing of {repository} has been built");
            let none = tags.is_empty().then(|| RegistryError::MayNotBuild { message: message() });
            return none.map_or_else(|| Ok(tags.into_iter().collect()), Err);
        }
        let key = (repository.clone(), None);
        let current = match (self.evaluated.get(&key), self.unresolved.get(repository)) {
            (Some(evaluated), _) => Ok(evaluated),
            (None, Some(error)) => Err(error),
            (None, None) => {
                let evaluation = || self.evaluation(&key, &caller.behalf(), Counts);
                self.patient(evaluation, self.settings.pull_wait).await
            }
        };
        match current {
            Ok(evaluated) => tags.extend(self.alias_tags(repository, &evaluated.resolution)),
            Err(error) => {
                if tags.is_empty() {
                    return Err(error);
                }
                tracing::warn!(%repository, "{error}; the list has the tags that have been served");
            }
        }
        Ok(tags.into_iter().collect())
    }
}
