//! Everything below a store path, in the order in which Python sorts paths: component by component. That is the order of
//! a walk that visits a folder before what is in it, and what is in it sorted by name.

use super::{LayerError, name::compare};
use crate::budget::{Budget, Held};
use std::{
    ffi::OsString,
    fs::{self, FileType, Metadata},
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::{Path, PathBuf},
};

/// Names in one folder, which are sorted in memory.
const MAX_NAMES: usize = 4_000_000;
/// Bytes that a name takes besides its own, in a list that doubles when it is full.
const NAME_COST: u64 = 2 * size_of::<OsString>() as u64 + 16;

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
/// way to where it is, which the budget has to have.
pub fn walk(
    root: &Path,
    budget: &Budget,
    visit: &mut dyn FnMut(Found) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let mut pending: Vec<(PathBuf, std::vec::IntoIter<OsString>, Held<'_>)> = Vec::new();
    let mut next = Some(root.to_owned());
    loop {
        let path = match next.take() {
            Some(path) => path,
            None => match pending.last_mut() {
                None => return Ok(()),
                Some((folder, names, _)) => match names.next() {
                    Some(name) => folder.join(name),
                    None => {
                        pending.pop();
                        continue;
                    }
                },
            },
        };
        budget.in_time()?;
        let found = Found::at(path)?;
        let folder = found.metadata.is_dir().then(|| found.path.clone());
        visit(found)?;
        if let Some(folder) = folder {
            let (names, held) = names(&folder, budget)?;
            pending.push((folder, names.into_iter(), held));
        }
    }
}

fn names<'b>(folder: &Path, budget: &'b Budget) -> Result<(Vec<OsString>, Held<'b>), LayerError> {
    let mut names = Vec::new();
    let mut held = budget.hold(folder.as_os_str().len() as u64, "the names in a folder")?;
    for entry in fs::read_dir(folder).map_err(LayerError::io(folder))? {
        let name = entry.map_err(LayerError::io(folder))?.file_name();
        held.grow(NAME_COST + name.len() as u64)?;
        names.push(name);
        if names.len() > MAX_NAMES {
            return Err(LayerError::Unfit {
                path: folder.into(),
                what: "a folder of more than four million names",
            });
        }
    }
    names.sort_unstable_by(|a, b| compare(a.as_bytes(), b.as_bytes()));
    Ok((names, held))
}

/// What something is that cannot be in a layer.
pub(super) fn unfit(file_type: FileType) -> &'static str {
    match file_type {
        t if t.is_fifo() => "a FIFO",
        t if t.is_socket() => "a socket",
        _ => "a device",
    }
}
