//! Making a layer: one pass over its files, which hashes the archive and writes its entry list.

use super::{
    Entry, Found, Kind, LayerError, ListWriter, Mark, Style,
    header::{BLOCK, padding},
    walk::{unfit, walk},
};
use crate::oci::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::PathBuf,
    sync::mpsc::{self, Receiver, SyncSender},
};

/// Files, folders and links that a layer may have; a limit against what is not meant to be a layer.
pub const MAX_ENTRIES: usize = 4_000_000;
/// Bytes that are handed from the thread that reads to the one that hashes at a time.
const CHUNK: usize = 256 << 10;
/// Chunks on their way.
const IN_FLIGHT: usize = 4;

/// A layer that has been read once.
#[derive(Debug)]
pub struct Made<W> {
    /// Of the archive; it is not compressed, so this is its diff ID as well.
    pub digest: Digest,
    /// The archive's length in bytes.
    pub size: u64,
    /// What the entry list was written to.
    pub list: W,
}

/// Identifies a layer before it is made: the same paths, unchanged, in the same style are the same archive.
pub fn recipe(style: &Style, paths: &[PathBuf]) -> Result<Digest, LayerError> {
    let mut hash = Sha256::new().chain_update(super::list::MAGIC);
    // Numbers and strings: there is no style for which this fails.
    let style = serde_json::to_vec(style).unwrap_or_default();
    hash.update((style.len() as u64).to_le_bytes());
    hash.update(style);
    for path in paths {
        let metadata = fs::symlink_metadata(path).map_err(LayerError::io(path))?;
        let path = path.as_os_str().as_bytes();
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update(Mark::of(&metadata).0.to_le_bytes());
    }
    Ok(Digest::from_raw(hash.finalize().into()))
}

/// Makes the layer of these paths, which are absolute, each with all below it, and writes its entry list.
///
/// Reading and hashing are done by a thread each.
pub fn make<W: Write + Send>(style: &Style, paths: &[PathBuf], list: W) -> Result<Made<W>, LayerError> {
    let list = ListWriter::new(list, style.clone()).map_err(LayerError::List)?;
    let (full, chunks) = mpsc::sync_channel::<Vec<u8>>(IN_FLIGHT);
    let (empty, recycled) = mpsc::channel::<Vec<u8>>();
    let mut hash = Sha256::new();
    let list = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut out = Output { list, chunk: Vec::with_capacity(CHUNK), full, recycled, entries: 0 };
            read(&mut out, style, paths)?;
            out.flush()?;
            Ok(out.list)
        });
        for mut chunk in chunks {
            hash.update(&chunk);
            chunk.clear();
            // The other thread may be done already and need it no more.
            let _ = empty.send(chunk);
        }
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let digest = Digest::from_raw(hash.finalize().into());
    let (size, list) = list.finish(digest).map_err(LayerError::List)?;
    Ok(Made { digest, size, list })
}

fn read<W: Write>(out: &mut Output<W>, style: &Style, paths: &[PathBuf]) -> Result<(), LayerError> {
    for name in ["/nix", "/nix/store"] {
        out.entry(&Entry { name: name.into(), mode: style.root_mode, kind: Kind::Folder })?;
    }
    for root in paths {
        let mut first = true;
        walk(root, &mut |found| {
            if std::mem::take(&mut first) {
                out.list.root(&found.path, Mark::of(&found.metadata));
            }
            visit(out, found)
        })?;
    }
    let end = out.list.end();
    out.zeroes(end)
}

fn visit<W: Write>(out: &mut Output<W>, found: Found) -> Result<(), LayerError> {
    let Found { path, metadata } = found;
    let (file_type, mode) = (metadata.file_type(), metadata.mode());
    let name = |path: PathBuf| path.into_os_string().into_vec();
    if file_type.is_dir() {
        return out.entry(&Entry { name: name(path), mode, kind: Kind::Folder });
    }
    if file_type.is_symlink() {
        let target = fs::read_link(&path).map_err(LayerError::io(&path))?;
        return out.entry(&Entry { name: name(path), mode, kind: Kind::Link(name(target)) });
    }
    if !file_type.is_file() {
        return Err(LayerError::Unfit { path, what: unfit(file_type) });
    }
    let file = open(&path).map_err(LayerError::io(&path))?;
    // What counts is the file that is going to be read.
    let metadata = file.metadata().map_err(LayerError::io(&path))?;
    if !metadata.is_file() {
        return Err(LayerError::Changed { path });
    }
    let size = metadata.len();
    let kind = Kind::File { size, mark: Mark::of(&metadata) };
    let entry = Entry { name: path.as_os_str().as_bytes().to_vec(), mode: metadata.mode(), kind };
    out.entry(&entry)?;
    out.contents(&file, size).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => LayerError::Changed { path },
        _ => LayerError::Io { path, source },
    })?;
    out.zeroes(padding(size))
}

/// Opens what was a regular file a moment ago; never waits, and never follows a link.
fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// The archive on its way to the thread that hashes.
struct Output<W> {
    list: ListWriter<W>,
    chunk: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    recycled: Receiver<Vec<u8>>,
    entries: usize,
}

impl<W: Write> Output<W> {
    fn entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(LayerError::TooMany(MAX_ENTRIES));
        }
        self.list.push(entry, &mut self.chunk).map_err(LayerError::List)?;
        if self.chunk.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn contents(&mut self, file: &File, size: u64) -> io::Result<()> {
        let mut position = 0;
        while position < size {
            let filled = self.chunk.len();
            let length = ((CHUNK.saturating_sub(filled)) as u64).min(size - position) as usize;
            if length == 0 {
                self.flush()?;
                continue;
            }
            self.chunk.resize(filled + length, 0);
            let read = file.read_at(&mut self.chunk[filled..], position);
            self.chunk.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => position += n as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn zeroes(&mut self, count: u64) -> Result<(), LayerError> {
        // At most a record of 20 blocks.
        debug_assert!(count <= 22 * BLOCK);
        self.chunk.resize(self.chunk.len() + count as usize, 0);
        if self.chunk.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), LayerError> {
        let next = self.recycled.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        let full = std::mem::replace(&mut self.chunk, next);
        // The receiver goes away only after the last chunk, or in a panic that the join reports.
        let _ = self.full.send(full);
        Ok(())
    }
}
