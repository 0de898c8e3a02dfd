//! Why a store path does not yield an image.

use super::LimitExceeded;
use crate::{blob::CacheError, nix::ClosureError, oci::Digest};
use std::{fmt, io, path::PathBuf};

/// Names of members or files that an error message lists at most.
const LISTED: usize = 50;
/// Bytes of a foreign name in a message.
const MAX_SHOWN: usize = 300;
/// Bytes of what a message says is wrong.
const MAX_PROBLEM: usize = 8 << 10;

/// Why a store path does not yield an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store path is of no kind that is understood.
    #[error(
        "{path:?} is not a container image: it is {found}. Understood are archives as docker-archive \
         (nixpkgs dockerTools, docker save) or oci-archive, plain or compressed with gzip, zstd or xz; \
         OCI layout folders; streamed images (nixpkgs streamLayeredImage, flakeforge); nix2container's images; \
         and folders of these"
    )]
    Unrecognised {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// It is of a known kind, and broken.
    #[error("{path:?} is not a valid image: {problem}")]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// Which member, and what is wrong with it.
        problem: String,
    },
    /// Something in it refers to a member that is not there.
    #[error("{path:?} is not a complete image: {wanted_by} refers to {member:?}, which it does not contain")]
    Incomplete {
        /// The file or folder.
        path: PathBuf,
        /// The member that is missing.
        member: String,
        /// The member that refers to it.
        wanted_by: String,
    },
    /// The image is larger, or has more parts, than a setting allows.
    #[error("{path:?} exceeds a limit: {exceeded}")]
    LimitExceeded {
        /// The file or folder.
        path: PathBuf,
        /// Which.
        exceeded: LimitExceeded,
    },
    /// It names a store path that its build does not refer to.
    #[error(
        "{path:?} names {named:?}, which is not in the runtime closure of {object:?}: an image is made only of what \
         its build refers to"
    )]
    OutOfClosure {
        /// The file, link or folder that names it.
        path: PathBuf,
        /// The store path.
        named: PathBuf,
        /// The store path that is read.
        object: PathBuf,
    },
    /// nix-daemon does not say what the runtime closure is.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// The folder has no image of this name.
    #[error("no image {name:?} in {path:?}; {}", listed(known))]
    MemberUnknown {
        /// The folder.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// The images that there are, sorted.
        known: Vec<String>,
    },
    /// The folder has several images and none was named.
    #[error("{path:?} is a folder of several images, and the request names none; {}", listed(known))]
    MemberNeeded {
        /// The folder.
        path: PathBuf,
        /// The images that there are, sorted.
        known: Vec<String>,
    },
    /// The store path is not there (any more): it was never built, or collected. Realising it again helps.
    #[error("{path:?} does not exist in the store")]
    Vanished {
        /// The store path.
        path: PathBuf,
    },
    /// The store path no longer contains a blob that it once did: its build is not reproducible.
    #[error("{path:?} no longer contains the blob {digest}: it was built again with another result")]
    Changed {
        /// The file or folder.
        path: PathBuf,
        /// What was looked for.
        digest: Digest,
    },
    /// The blob cache cannot take what has to be unpacked.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The file system fails; not the image's fault.
    #[error("cannot read {path:?}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// "it has: a, b, c", cut at a length that a terminal can take.
fn listed(names: &[String]) -> String {
    match names.len() {
        0 => "it has no images at all".into(),
        n if n > LISTED => format!("it has: {}, and {} more", names[..LISTED].join(", "), n - LISTED),
        _ => format!("it has: {}", names.join(", ")),
    }
}

/// Foreign text at a length that an answer and a line of the log can take.
pub(super) fn shown(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

impl ImageError {
    pub(super) fn invalid(path: impl Into<PathBuf>, problem: impl fmt::Display) -> Self {
        Self::Invalid { path: path.into(), problem: shown(problem.to_string(), MAX_PROBLEM) }
    }

    /// The error that `member`, which `wanted_by` refers to, is not there.
    pub(super) fn missing(path: impl Into<PathBuf>, member: &str, wanted_by: &str) -> Self {
        let [member, wanted_by] = [member, wanted_by].map(|name| shown(name.to_owned(), MAX_SHOWN));
        Self::Incomplete { path: path.into(), member, wanted_by }
    }

    /// The error of exceeding a budget or a limit while reading `path`.
    pub(super) fn exceeding<E: Into<LimitExceeded>>(path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |exceeded| Self::LimitExceeded { path, exceeded: exceeded.into() }
    }

    /// Sorts out what an error met while reading `what` means: errors of limits and of the cache travel through the
    /// decoders inside of I/O errors; errors of the system have a number; all else is what decoders say of bad bytes.
    pub(super) fn reading(path: impl Into<PathBuf>, what: impl fmt::Display, error: io::Error) -> Self {
        let path = path.into();
        if error.raw_os_error().is_some() {
            return Self::Io { path, source: error };
        }
        if let Some(exceeded) = error.get_ref().and_then(|inner| inner.downcast_ref::<LimitExceeded>()) {
            return Self::LimitExceeded { path, exceeded: exceeded.clone() };
        }
        match error.downcast::<CacheError>() {
            Ok(cache) => Self::Cache(cache),
            Err(error) => {
                let truncated = error.kind() == io::ErrorKind::UnexpectedEof;
                let why = if truncated { "it ends too early".to_owned() } else { error.to_string() };
                Self::invalid(path, format!("{what}: {why}"))
            }
        }
    }
}
