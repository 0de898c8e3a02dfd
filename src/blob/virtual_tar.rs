//! The bytes of layers that are computed from store paths.

use super::buffers::{Buffer, Buffers};
use crate::layer::{EntryList, LayerError, Mark, Piece, Recent};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};
use std::{
    fmt,
    fs::File,
    io,
    ops::Range,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// A layer that is computed from store paths.
#[derive(Clone)]
pub struct VirtualTar {
    list: Arc<EntryList>,
    buffers: Arc<Buffers>,
    failed: Failed,
}

/// Is told when bytes cannot be produced.
type Failed = Arc<dyn Fn(&io::Error) + Send + Sync>;

impl fmt::Debug for VirtualTar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualTar").field(&self.list.digest()).finish()
    }
}

impl VirtualTar {
    /// The layer of this entry list, read into the `buffers`. `failed` is called when a file is not what was hashed, or the
    /// list is damaged: then the response is cut, and the layer has to be made again.
    pub fn new(
        list: EntryList,
        buffers: Arc<Buffers>,
        failed: impl Fn(&io::Error) + Send + Sync + 'static,
    ) -> Self {
        Self { list: Arc::new(list), buffers, failed: Arc::new(failed) }
    }

    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.list.size()
    }

    pub(super) fn buffers(&self) -> &Arc<Buffers> {
        &self.buffers
    }

    /// Whether there are no bytes: never, since an archive has an end.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads one layer for one response.
pub(super) struct TarReader {
    tar: VirtualTar,
    last: Mutex<Last>,
}

/// What was read last, and is often needed for the next chunk as well.
#[derive(Default)]
struct Last {
    block: Recent,
    /// Large files are read in several chunks.
    file: Option<Open>,
}

struct Open {
    path: PathBuf,
    mark: Mark,
    file: File,
}

impl TarReader {
    pub(super) fn new(tar: VirtualTar) -> Self {
        Self { tar, last: Mutex::default() }
    }

    /// Fills a buffer with the bytes of a range.
    ///
    /// Files are read, whatever their size: to map one, populate it and let go of it again takes longer than to copy it,
    /// up to 64 MiB at least.
    pub(super) fn read(&self, range: Range<u64>, buffer: &mut Buffer) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Last { block, file: last } = &mut *last;
        let mut folder = Folder::default();
        let result = self.tar.list.pieces(range, block, &mut |piece| match piece {
            Piece::Bytes(bytes) => buffer.push(bytes),
            Piece::Zeroes(count) => buffer.zeroes(count),
            Piece::File { path, mark, range } => {
                let open = match last.take().filter(|open| open.mark == mark && open.path == path) {
                    Some(open) => open,
                    None => Open { path: path.into(), mark, file: folder.open(path)? },
                };
                let open = last.insert(open);
                let read = buffer.read(&open.file, range.start, range.end - range.start);
                // Once, and after the read: so what was read is what was hashed, whenever the file was written to. And if
                // it could not be read, this is the likely reason.
                open.check()?;
                read.map_err(|source| LayerError::Io { path: open.path.clone(), source }.into())
            }
        });
        result.inspect_err(|error| (self.tar.failed)(error))
    }
}

/// The folder in which a file was opened last. The next is most often in the same one, and to look up all of a path again
/// for each is a third of what opening it takes. Files are what they were by their marks, so nothing depends on what
/// is at the folder's path meanwhile.
#[derive(Default)]
struct Folder {
    path: PathBuf,
    /// Once a second file is opened in it.
    open: Option<OwnedFd>,
}

impl Folder {
    fn open(&mut self, path: &Path) -> Result<File, LayerError> {
        let failed = |source: Errno| LayerError::Io { path: path.into(), source: source.into() };
        // Never through a link, and never waiting: it was a regular file when it was hashed.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(Errno::ISDIR));
        };
        let file = if self.path.as_os_str() != parent.as_os_str() {
            *self = Self { path: parent.into(), open: None };
            openat(CWD, path, flags, Mode::empty())
        } else {
            let open = match self.open.take() {
                Some(open) => open,
                None => {
                    openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                        .map_err(failed)?
                }
            };
            openat(self.open.insert(open), name, flags, Mode::empty())
        };
        file.map(File::from).map_err(failed)
    }
}

impl Open {
    /// Whether the file is still the one that was hashed.
    fn check(&self) -> Result<(), LayerError> {
        let metadata =
            self.file.metadata().map_err(|source| LayerError::Io { path: self.path.clone(), source })?;
        match Mark::of(&metadata) == self.mark {
            true => Ok(()),
            false => Err(LayerError::Changed { path: self.path.clone() }),
        }
    }
}
