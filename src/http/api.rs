//! What the HTTP side asks of the registry.

use crate::{
    blob::Blob,
    metrics::Measured,
    oci::{Digest, Reference, RepositoryName, Tag},
    registry::{Caller, ManifestAnswer, Readiness, Registry, RegistryError},
};
use std::{future::Future, sync::Arc};

/// The use cases that requests lead to. [`Registry`] is the one implementation outside of tests, which answer from
/// memory to put the HTTP side through its paces without a Nix daemon.
pub trait Api: Send + Sync + 'static {
    /// The manifest that a tag or digest leads to.
    fn manifest(
        self: &Arc<Self>,
        repository: &RepositoryName,
        reference: &Reference,
        caller: &Caller,
    ) -> impl Future<Output = Result<ManifestAnswer, RegistryError>> + Send;

    /// A blob of an image of this repository.
    fn blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
        caller: &Caller,
    ) -> impl Future<Output = Result<Blob, RegistryError>> + Send;

    /// All tags of a repository, sorted.
    fn tags(
        self: &Arc<Self>,
        repository: &RepositoryName,
        caller: &Caller,
    ) -> impl Future<Output = Result<Vec<Tag>, RegistryError>> + Send;

    /// All repositories, sorted.
    fn catalog(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> impl Future<Output = Result<Vec<RepositoryName>, RegistryError>> + Send;

    /// Whether the parts that the registry depends on answer.
    fn readiness(self: &Arc<Self>) -> impl Future<Output = Readiness> + Send;

    /// How large everything is, for the metrics.
    fn measured(self: &Arc<Self>) -> impl Future<Output = Arc<Measured>> + Send;
}

// The inherent methods have precedence over those of the trait, so none of these calls itself.
impl Api for Registry {
    async fn manifest(
        self: &Arc<Self>,
        repository: &RepositoryName,
        reference: &Reference,
        caller: &Caller,
    ) -> Result<ManifestAnswer, RegistryError> {
        self.manifest(repository, reference, caller).await
    }

    async fn blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
        caller: &Caller,
    ) -> Result<Blob, RegistryError> {
        self.blob(repository, digest, caller).await
    }

    async fn tags(
        self: &Arc<Self>,
        repository: &RepositoryName,
        caller: &Caller,
    ) -> Result<Vec<Tag>, RegistryError> {
        self.tags(repository, caller).await
    }

    async fn catalog(self: &Arc<Self>, caller: &Caller) -> Result<Vec<RepositoryName>, RegistryError> {
        self.catalog(caller).await
    }

    async fn readiness(self: &Arc<Self>) -> Readiness {
        self.readiness().await
    }

    async fn measured(self: &Arc<Self>) -> Arc<Measured> {
        self.measured().await
    }
}
