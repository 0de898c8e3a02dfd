//! Everything below a store path, in the order in which Python sorts paths: component by component. That is the order of
//! a walk that visits a folder before what is in it, and what is in it sorted by name.

use super::{LayerError, name::compare};
use std::{
    ffi::OsString,
    fs::{self, FileType, Metadata},
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::{Path, PathBuf},
};

/// Something that is in a store path, or the store path itself.
#[derive(Debug)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Of itself, even if it is a link.
    pub metadata: Metadata,
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
        let metadata = fs::symlink_metadata(&path).map_err(LayerError::io(&path))?;
        let folder = metadata.is_dir().then(|| path.clone());
        visit(Found { path, metadata })?;
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
        if names.len() > super::MAX_ENTRIES {
            return Err(LayerError::TooMany(super::MAX_ENTRIES));
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
