//! From a name to what it means: evaluations, in turn and counted.

use super::{
    Behalf, Flight, Queue, Registry, RegistryError, Result, Step, Task, end, images::blocking, landed, now,
    seconds, turns::Turn, work,
};
use crate::{
    metrics::Job,
    nix::EvaluatorError,
    oci::{RepositoryName, Tag},
    resolve::{Resolution, ResolveError, Revision, is_commit, may_be_commit},
};
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

/// What a name meant, and when: as its source was fetched, in seconds since 1970.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) resolution: Resolution,
    pub(super) at: u64,
}

/// Whether an evaluation that leads nowhere counts for the clients that it is for (`MAX_CLIENT_UNKNOWN`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    Counts,
    /// Another one for the same request has been counted.
    Counted,
}

impl Registry {
    /// What a name means, or meant a moment ago: the source as it is, or at a revision.
    pub(super) async fn evaluate(
        self: &Arc<Self>,
        repository: &RepositoryName,
        revision: Option<Tag>,
        counting: Counting,
    ) -> Result<Arc<Evaluated>> {
        let key = (repository.clone(), revision);
        if let Some(evaluated) = self.evaluated.get(&key)
            && self.is_of_current_sources(evaluated.at)
        {
            return Ok(evaluated);
        }
        landed(|| self.evaluation(&key, &Behalf::Work, counting)).await
    }

    /// Finds out what a name means, when it is its turn.
    pub(super) fn evaluation(
        self: &Arc<Self>,
        key: &(RepositoryName, Option<Tag>),
        behalf: &Behalf,
        counting: Counting,
    ) -> Flight<Result<Arc<Evaluated>>> {
        let (this, key) = (self.clone(), key.clone());
        self.evaluating.join(behalf, key.clone(), || async move {
            this.may_evaluate(&key.0, key.1.as_ref()).await?;
            // Before it is counted: what a client may not have more of says nothing of how busy the registry is.
            let turn = this.turns.queue(Queue::Evaluations)?;
            let job = this.metrics.evaluations.queue();
            let result = this.find_out(key, turn, &job, counting).await;
            end(job, &result);
            result
        })
    }

    async fn find_out(
        self: &Arc<Self>,
        key: (RepositoryName, Option<Tag>),
        turn: Turn,
        job: &Job,
        counting: Counting,
    ) -> Result<Arc<Evaluated>> {
        let step = Step::queue(Task::Evaluating);
        let _place = turn.come().await?;
        let (name, tag) = (&key.0, key.1.as_ref());
        // Others of these clients may have led nowhere while this one waited.
        self.may_evaluate(name, tag).await?;
        let known = tag.map(|tag| self.known_commit(tag)).transpose()?.flatten();
        let revision = tag.map(|tag| Revision { tag, known: known.as_deref() });
        if let Some(revision) = &revision
            && self.resolver.looks_up(name, revision).await
        {
            self.look_ups.begin(revision.tag, &work::clients(), Instant::now())?;
        }
        step.begin();
        job.begin();
        let resolution = self.resolve(name, revision.as_ref()).await;
        if let Err(error) = &resolution
            && counting == Counting::Counts
        {
            self.note_unknown(name, tag, error).await;
        }
        let mut resolution = resolution?;
        let fetched = SystemTime::now().checked_sub(resolution.age);
        let at = fetched.map_or(0, seconds);
        self.note_commit(&resolution, tag).await;
        self.find_outputs(&mut resolution).await?;
        let derivation = resolution.wanted.first().map(|wanted| wanted.buildable.name());
        tracing::info!(
            name = %name, origin = resolution.origin, revision = resolution.revision, derivation, "resolved"
        );
        step.finish();
        let evaluated = Arc::new(Evaluated { resolution, at });
        // As long as its tag is fresh, and no longer: what is found with it then is a row of the same age.
        let duration = self.settings.tag_ttl.saturating_sub(evaluated.resolution.age);
        self.evaluated.put(key, evaluated.clone(), duration);
        Ok(evaluated)
    }

    async fn resolve(&self, name: &RepositoryName, revision: Option<&Revision<'_>>) -> Result<Resolution> {
        match revision {
            Some(revision) => self.resolver.resolve_revision(name, revision).await.map_err(|error| {
                match error {
                    ResolveError::TagUnknown(_) => self.look_ups.is_missing(revision.tag, Instant::now()),
                    ResolveError::Unreachable(_) | ResolveError::Evaluator(EvaluatorError::TimedOut(_)) => {
                        self.look_ups.has_failed(revision.tag, Instant::now());
                    }
                    _ => {}
                }
                error.into()
            }),
            None => self.resolver.resolve(name).await.map_err(|error| {
                let error = RegistryError::from(error);
                if let Some(duration) = self.lasts(&error) {
                    self.unresolved.put(name.clone(), error.clone(), duration);
                }
                error
            }),
        }
    }

    /// The commit that a tag is, or abbreviates, if this registry came to it by a branch or tag.
    fn known_commit(&self, tag: &Tag) -> Result<Option<String>> {
        if may_be_commit(tag) { Ok(self.index.commit(tag.as_str())?) } else { Ok(None) }
    }

    /// Remembers which commit the source, or a branch or tag of it, was at: that one can be asked for from then on.
    async fn note_commit(self: &Arc<Self>, resolution: &Resolution, tag: Option<&Tag>) {
        let Some(commit) = resolution.revision.clone().filter(|commit| is_commit(commit)) else { return };
        // With REVISIONS=commits, a forge may have taken the tag for the beginning of anybody's commit.
        let is_its_hash = |tag: &Tag| commit.starts_with(&tag.as_str().to_ascii_lowercase());
        if tag.is_some_and(|tag| may_be_commit(tag) || is_its_hash(tag)) {
            return;
        }
        let this = self.clone();
        if let Err(error) = blocking(move || {
            let since = now().saturating_sub(this.settings.retention.max_age.as_secs());
            Ok(this.index.put_commit(&commit, now(), since)?)
        })
        .await
        {
            tracing::warn!("a commit will not be known again: {error}");
        }
    }
}
