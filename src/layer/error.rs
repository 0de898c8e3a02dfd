//! Why a layer cannot be made or served.

use std::{io, path::PathBuf};

/// Why a layer cannot be made or served.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file or folder cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something that cannot be in a layer.
    #[error("{path:?} is {what}, which cannot be in a layer of store paths")]
    Unfit {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A file is not what it was a moment ago.
    #[error("{path:?} is not the file that was hashed")]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// More entries than a layer may have.
    #[error("a layer has more than {0} files, folders and links, which is what MAX_LAYER_FILES allows")]
    TooMany(usize),
    /// An entry that no archive, or no list, can hold.
    #[error("{:?} cannot be in a layer: {problem}", String::from_utf8_lossy(name))]
    Refused {
        /// Its name in the archive, perhaps cut.
        name: Vec<u8>,
        /// Why.
        problem: String,
    },
    /// The layer's description makes no sense.
    #[error("{0}")]
    Contents(String),
    /// The entry list cannot be written.
    #[error("cannot write the entry list: {0}")]
    List(io::Error),
    /// The entry list is not what was written.
    #[error("the entry list is damaged: {0}")]
    Damaged(&'static str),
}

impl LayerError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl From<LayerError> for io::Error {
    fn from(error: LayerError) -> Self {
        Self::other(error)
    }
}
