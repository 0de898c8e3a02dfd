//! From a store path and a selection to the one file or layout folder that is the image.

use super::{
    ImageError, Reader, Selection, nix2container,
    reachable::Found,
    recognise::{self, HEAD},
    store_file::{StoreFile, kind_of},
    streamed,
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

/// What an image is read from.
#[derive(Debug)]
pub(super) enum Located {
    /// An archive, the script or configuration of a streamed image, or nix2container's description of one.
    File(StoreFile),
    /// The folder of an OCI layout.
    Layout(PathBuf),
}

/// The object itself, if it can be an image: a folder of images is none.
pub(super) fn itself(reader: &Reader, object: &StorePath) -> Result<Option<Located>, ImageError> {
    let root = root(reader, object)?;
    if root.metadata().is_dir() && !is_layout(reader, root.path()) {
        Ok(None)
    } else {
        open(reader, root).map(Some)
    }
}

/// Finds what `select` means in `object`.
pub(super) fn locate(reader: &Reader, object: &StorePath, select: &Selection) -> Result<Located, ImageError> {
    let root = root(reader, object)?;
    match select {
        Selection::Only if root.metadata().is_dir() && !is_layout(reader, root.path()) => {
            only(reader, root.path())
        }
        Selection::Only | Selection::Package(_) => open(reader, root),
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
    if !root.metadata().is_dir() || is_layout(reader, root.path()) {
        return Ok(Vec::new());
    }
    Ok(candidates(reader, root.path())?.names)
}

fn root(reader: &Reader, object: &StorePath) -> Result<Found, ImageError> {
    let path = reader.store.join(object);
    reader.store.follow(&path)?.ok_or(ImageError::Vanished { path })
}

fn open(reader: &Reader, found: Found) -> Result<Located, ImageError> {
    if found.metadata().is_dir() && is_layout(reader, found.path()) {
        return Ok(Located::Layout(found.path().into()));
    }
    if found.metadata().is_dir() {
        let there = describe(found.path());
        return Err(ImageError::Unrecognised { path: found.path().into(), found: there });
    }
    let file = StoreFile::open(found)?;
    Ok(Located::File(file))
}

fn is_layout(reader: &Reader, folder: &Path) -> bool {
    let is_file = |name: &str| folder.join(name).symlink_metadata().is_ok_and(|m| !m.is_dir());
    let is_folder = |name: &str| {
        let found = reader.store.follow(&folder.join(name)).ok().flatten();
        found.is_some_and(|found| found.metadata().is_dir())
    };
    is_file("index.json") && (is_file("oci-layout") || is_folder("blobs"))
}

fn only(reader: &Reader, folder: &Path) -> Result<Located, ImageError> {
    let mut candidates = candidates(reader, folder)?;
    match (candidates.names.len(), candidates.found.pop()) {
        (1, Some(found)) => open(reader, found),
        (0, _) => Err(candidates
            .refused
            .unwrap_or_else(|| ImageError::Unrecognised { path: folder.into(), found: describe(folder) })),
        _ => Err(ImageError::MemberNeeded { path: folder.into(), known: candidates.names }),
    }
}

fn member(reader: &Reader, folder: &Path, name: &str) -> Result<Located, ImageError> {
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
        if looks_like_image(reader, &found) {
            return open(reader, found);
        }
        unfit.get_or_insert(found);
    }
    match unfit {
        Some(found) if found.metadata().is_file() => {
            let file = StoreFile::open(found)?;
            Err(ImageError::Unrecognised { found: recognise::describe(&file.head(HEAD)?), path: file.path })
        }
        Some(found) => open(reader, found),
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
        let is_image =
            *known.entry(found.path().to_owned()).or_insert_with(|| looks_like_image(reader, &found));
        if is_image {
            let suffix = SUFFIXES.iter().filter(|suffix| name.ends_with(**suffix)).max_by_key(|s| s.len());
            names.insert(suffix.and_then(|s| name.strip_suffix(s)).unwrap_or(&name).to_owned());
            images.push(found);
        }
    }
    Ok(Candidates { names: names.into_iter().collect(), found: images, refused })
}

fn looks_like_image(reader: &Reader, found: &Found) -> bool {
    if found.metadata().is_dir() {
        return is_layout(reader, found.path());
    }
    let Ok(file) = StoreFile::open(found.clone()) else { return false };
    let archive = file.head(HEAD).is_ok_and(|head| recognise::format(&head).is_some());
    archive
        || streamed::recognise(reader, &file).is_ok_and(|found| found.is_some())
        || nix2container::recognise(reader, &file).is_ok_and(|found| found.is_some())
}

fn describe(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return "a folder that cannot be read".into() };
    let mut names: Vec<String> =
        entries.flatten().take(100).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    match names.len() {
        0 => "an empty folder".into(),
        n if n > 8 => format!("a folder with: {}, …", names[..8].join(", ")),
        _ => format!("a folder with: {}", names.join(", ")),
    }
}
