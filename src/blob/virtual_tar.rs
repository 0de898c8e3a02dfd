//! The bytes of layers that are computed from store paths.

use super::buffers::{Buffer, Buffers};
use crate::layer::{EntryList, LayerError, Mark, Piece, Recent};
use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
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
        let result = self.tar.list.pieces(range, block, &mut |piece| match piece {
            Piece::Bytes(bytes) => buffer.push(bytes),
            Piece::Zeroes(count) => buffer.zeroes(count),
            Piece::File { path, mark, range } => {
                let open = match last.take().filter(|open| open.mark == mark && open.path == path) {
                    Some(open) => open,
                    None => open(path, mark)?,
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

fn open(path: PathBuf, mark: Mark) -> io::Result<Open> {
    // Never through a link, and never waiting: it was a regular file when it was hashed.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
    let file = file.map_err(|source| LayerError::Io { path: path.clone(), source })?;
    Ok(Open { path, mark, file })
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
