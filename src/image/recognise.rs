//! Which format an image has, by content.

use super::{
    Image, ImageError, Options, Reader, archive,
    contents::Contents,
    magic::{self, Format},
    nix2container, oci_layout,
    reachable::Found,
    store_file::StoreFile,
    streamed,
};
use crate::oci::Digest;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Something that can be read as an image. Each format is a file of this folder, and a variant here.
pub(super) enum Recognised<'r> {
    /// A tar archive, perhaps compressed; what is in it shows when it is read.
    Archive(StoreFile, Format),
    /// The script or configuration of a streamed image.
    Streamed(streamed::Found<'r>),
    /// nix2container's description of an image.
    Nix2Container(nix2container::Found<'r>),
    /// The folder of an OCI layout.
    OciLayout(PathBuf),
}

impl<'r> Recognised<'r> {
    /// What this file or folder is.
    ///
    /// # Errors
    ///
    /// [`ImageError::Unrecognised`] if it is no image.
    pub(super) fn of(reader: &'r Reader, found: Found) -> Result<Self, ImageError> {
        let path = found.path().to_owned();
        let unrecognised = |found| Err(ImageError::Unrecognised { path: path.clone(), found });
        if found.metadata().is_dir() {
            return match oci_layout::is_folder(reader, &path) {
                true => Ok(Self::OciLayout(path)),
                false => unrecognised(describe_folder(&path)),
            };
        }
        let file = StoreFile::open(found)?;
        let head = file.head(magic::HEAD)?;
        if let Some(format) = magic::format(&head) {
            return Ok(Self::Archive(file, format));
        }
        if let Some(found) = streamed::recognise(reader, &file)? {
            return Ok(Self::Streamed(found));
        }
        match nix2container::recognise(reader, &file)? {
            Some(found) => Ok(Self::Nix2Container(found)),
            None => unrecognised(magic::describe(&head)),
        }
    }

    /// The file or folder that says what is in the image.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Archive(file, _) => &file.path,
            Self::Streamed(found) => found.path(),
            Self::Nix2Container(found) => found.path(),
            Self::OciLayout(path) => path,
        }
    }

    /// Reads it: hashes every blob once, and puts into the cache what has to be unpacked.
    pub(super) fn read(self, reader: &Reader, options: &Options) -> Result<Image, ImageError> {
        match self {
            Self::Archive(file, format) => archive::read(reader, file, format, options),
            Self::Streamed(found) => streamed::read(reader, found, options),
            Self::Nix2Container(found) => nix2container::read(reader, found, options),
            Self::OciLayout(path) => oci_layout::read(&mut Contents::of_folder(reader, &path)),
        }
    }

    /// Puts the blob of this digest and size into the cache again; `false` if the image has it no more, or never had it there.
    pub(super) fn recreate(self, reader: &Reader, digest: Digest, size: u64) -> Result<bool, ImageError> {
        match self {
            Self::Archive(file, format) => archive::recreate(reader, &file, format, digest, size),
            Self::Streamed(found) => streamed::recreate(reader, &found, digest, size),
            // Their blobs are served from the store.
            Self::Nix2Container(_) | Self::OciLayout(_) => Ok(false),
        }
    }
}

/// Says in words what is in a folder that is no image.
pub(super) fn describe_folder(folder: &Path) -> String {
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
