//! Which repositories there are.

use super::{Caller, Registry, RegistryError, Result, outcome};
use crate::oci::RepositoryName;
use std::{sync::Arc, time::Duration};

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
                let this = self.clone();
                let listing = caller.begin(|| self.listing.join((), || async move { this.list().await }));
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
        let _share = self.clients.evaluation()?;
        let job = self.metrics.evaluations.queue();
        let _place = match self.evaluations.enter().await {
            Ok(place) => place,
            Err(_full) => {
                let error = self.overloaded_evaluations();
                job.end(error.outcome());
                return Err(error);
            }
        };
        job.begin();
        let listed = self.resolver.names().await.map(Arc::new).map_err(RegistryError::from);
        let duration = match &listed {
            Ok(_) => self.settings.tag_ttl.max(Duration::from_secs(1)),
            Err(error) => {
                tracing::warn!(%error, "the source cannot be listed; the catalog has what has been served");
                // Not when the evaluator could not be asked.
                let lasting =
                    matches!(error, RegistryError::EvaluationFailed { .. } | RegistryError::TimedOut { .. });
                if lasting { self.settings.failure_ttl } else { Duration::ZERO }
            }
        };
        job.end(outcome(&listed));
        self.listed.put((), listed.clone(), duration);
        listed
    }
}
