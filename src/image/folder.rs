//! From a store path and a selection to the one file or layout folder that is the image.

use super::{
    ImageError, Reader, Selection,
    magic::{self, HEAD},
    oci_layout,
    reachable::Found,
    recognise::{self, Recognised},
    store_file::{StoreFile, kind_of},
};
use crate::nix::StorePath;
use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

/// What an archive may be called besides its image's name, most wanted first.
const SUFFIXES: [&str; 9] =
    ["", ".tar.gz", ".tar", ".tar.zst", ".tar.xz", ".tgz", ".tzst", ".txz", ".tar.gzip"];
/// Entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// The object itself, if it can be an image: a folder of images is none.
pub(super) fn itself<'r>(
    reader: &'r Reader,
    object: &StorePath,
) -> Result<Option<Recognised<'r>>, ImageError> {
    let root = root(reader, object)?;
    if root.metadata().is_dir() && !oci_layout::is_folder(reader, root.path()) {
        Ok(None)
    } else {
        Recognised::of(reader, root).map(Some)
    }
}

/// Finds what `select` means in `object`.
pub(super) fn locate<'r>(
    reader: &'r Reader,
    object: &StorePath,
    select: &Selection,
) -> Result<Recognised<'r>, ImageError> {
    let root = root(reader, object)?;
    match select {
        Selection::Only if root.metadata().is_dir() && !oci_layout::is_folder(reader, root.path()) => {
            only(reader, root.path())
        }
        Selection::Only | Selection::Package(_) => Recognised::of(reader, root),
        Selection::Member(name) if root.metadata().is_dir() => member(reader, root.path(), name),
        Selection::Member(name) => {
            let found =
                format!("{}, not a folder with an image {name:?}", kind_of(root.metadata().file_type()));
            Err(ImageError::Unrecognised { path: root.path().into(), found })
        }
    }
}

/// The names of all images in a folder, sorted; a name is what [`Selection::Member`] takes.
pub(super) fn members(reader: &Reader, object: &StorePath) -> Result<Vec<String>, ImageError> {
    let root = root(reader, object)?;
    if !root.metadata().is_dir() || oci_layout::is_folder(reader, root.path()) {
        return Ok(Vec::new());
    }
    Ok(candidates(reader, root.path())?.names)
}

fn root(reader: &Reader, object: &StorePath) -> Result<Found, ImageError> {
    let path = reader.store.join(object);
    reader.store.follow(&path)?.ok_or(ImageError::Vanished { path })
}

fn only<'r>(reader: &'r Reader, folder: &Path) -> Result<Recognised<'r>, ImageError> {
    let mut candidates = candidates(reader, folder)?;
    match (candidates.names.len(), candidates.found.pop()) {
        (1, Some(found)) => Recognised::of(reader, found),
        (0, _) => Err(candidates.refused.unwrap_or_else(|| ImageError::Unrecognised {
            path: folder.into(),
            found: recognise::describe_folder(folder),
        })),
        _ => Err(ImageError::MemberNeeded { path: folder.into(), known: candidates.names }),
    }
}

fn member<'r>(reader: &'r Reader, folder: &Path, name: &str) -> Result<Recognised<'r>, ImageError> {
    let plain = !name.is_empty() && !name.contains(['/', '\0']) && !matches!(name, "." | "..");
    let mut unfit = None;
    for suffix in SUFFIXES {
        if !plain {
            break;
        }
        let path = folder.join(format!("{name}{suffix}"));
        if path.symlink_metadata().is_err() {
            continue;
        }
        let found = reader
            .store
            .follow(&path)?
            .ok_or_else(|| ImageError::invalid(&path, "it is a link to something that does not exist"))?;
        if Recognised::of(reader, found.clone()).is_ok() {
            return Recognised::of(reader, found);
        }
        unfit.get_or_insert(found);
    }
    match unfit {
        Some(found) if found.metadata().is_file() => {
            let file = StoreFile::open(found)?;
            Err(ImageError::Unrecognised { found: magic::describe(&file.head(HEAD)?), path: file.path })
        }
        Some(found) => Recognised::of(reader, found),
        None => Err(ImageError::MemberUnknown {
            path: folder.into(),
            name: name.chars().take(255).collect(),
            known: candidates(reader, folder)?.names,
        }),
    }
}

struct Candidates {
    names: Vec<String>,
    found: Vec<Found>,
    /// Of a link that leads out of the closure, and might have been an image.
    refused: Option<ImageError>,
}

/// All images of a folder. What cannot be opened is none: the error belongs to whoever asks for it by name.
fn candidates(reader: &Reader, folder: &Path) -> Result<Candidates, ImageError> {
    let reading = |source: io::Error| ImageError::Io { path: folder.into(), source };
    let mut names = BTreeSet::new();
    let (mut images, mut refused) = (Vec::new(), None);
    let mut known: HashMap<PathBuf, bool> = HashMap::new();
    for entry in fs::read_dir(folder).map_err(reading)?.take(MAX_ENTRIES) {
        let entry = entry.map_err(reading)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        reader.budget.in_time().map_err(ImageError::exceeding(folder))?;
        let found = match reader.store.follow(&entry.path()) {
            Ok(Some(found)) => found,
            Err(error @ ImageError::OutOfClosure { .. }) => {
                refused.get_or_insert(error);
                continue;
            }
            Err(error @ ImageError::Closure(_)) => return Err(error),
            Ok(None) | Err(_) => continue,
        };
        // Many names may lead to one file, which is checked once.
        let is_image = *known
            .entry(found.path().to_owned())
            .or_insert_with(|| Recognised::of(reader, found.clone()).is_ok());
        if is_image {
            let suffix = SUFFIXES.iter().filter(|suffix| name.ends_with(**suffix)).max_by_key(|s| s.len());
            names.insert(suffix.and_then(|s| name.strip_suffix(s)).unwrap_or(&name).to_owned());
            images.push(found);
        }
    }
    Ok(Candidates { names: names.into_iter().collect(), found: images, refused })
}
