//! Everything below a store path, in the order in which Python sorts paths: component by component. That is the order of
//! a walk that visits a folder before what is in it, and what is in it sorted by name.

use super::{LayerError, name::compare};
use std::{
    ffi::OsString,
    fs::{self, FileType, Metadata},
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::{Path, PathBuf},
};

/// Names in one folder, which are sorted in memory.
const MAX_NAMES: usize = 4_000_000;

/// Something that is in a store path, or the store path itself.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Of itself, even if it is a link.
    pub metadata: Metadata,
}

impl Found {
    /// Looks at what is there. A link is not followed.
    pub fn at(path: PathBuf) -> Result<Self, LayerError> {
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Self { path, metadata }),
            Err(source) => Err(LayerError::Io { path, source }),
        }
    }
}

/// Calls `visit` with `root` and all below it. Links are not followed. Needs memory for the names of the folders on the
/// way to where it is.
pub fn walk(root: &Path, visit: &mut dyn FnMut(Found) -> Result<(), LayerError>) -> Result<(), LayerError> {
    let mut pending: Vec<(PathBuf, std::vec::IntoIter<OsString>)> = Vec::new();
    let mut next = Some(root.to_owned());
    loop {
        let path = match next.take() {
            Some(path) => path,
            None => match pending.last_mut() {
                None => return Ok(()),
                Some((folder, names)) => match names.next() {
                    Some(name) => folder.join(name),
                    None => {
                        pending.pop();
                        continue;
                    }
                },
            },
        };
        let found = Found::at(path)?;
        let folder = found.metadata.is_dir().then(|| found.path.clone());
        visit(found)?;
        if let Some(folder) = folder {
            let names = names(&folder)?;
            pending.push((folder, names.into_iter()));
        }
    }
}

fn names(folder: &Path) -> Result<Vec<OsString>, LayerError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(LayerError::io(folder))? {
        names.push(entry.map_err(LayerError::io(folder))?.file_name());
        if names.len() > MAX_NAMES {
            return Err(LayerError::Unfit {
                path: folder.into(),
                what: "a folder of more than four million names",
            });
        }
    }
    names.sort_unstable_by(|a, b| compare(a.as_bytes(), b.as_bytes()));
    Ok(names)
}

/// What something is that cannot be in a layer.
pub(super) fn unfit(file_type: FileType) -> &'static str {
    match file_type {
        t if t.is_fifo() => "a FIFO",
        t if t.is_socket() => "a socket",
        _ => "a device",
    }
}
