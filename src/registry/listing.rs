//! Which repositories there are.

use super::{Caller, Queue, Registry, RegistryError, Result, end};
use crate::oci::RepositoryName;
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

impl Registry {
    /// All repositories that the sources name, and those that have been served, sorted; for a caller for whom nothing
    /// is evaluated the latter alone.
    pub async fn catalog(self: &Arc<Self>, caller: &Caller) -> Result<Vec<RepositoryName>> {
        if !caller.may_build {
            return Ok(self.index.repositories()?);
        }
        let listed = match self.listed.get(&()) {
            Some(listed) => listed,
            None => {
                let listing = || {
                    let this = self.clone();
                    self.listing.join(&caller.behalf(), (), || async move { this.list().await })
                };
                self.patient(listing, self.settings.pull_wait).await
            }
        };
        let mut names = self.index.repositories()?;
        match listed {
            Ok(listed) => names.extend(listed.iter().cloned()),
            Err(error) => {
                tracing::debug!(%error, "the source cannot be listed; the catalog has what has been served")
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn list(&self) -> Result<Arc<Vec<RepositoryName>>> {
        let turn = self.turns.queue(Queue::Evaluations)?;
        let job = self.metrics.evaluations.queue();
        let place = turn.come().await;
        if place.is_ok() {
            job.begin();
        }
        let listed = match &place {
            Ok(_) => self.list_now().await,
            Err(error) => Err(error.clone()),
        };
        end(job, &listed);
        listed
    }

    /// What the sources named when they could be listed last, sorted.
    pub(super) fn last_listed(&self) -> Arc<Vec<RepositoryName>> {
        self.last_listed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn list_now(&self) -> Result<Arc<Vec<RepositoryName>>> {
        let listed = self.resolver.names().await.map(Arc::new).map_err(RegistryError::from);
        let duration = match &listed {
            Ok(_) => self.settings.tag_ttl.max(Duration::from_secs(1)),
            Err(error) => {
                tracing::warn!(%error, "the source cannot be listed; the catalog has what has been served");
                // Not when the evaluator could not be asked.
                self.lasts(error).unwrap_or_default()
            }
        };
        if let Ok(names) = &listed {
            *self.last_listed.lock().unwrap_or_else(PoisonError::into_inner) = names.clone();
        }
        self.listed.put((), listed.clone(), duration);
        listed
    }
}
