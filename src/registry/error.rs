//! Why a request cannot be answered, and how the errors of the parts below become that.

use crate::{
    blob::CacheError,
    image::ImageError,
    index::IndexError,
    metrics::{Job, Outcome},
    nix::{BuildError, Buildable, ClosureError, DaemonError, EvaluatorError, GcRootError},
    oci::{Digest, RepositoryName},
    resolve::ResolveError,
};
use std::{io, time::Duration};

/// When clients are told to ask again for what a source's server did not give.
const RETRY_SOURCE: Duration = Duration::from_secs(30);

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
        /// Whether it is of no kind that is understood, rather than a broken image.
        is_other: bool,
        /// Whether the message has names that were not asked for.
        names_others: bool,
    },
    /// The evaluation failed; the reason is Nix's.
    #[error("{message}")]
    EvaluationFailed {
        /// Nix's error, stripped of colours.
        message: String,
        /// Whether it is another part of the source that cannot be evaluated; the message has names that were not asked
        /// for.
        names_others: bool,
    },
    /// The source as it is configured cannot be fetched, however often that is tried.
    #[error("{message}")]
    SourceBroken {
        /// Nix's error, stripped of colours.
        message: String,
    },
    /// The server of a source, or of one of its inputs, cannot be asked now.
    #[error("{message}")]
    SourceUnreachable {
        /// Nix's error, stripped of colours.
        message: String,
        /// When to ask again.
        retry_after: Duration,
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
    /// It is not there, and the caller may not have it evaluated or built.
    #[error("{message}")]
    MayNotBuild {
        /// What is not there.
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
    /// The client has had all that it may have for now.
    #[error("{message}")]
    OverLimit {
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
    /// The registry's disk is full, so nothing can be unpacked or written down. The message is for the log.
    #[error("{message}")]
    StorageFull {
        /// Which file system, and what to do.
        message: String,
    },
    /// Something that should not happen; the message is for the log, not for the client.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
    },
}

/// Records the outcome of work. Per-client refusals are not counted: they do not indicate load.
pub(super) fn end<T>(job: Job, result: &Result<T, RegistryError>) {
    match result {
        Ok(_) => job.end(Outcome::Succeeded),
        Err(RegistryError::OverLimit { .. }) => job.discard(),
        Err(error) => job.end(error.outcome()),
    }
}

impl RegistryError {
    /// How work ended that failed like this.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::NameUnknown { .. }
            | Self::ManifestUnknown { .. }
            | Self::BlobUnknown { .. }
            | Self::NameInvalid { .. } => Outcome::Unknown,
            Self::NotAnImage { .. }
            | Self::EvaluationFailed { .. }
            | Self::SourceBroken { .. }
            | Self::BuildFailed { .. } => Outcome::Failed,
            Self::TimedOut { .. } | Self::InProgress { .. } => Outcome::TimedOut,
            Self::Overloaded { .. } | Self::OverLimit { .. } | Self::MayNotBuild { .. } => Outcome::Refused,
            Self::Unavailable { .. } | Self::SourceUnreachable { .. } => Outcome::Unavailable,
            Self::StorageFull { .. } => Outcome::NoSpace,
            Self::Internal { .. } => Outcome::Internal,
        }
    }

    /// How the reading of an image ended that failed like this.
    pub(super) fn outcome_of_reading(error: &ImageError) -> Outcome {
        match error {
            ImageError::MemberUnknown { .. } => Outcome::Unknown,
            ImageError::Cache(CacheError::NoSpace { .. }) => Outcome::NoSpace,
            ImageError::Unrecognised { .. }
            | ImageError::Invalid { .. }
            | ImageError::Incomplete { .. }
            | ImageError::LimitExceeded { .. }
            | ImageError::OutOfClosure { .. }
            | ImageError::Closure(ClosureError::TooLarge { .. })
            | ImageError::MemberNeeded { .. }
            | ImageError::Cache(CacheError::TooLarge { .. })
            // Collected meanwhile, or built again with another result.
            | ImageError::Vanished { .. }
            | ImageError::Changed { .. } => Outcome::Failed,
            ImageError::Closure(ClosureError::Daemon(DaemonError::Unavailable { .. })) => Outcome::Unavailable,
            ImageError::Closure(ClosureError::Daemon(DaemonError::Nix(_)) | ClosureError::Gone(_))
            | ImageError::Cache(CacheError::Io { .. })
            | ImageError::Io { .. } => Outcome::Internal,
        }
    }

    pub(super) fn internal(message: impl ToString) -> Self {
        Self::Internal { message: message.to_string() }
    }

    /// What is there cannot be an image as it is.
    fn not_an_image(message: String) -> Self {
        Self::NotAnImage { message, is_other: false, names_others: false }
    }

    /// The state folder has no room for something small.
    fn full(error: &impl std::fmt::Display) -> Self {
        let message = format!(
            "no space left on the file system of STATE_DIR; free some, or lower CACHE_MAX_BYTES: {error}"
        );
        Self::StorageFull { message }
    }

    /// This, with what to do about its being no image.
    pub(super) fn with_hint(self, hint: Option<&str>) -> Self {
        match (self, hint) {
            (Self::NotAnImage { message, is_other: true, names_others }, Some(hint)) => {
                Self::NotAnImage { message: format!("{message}; {hint}"), is_other: true, names_others }
            }
            (error, _) => error,
        }
    }

    /// The error of realising `what`.
    pub(super) fn build(what: &[Buildable], error: BuildError) -> Self {
        let name = what.first().map(Buildable::name).unwrap_or_default();
        match error {
            BuildError::Failed { reason, log_tail } => {
                Self::BuildFailed { message: failure(name, &reason, &log_tail), log_tail }
            }
            error @ BuildError::TimedOut { .. } => {
                let log_tail = match &error {
                    BuildError::TimedOut { log_tail, .. } => log_tail.as_slice(),
                    _ => &[],
                };
                Self::TimedOut { message: failure(name, &error.to_string(), log_tail) }
            }
            BuildError::Gone(path) => Self::ManifestUnknown {
                message: format!(
                    "{path} was collected from the Nix store, and nothing here can make it again"
                ),
            },
            BuildError::Daemon(error) => error.into(),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Nix's message quotes the end of the log itself when it can; then that is enough.
fn failure(name: &str, reason: &str, log_tail: &[String]) -> String {
    let reason = reason.trim().trim_start_matches("error:").trim_start();
    let quoted = log_tail.last().is_none_or(|line| {
        let line = line.trim_end_matches('…').trim();
        line.is_empty() || reason.contains(line)
    });
    if quoted {
        format!("the build of {name} failed: {reason}")
    } else {
        format!("the build of {name} failed: {reason}\nthe last lines of its log:\n{}", log_tail.join("\n"))
    }
}

impl From<DaemonError> for RegistryError {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Unavailable { .. } => Self::Unavailable { message: error.to_string() },
            DaemonError::Nix(_) => Self::internal(error),
        }
    }
}

impl From<ClosureError> for RegistryError {
    fn from(error: ClosureError) -> Self {
        match error {
            ClosureError::TooLarge { .. } => Self::not_an_image(error.to_string()),
            ClosureError::Gone(_) => Self::internal(error),
            ClosureError::Daemon(error) => error.into(),
        }
    }
}

impl From<GcRootError> for RegistryError {
    fn from(error: GcRootError) -> Self {
        match error {
            GcRootError::Daemon(error) => error.into(),
            GcRootError::Io { error: ref source, .. } if is_full(source) => Self::full(&error),
            GcRootError::Io { .. } => Self::internal(error),
        }
    }
}

impl From<IndexError> for RegistryError {
    fn from(error: IndexError) -> Self {
        match &error {
            IndexError::Io { error: source, .. } | IndexError::Database(redb::Error::Io(source))
                if is_full(source) =>
            {
                Self::full(&error)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<ResolveError> for RegistryError {
    fn from(error: ResolveError) -> Self {
        let message = error.to_string();
        match error {
            ResolveError::Name(_) => Self::NameInvalid { message },
            ResolveError::Unknown(_) => Self::NameUnknown { message },
            ResolveError::TagUnknown(_) | ResolveError::UnknownAtRevision(_) => {
                Self::ManifestUnknown { message }
            }
            ResolveError::NotADerivation(_) | ResolveError::Package(_) => Self::not_an_image(message),
            ResolveError::Hidden(_) => Self::EvaluationFailed {
                message: format!("the evaluation failed: {message}"),
                names_others: true,
            },
            ResolveError::Source(_) => {
                Self::SourceBroken { message: format!("the source cannot be fetched: {message}") }
            }
            ResolveError::Unreachable(_) => {
                let message = format!("the source cannot be fetched now: {message}");
                Self::SourceUnreachable { message, retry_after: RETRY_SOURCE }
            }
            ResolveError::Daemon(error) => error.into(),
            ResolveError::Evaluator(error) => match error {
                EvaluatorError::Failed(_) => Self::EvaluationFailed {
                    message: format!("the evaluation failed: {message}"),
                    names_others: false,
                },
                EvaluatorError::TimedOut(_) => Self::TimedOut { message },
                EvaluatorError::Unavailable { .. } | EvaluatorError::Answer { .. } => {
                    Self::Unavailable { message }
                }
            },
        }
    }
}

impl From<ImageError> for RegistryError {
    fn from(error: ImageError) -> Self {
        let message = error.to_string();
        match error {
            ImageError::MemberUnknown { .. } => Self::NameUnknown { message },
            ImageError::Unrecognised { .. } => {
                Self::NotAnImage { message, is_other: true, names_others: false }
            }
            ImageError::MemberNeeded { .. } => {
                Self::NotAnImage { message, is_other: false, names_others: true }
            }
            ImageError::Invalid { .. }
            | ImageError::Incomplete { .. }
            | ImageError::LimitExceeded { .. }
            | ImageError::OutOfClosure { .. }
            | ImageError::Cache(CacheError::TooLarge { .. }) => Self::not_an_image(message),
            ImageError::Closure(error) => error.into(),
            ImageError::Cache(CacheError::NoSpace { .. }) => Self::StorageFull { message },
            ImageError::Vanished { .. }
            | ImageError::Changed { .. }
            | ImageError::Cache(_)
            | ImageError::Io { .. } => Self::Internal { message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_has_no_more_is_no_error_of_the_registry() {
        let path = std::path::PathBuf::from("/nix/store/x");
        for error in [
            ImageError::Changed { path: path.clone(), digest: Digest::of(b"") },
            ImageError::Vanished { path: path.clone() },
        ] {
            assert_eq!(RegistryError::outcome_of_reading(&error), Outcome::Failed, "{error}");
        }
        let error = ImageError::Io { path, source: io::ErrorKind::PermissionDenied.into() };
        assert_eq!(RegistryError::outcome_of_reading(&error), Outcome::Internal);
    }
}
