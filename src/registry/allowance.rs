//! What a client may cause that leads nowhere: evaluations of names and tags that do not exist.

use super::{Registry, RegistryError, Result, work};
use crate::{
    access::{Client, Tally},
    oci::{RepositoryName, Tag},
};
use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(60);

/// Evaluations of the last minute that led nowhere, by client.
#[derive(Debug)]
pub(super) struct Unknowns {
    /// Zero is no limit.
    max: usize,
    tally: Tally<Client>,
}

impl Unknowns {
    pub(super) fn new(max: usize, max_clients: NonZeroUsize) -> Self {
        Self { max, tally: Tally::new(WINDOW, max_clients) }
    }

    /// How long none of these clients may try anything new.
    fn exhausted(&self, clients: &[Option<Client>]) -> Option<Duration> {
        let now = Instant::now();
        let left = |client: &Option<Client>| {
            client
                .as_ref()
                .filter(|_| self.max > 0)
                .and_then(|client| self.tally.reached(client, self.max, now))
        };
        let left: Option<Vec<Duration>> = clients.iter().map(left).collect();
        left?.into_iter().min()
    }
}

impl Registry {
    /// Whether the clients of the work that runs here may have this evaluated. What is known to exist always may be.
    pub(super) async fn may_evaluate(&self, name: &RepositoryName, revision: Option<&Tag>) -> Result<()> {
        let Some(retry_after) = self.unknowns.exhausted(&work::clients()) else { return Ok(()) };
        if self.is_exempt(name, revision).await {
            return Ok(());
        }
        Err(RegistryError::OverLimit {
            message: format!(
                "a client may ask for {} names and tags a minute that lead to no image (MAX_CLIENT_UNKNOWN), so nothing new \
                 is looked up for this one; try again in {} s",
                self.unknowns.max,
                retry_after.as_secs().max(1)
            ),
            retry_after,
        })
    }

    /// Counts an evaluation that led nowhere for the clients that it was for.
    pub(super) async fn note_unknown(
        &self,
        name: &RepositoryName,
        revision: Option<&Tag>,
        error: &RegistryError,
    ) {
        if leads_nowhere(error) && !self.is_exempt(name, revision).await {
            let now = Instant::now();
            work::clients().into_iter().flatten().for_each(|client| self.unknowns.tally.count(client, now));
        }
    }

    /// Whether the catalog answers, or there has been such an image, or there is one by the last list of the sources.
    pub(super) async fn is_exempt(&self, name: &RepositoryName, revision: Option<&Tag>) -> bool {
        if !self.resolver.evaluates(name).await {
            return true;
        }
        match revision {
            Some(tag) => matches!(self.index.tag(name, tag), Ok(Some(_))),
            None => {
                matches!(self.index.tags(name), Ok(tags) if !tags.is_empty())
                    || self.last_listed().binary_search(name).is_ok()
            }
        }
    }
}

/// Whether an evaluation ended without an image. A source can make each name an error of its own, so these count as well;
/// but not that a source cannot be fetched, which is no client's doing and is remembered for all names at once.
pub(super) fn leads_nowhere(error: &RegistryError) -> bool {
    use RegistryError as E;
    match error {
        E::NameUnknown { .. }
        | E::ManifestUnknown { .. }
        | E::NotAnImage { .. }
        | E::EvaluationFailed { .. } => true,
        E::BlobUnknown { .. }
        | E::NameInvalid { .. }
        | E::SourceBroken { .. }
        | E::SourceUnreachable { .. }
        | E::BuildFailed { .. }
        | E::TimedOut { .. }
        | E::MayNotBuild { .. }
        | E::InProgress { .. }
        | E::Overloaded { .. }
        | E::OverLimit { .. }
        | E::Unavailable { .. }
        | E::StorageFull { .. }
        | E::Internal { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn that_a_source_cannot_be_fetched_is_no_clients_doing() {
        use crate::{nix::EvaluatorError, resolve::ResolveError};
        let leads = |error: ResolveError| leads_nowhere(&error.into());
        assert!(!leads(ResolveError::Source("x".into())) && !leads(ResolveError::Unreachable("x".into())));
        assert!(leads(ResolveError::Unknown("x".into())) && leads(EvaluatorError::Failed("x".into()).into()));
        assert!(leads(ResolveError::TagUnknown("x".into())));
        assert!(leads(ResolveError::UnknownAtRevision("x".into())));
    }

    #[test]
    fn what_is_wanted_by_somebody_who_may_have_it_is_not_refused() {
        let unknowns = Unknowns::new(2, NonZeroUsize::new(10).unwrap());
        let client = |name: &str| Some(Client::User(Arc::from(name)));
        for _ in 0..2 {
            assert!(unknowns.exhausted(&[client("a")]).is_none());
            unknowns.tally.count(client("a").unwrap(), Instant::now());
        }
        assert!(unknowns.exhausted(&[client("a")]).is_some());
        for others in [client("b"), None] {
            assert!(unknowns.exhausted(&[client("a"), others]).is_none());
        }
        let unlimited = Unknowns { max: 0, ..unknowns };
        assert!(unlimited.exhausted(&[client("a")]).is_none());
    }
}
