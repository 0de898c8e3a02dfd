//! The bytes of layers that are computed from store paths.

use super::Mapping;
use crate::layer::{EntryList, LayerError, Mark, Piece};
use bytes::Bytes;
use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
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
    pub(super) fn new(tar: VirtualTar) -> Self {
        Self { tar, last: Mutex::default() }
    }

    /// The bytes of a range, in several parts.
    pub(super) fn read(&self, range: Range<u64>) -> io::Result<Vec<Bytes>> {
        let mut parts = Vec::new();
        let mut copied: Vec<u8> = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        let result = self.tar.list.pieces(range, &mut |piece| {
            match piece {
                Piece::Bytes(bytes) => copied.extend_from_slice(bytes),
                Piece::Zeroes(count) => copied.resize(copied.len() + count as usize, 0),
                Piece::File { path, mark, range } => {
                    let open = self.open(path, mark)?;
                    if range.end - range.start >= MAP_FROM {
                        if !copied.is_empty() {
                            parts.push(std::mem::take(&mut copied).into());
                        }
                        parts.push(open.mapped(range)?);
                    } else {
                        let filled = copied.len();
                        copied.resize(filled + (range.end - range.start) as usize, 0);
                        open.file.read_exact_at(&mut copied[filled..], range.start)?;
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            (self.tar.failed)(&error);
            return Err(error);
        }
        if !copied.is_empty() {
            parts.push(copied.into());
        }
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
