//! The use cases: manifests, blobs, tags, the catalog. The one place where resolving, building, recognising and the
//! blob index meet.

use crate::{
    blob::Blob,
    oci::{Digest, Document, Reference, RepositoryName, Tag},
};
use std::time::Duration;

/// The registry.
pub struct Registry {}

/// What a request for a manifest leads to.
#[derive(Debug, Clone)]
pub struct ManifestAnswer {
    /// The canonical documents, the OCI form first; exactly one when the manifest was asked for by digest.
    pub documents: Vec<Document>,
}

/// Why a request cannot be answered. `http::error` decides on status and code, exhaustively.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No image has this name. The message lists near misses.
    #[error("{message}")]
    NameUnknown {
        /// What was looked for and which names are near.
        message: String,
    },
    /// The name exists, the tag or digest does not.
    #[error("{message}")]
    ManifestUnknown {
        /// What was looked for.
        message: String,
    },
    /// The repository has no blob of this digest.
    #[error("{repository} has no blob {digest}")]
    BlobUnknown {
        /// The repository that was asked.
        repository: RepositoryName,
        /// The digest that was asked for.
        digest: Digest,
    },
    /// The name does not follow a form that this registry is configured to serve.
    #[error("{message}")]
    NameInvalid {
        /// The forms that are.
        message: String,
    },
    /// The name leads to something that is not an image; what was found and what is understood.
    #[error("{message}")]
    NotAnImage {
        /// The path, what was found there, and what is understood.
        message: String,
    },
    /// The evaluation failed; the reason is Nix's.
    #[error("{message}")]
    EvaluationFailed {
        /// Nix's error, stripped of colours.
        message: String,
    },
    /// The build failed.
    #[error("{message}")]
    BuildFailed {
        /// Which derivation, why, and the last lines of its log, stripped of colours.
        message: String,
        /// The last lines of the log.
        log_tail: Vec<String>,
    },
    /// The build or evaluation exceeded its time limit.
    #[error("{message}")]
    TimedOut {
        /// Which, and the setting that limits it.
        message: String,
    },
    /// The build goes on; the client should ask again.
    #[error("{message}")]
    InProgress {
        /// What is being built and for how long.
        message: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// Too many builds or evaluations wait already.
    #[error("{message}")]
    Overloaded {
        /// Which limit.
        message: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// nix-daemon or the evaluator does not answer.
    #[error("{message}")]
    Unavailable {
        /// Which socket and why.
        message: String,
    },
    /// Something that should not happen; the message is for the log, not for the client.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
    },
}

/// What `/readyz` reports.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// Each part with `Ok` or the reason why it does not answer.
    pub parts: Vec<(&'static str, Result<(), String>)>,
}

impl Registry {
    /// The manifest that a tag or digest leads to.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestAnswer, RegistryError> {
        Err(RegistryError::ManifestUnknown { message: format!("{repository}:{reference}") })
    }

    /// A blob of an image of this repository.
    pub async fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Blob, RegistryError> {
        Err(RegistryError::BlobUnknown { repository: repository.clone(), digest: *digest })
    }

    /// All tags of a repository, sorted.
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Tag>, RegistryError> {
        Err(RegistryError::NameUnknown { message: repository.to_string() })
    }

    /// All repositories that the source names, and those that have been served, sorted.
    pub async fn catalog(&self) -> Result<Vec<RepositoryName>, RegistryError> {
        Ok(Vec::new())
    }

    /// Whether the parts that this registry depends on answer.
    pub async fn readiness(&self) -> Readiness {
        Readiness { parts: Vec::new() }
    }
}
