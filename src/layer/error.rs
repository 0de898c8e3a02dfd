//! Why a layer cannot be made or served.

use crate::budget::BudgetExceeded;
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
    /// The budget of the reading that the layer is made for.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
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

    /// Whether `error` says nothing of the layer, but that too many files are open, or too little memory is left.
    pub fn is_shortage(error: &io::Error) -> bool {
        let source = match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(Self::Io { source, .. }) => source,
            _ => error,
        };
        source.raw_os_error().is_some_and(|code| [libc::EMFILE, libc::ENFILE, libc::ENOMEM].contains(&code))
    }
}

impl From<LayerError> for io::Error {
    fn from(error: LayerError) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_no_change_of_the_layer() {
        let io = |code| io::Error::from_raw_os_error(code);
        let of_a_file = |code| io::Error::from(LayerError::Io { path: "/a".into(), source: io(code) });
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            assert!(
                LayerError::is_shortage(&io(code)) && LayerError::is_shortage(&of_a_file(code)),
                "{code}"
            );
        }
        let changed = LayerError::Changed { path: "/a".into() }.into();
        for error in [io(libc::ENOENT), of_a_file(libc::ELOOP), changed, io::Error::other("other")] {
            assert!(!LayerError::is_shortage(&error), "{error}");
        }
    }
}
