//! Memory-mapped files: the one module with `unsafe`.
//!
//! The kernel may be handed pages of a mapping to send: where the file has become shorter in the meantime, it answers
//! with an error. This program must not look at them, since it would be killed (SIGBUS) by the first page that is not
//! there any more; what it looks at, it has to read.

use super::Fingerprint;
use bytes::Bytes;
use memmap2::{Advice, Mmap};
use std::{fs::File, io, ops::Range, path::PathBuf, sync::Arc};

/// A whole file mapped for reading, shared between all blobs that lie in it.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
    file: File,
    path: PathBuf,
    fingerprint: Fingerprint,
}

/// A part of a mapping that keeps the whole alive.
struct Slice {
    mapping: Arc<Mapping>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.mapping.map[self.range.clone()]
    }
}

impl Mapping {
    /// Maps a file that nobody writes to: one of the Nix store, which is immutable, or a finished one of the blob
    /// cache, which is written under another name, renamed once and then only ever unlinked. Errors name its `path`;
    /// the fingerprint is what it was when it was hashed.
    pub fn new(file: File, path: PathBuf, fingerprint: Fingerprint) -> io::Result<Self> {
        // SAFETY: a map must not change while a `&[u8]` to it exists, and touching a page beyond the end of the file
        // would raise SIGBUS. Nothing writes to or truncates store objects (Nix makes them read-only before it
        // registers them) and cache files (see above); unlinking either leaves the pages readable. Every page is
        // populated through `populate`, which reports a vanished page or an I/O error as an error, before a slice of
        // it is given out, and only the kernel looks at what is given out (see `Sight`).
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map, file, path, fingerprint })
    }

    /// The file, to read from.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What the file was when it was hashed.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// An error if the file is not what it was when it was hashed.
    pub fn verify(&self) -> io::Result<()> {
        let now = self.file.metadata().map_err(|error| self.name(error))?;
        match Fingerprint::of(&now) == self.fingerprint {
            true => Ok(()),
            false => Err(self.name(io::Error::other("it is not the file that was hashed"))),
        }
    }

    /// The result of bringing bytes into memory, if the file is what was hashed even now. Else that is the reason, if they
    /// could not be brought there, too.
    pub(super) fn verified<T>(&self, result: io::Result<T>) -> io::Result<T> {
        self.verify()?;
        result.map_err(|error| self.name(error))
    }

    fn name(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Reads the pages of `range` into memory and maps them, blocking on the disk. An error, and not a signal, is
    /// what a truncated file or a failing disk leads to here.
    pub fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let range = self.check(range)?;
        if range.is_empty() {
            return Ok(());
        }
        match self.map.advise_range(Advice::PopulateRead, range.start, range.len()) {
            // Linux before 5.14 does not know it; there the pages are touched one by one as they are written.
            Err(e) if e.raw_os_error() == Some(22) => Ok(()),
            other => other,
        }
    }

    /// The bytes of `range`, not copied, for the kernel to send; they keep the mapping alive.
    pub fn slice(self: &Arc<Self>, range: Range<u64>) -> io::Result<Bytes> {
        let range = self.check(range)?;
        Ok(Bytes::from_owner(Slice { mapping: self.clone(), range }))
    }

    fn check(&self, range: Range<u64>) -> io::Result<Range<usize>> {
        if range.start > range.end || range.end > self.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the range ends beyond the file"));
        }
        // Both are at most `len`, which is a usize.
        Ok(range.start as usize..range.end as usize)
    }
}
