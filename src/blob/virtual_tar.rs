//! The bytes of layers that are computed from store paths.

use super::{Mapping, buffers::Buffers};
use crate::layer::{EntryList, LayerError, Mark, Piece};
use bytes::Bytes;
use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Parts of files that are at least this long are mapped; shorter ones are copied, which is faster.
const MAP_FROM: u64 = 128 << 10;

/// A layer that is computed from store paths.
#[derive(Clone)]
pub struct VirtualTar {
    list: Arc<EntryList>,
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
    /// The layer of this entry list. `failed` is called when a file is not what was hashed, or the list is damaged:
    /// then the response is cut, and the layer has to be made again.
    pub fn new(list: EntryList, failed: impl Fn(&io::Error) + Send + Sync + 'static) -> Self {
        Self { list: Arc::new(list), failed: Arc::new(failed) }
    }

    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.list.size()
    }

    /// Whether there are no bytes: never, since an archive has an end.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads one layer for one response.
pub(super) struct TarReader {
    tar: VirtualTar,
    buffers: Arc<Buffers>,
    /// The file that was read last: large ones are read in several chunks.
    last: Mutex<Option<Arc<Open>>>,
}

struct Open {
    path: PathBuf,
    mark: Mark,
    file: File,
    mapping: Mutex<Option<Arc<Mapping>>>,
}

impl TarReader {
    /// Reads ranges of at most `chunk` bytes.
    pub(super) fn new(tar: VirtualTar, chunk: usize) -> Self {
        Self { tar, buffers: Buffers::new(chunk), last: Mutex::default() }
    }

    /// The bytes of a range, in several parts.
    pub(super) fn read(&self, range: Range<u64>) -> io::Result<Vec<Bytes>> {
        // Mapped parts of files, each with how much of the buffer comes before it.
        let mut mapped: Vec<(usize, Bytes)> = Vec::new();
        let mut copied = self.buffers.take();
        let result = self.tar.list.pieces(range, &mut |piece| {
            match piece {
                Piece::Bytes(bytes) => copied.push(bytes)?,
                Piece::Zeroes(count) => copied.zeroes(count)?,
                Piece::File { path, mark, range } => {
                    let open = self.open(path, mark)?;
                    if range.end - range.start >= MAP_FROM {
                        mapped.push((copied.len(), open.mapped(range)?));
                    } else {
                        copied.read(&open.file, range.start, range.end - range.start)?;
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            (self.tar.failed)(&error);
            return Err(error);
        }
        let mut copied = copied.freeze();
        let mut parts = Vec::with_capacity(2 * mapped.len() + 1);
        let mut taken = 0;
        for (before, bytes) in mapped {
            parts.extend([copied.split_to(before - taken), bytes]);
            taken = before;
        }
        parts.push(copied);
        parts.retain(|part| !part.is_empty());
        Ok(parts)
    }

    fn open(&self, path: PathBuf, mark: Mark) -> io::Result<Arc<Open>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*last
            && open.mark == mark
            && open.path == path
        {
            return Ok(open.clone());
        }
        // Never through a link, and never waiting: it was a regular file when it was hashed.
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        let file = file.map_err(|source| LayerError::Io { path: path.clone(), source })?;
        if Mark::of(&file.metadata()?) != mark {
            return Err(LayerError::Changed { path }.into());
        }
        let open = Arc::new(Open { path, mark, file, mapping: Mutex::default() });
        *last = Some(open.clone());
        Ok(open)
    }
}

impl Open {
    fn mapped(&self, range: Range<u64>) -> io::Result<Bytes> {
        let mapping = {
            let mut mapping = self.mapping.lock().unwrap_or_else(PoisonError::into_inner);
            match &*mapping {
                Some(mapping) => mapping.clone(),
                None => mapping.insert(Arc::new(Mapping::new(&self.file)?)).clone(),
            }
        };
        mapping.populate(range.clone())?;
        mapping.slice(range)
    }
}
