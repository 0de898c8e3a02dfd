//! Open files of the store.

use super::{ImageError, reachable::Found};
use crate::{blob::Fingerprint, nix::StorePath};
use std::{
    fs::{File, FileType},
    io,
    os::unix::fs::{FileExt, FileTypeExt},
    path::PathBuf,
};

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
    /// Opens what was found in the store. Anything but a regular file is refused without opening it: that could block.
    pub(super) fn open(found: Found) -> Result<Self, ImageError> {
        let (path, metadata, object, within) = found.into_parts();
        if !metadata.is_file() {
            let kind = kind_of(metadata.file_type());
            return Err(ImageError::Unrecognised { path, found: kind.into() });
        }
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
