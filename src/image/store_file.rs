//! Files in the store, found without ever leaving it.

use super::{ImageError, Reader};
use crate::{
    blob::Fingerprint,
    nix::{StoreDir, StorePath},
};
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File, FileType, Metadata},
    io,
    os::unix::fs::{FileExt, FileTypeExt},
    path::{Component, Path, PathBuf},
};

/// Something in the store, all links on the way to it followed.
#[derive(Debug)]
pub(super) struct Found {
    /// Its path, without links.
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
}

/// Follows `path`, which is below the store folder, component by component. Every link has to stay in the store, and
/// the kernel is not asked about anything outside. None if it or the target of a link does not exist.
pub(super) fn follow(store: &StoreDir, path: &Path, max_links: usize) -> Result<Option<Found>, ImageError> {
    let invalid = |problem: String| ImageError::invalid(path, problem);
    let below = |target: &Path| -> Option<VecDeque<OsString>> {
        let mut parts = VecDeque::new();
        for component in target.strip_prefix(store.as_path()).ok()?.components() {
            match component {
                Component::Normal(part) => parts.push_back(part.to_owned()),
                Component::ParentDir => parts.push_back("..".into()),
                _ => {}
            }
        }
        Some(parts)
    };
    let mut left = below(path).ok_or_else(|| invalid("it is not in the store".into()))?;
    let mut done: Vec<OsString> = Vec::new();
    let mut links = 0;
    let mut metadata = None;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            if done.pop().is_none() {
                return Err(invalid("a link leads out of the store".into()));
            }
            continue;
        }
        done.push(part);
        let here = store.as_path().join(done.iter().collect::<PathBuf>());
        let found = match fs::symlink_metadata(&here) {
            Ok(found) => found,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(ImageError::Io { path: here, source }),
        };
        if found.is_symlink() {
            links += 1;
            if links > max_links {
                return Err(invalid(format!("more than {max_links} links to follow")));
            }
            let target = match fs::read_link(&here) {
                Ok(target) => target,
                Err(source) => return Err(ImageError::Io { path: here, source }),
            };
            done.pop();
            let mut parts = if target.is_absolute() {
                done.clear();
                below(&target).ok_or_else(|| {
                    invalid(format!("{here:?} links to {target:?}, which is not in the store"))
                })?
            } else {
                target.components().map(|part| part.as_os_str().to_owned()).filter(|p| p != ".").collect()
            };
            parts.append(&mut left);
            left = parts;
        }
        metadata = Some(found);
    }
    if done.is_empty() {
        return Err(invalid("a link leads out of the store".into()));
    }
    let path = store.as_path().join(done.iter().collect::<PathBuf>());
    match metadata {
        Some(metadata) if !metadata.is_symlink() => Ok(Some(Found { path, metadata })),
        // The last step was a `..`: what it leads to has not been looked at.
        _ => match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(Found { path, metadata })),
            Err(source) => Err(ImageError::Io { path, source }),
        },
    }
}

/// Says what a thing is that is no regular file.
pub(super) fn kind_of(file_type: FileType) -> &'static str {
    match file_type {
        t if t.is_file() => "a regular file",
        t if t.is_dir() => "a folder",
        t if t.is_fifo() => "a FIFO",
        t if t.is_socket() => "a socket",
        t if t.is_symlink() => "a symbolic link",
        _ => "a device",
    }
}

/// An open regular file of the store.
#[derive(Debug)]
pub(super) struct StoreFile {
    /// The absolute path, for messages.
    pub(super) path: PathBuf,
    pub(super) object: StorePath,
    /// Within the object; empty if the object is the file.
    pub(super) within: PathBuf,
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) fingerprint: Fingerprint,
}

impl StoreFile {
    /// Opens what [`follow`] found. Anything but a regular file is refused without opening it: that could block.
    pub(super) fn open(store: &StoreDir, found: Found) -> Result<Self, ImageError> {
        let Found { path, metadata } = found;
        if !metadata.is_file() {
            let kind = kind_of(metadata.file_type());
            return Err(ImageError::Unrecognised { path, found: kind.into() });
        }
        let (object, within) = store.split(&path).map_err(|error| ImageError::invalid(&path, error))?;
        let within = within.to_path_buf();
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            Err(source) => return Err(ImageError::Io { path, source }),
        };
        let (size, fingerprint) = (metadata.len(), Fingerprint::of(&metadata));
        Ok(Self { path, object, within, file, size, fingerprint })
    }

    /// The first `n` bytes, or fewer if the file is shorter.
    pub(super) fn head(&self, n: usize) -> Result<Vec<u8>, ImageError> {
        let mut head = Vec::new();
        let mut range = FileRange { file: &self.file, position: 0, end: self.size.min(n as u64) };
        match io::Read::read_to_end(&mut range, &mut head) {
            Ok(_) => Ok(head),
            Err(error) => Err(ImageError::reading(&self.path, "its beginning", error)),
        }
    }
}

/// Opens a file of the store by the path that `wanted_by`, in the file `of`, names.
pub(super) fn open_named(
    reader: &Reader,
    path: &Path,
    (of, wanted_by): (&Path, &str),
) -> Result<StoreFile, ImageError> {
    let found = follow(&reader.store, path, reader.limits.max_links)?;
    let found = found.ok_or_else(|| ImageError::Incomplete {
        path: of.into(),
        member: path.display().to_string(),
        wanted_by: wanted_by.into(),
    })?;
    StoreFile::open(&reader.store, found)
}

/// The path of a store object that `wanted_by`, in the file `of`, names. Nothing but a store path is accepted, so nothing
/// else is ever opened.
pub(super) fn store_path(
    reader: &Reader,
    text: &str,
    (of, wanted_by): (&Path, &str),
) -> Result<PathBuf, ImageError> {
    let store_path = reader.store.parse(text).map_err(|error| {
        ImageError::invalid(of, format!("its {wanted_by} name what cannot be served: {error}"))
    })?;
    let path = reader.store.join(&store_path);
    match path.symlink_metadata() {
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ImageError::Incomplete { path: of.into(), member: text.into(), wanted_by: wanted_by.into() })
        }
        Err(source) => Err(ImageError::Io { path, source }),
    }
}

/// A range of a file as a reader with a position of its own, so that threads can share the file.
#[derive(Debug)]
pub(super) struct FileRange<'f> {
    pub(super) file: &'f File,
    pub(super) position: u64,
    pub(super) end: u64,
}

impl io::Read for FileRange<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = buf.len().min(left);
        let n = self.file.read_at(&mut buf[..length], self.position)?;
        if n == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += n as u64;
        Ok(n)
    }
}
