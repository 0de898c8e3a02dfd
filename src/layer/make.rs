//! Making a layer: one pass over its files, which hashes the archive and writes its entry list.

use super::{
    Contents, Entry, Found, Item, Kind, LayerError, ListWriter, MAX_INLINE, MAX_NAME, Mark, Style, What,
    header::{BLOCK, padding},
    list::MAX_OWNER,
    walk::unfit,
};
use crate::{budget::Budget, oci::Digest};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, SyncSender},
};

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

/// Identifies a layer before it is made: the same contents, of unchanged store paths, in the same style are the same
/// archive.
pub fn recipe(style: &Style, contents: &dyn Contents) -> Result<Digest, LayerError> {
    let mut hash = Sha256::new().chain_update(super::list::MAGIC);
    let mut put = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    // Numbers and strings: there is no style for which this fails.
    put(&serde_json::to_vec(style).unwrap_or_default());
    put(&contents.describe());
    for path in contents.roots() {
        put(path.as_os_str().as_bytes());
        put(&mark(path)?.0.to_le_bytes());
    }
    Ok(Digest::from_raw(hash.finalize().into()))
}

fn mark(path: &Path) -> Result<Mark, LayerError> {
    fs::symlink_metadata(path).map(|metadata| Mark::of(&metadata)).map_err(LayerError::io(path))
}

/// Makes the layer of these contents, which are at most `max` files, folders and links, and writes its entry list. What that
/// costs, beyond buffers of a fixed size, is the budget's.
///
/// Reading and hashing are done by a thread each.
pub fn make<W: Write + Send>(
    style: &Style,
    contents: &dyn Contents,
    budget: &Budget,
    max: usize,
    list: W,
) -> Result<Made<W>, LayerError> {
    let list = ListWriter::new(list, style.clone()).map_err(LayerError::List)?;
    let (full, chunks) = mpsc::sync_channel::<Vec<u8>>(IN_FLIGHT);
    let (empty, recycled) = mpsc::channel::<Vec<u8>>();
    let mut hash = Sha256::new();
    let list = std::thread::scope(|scope| {
        let reading = scope.spawn(move || -> Result<_, LayerError> {
            let chunk = Vec::with_capacity(CHUNK);
            let mut out = Output { list, chunk, full, recycled, budget, entries: 0, max };
            for root in contents.roots() {
                out.list.root(root, mark(root)?);
            }
            contents.visit(budget, &mut |item| out.item(item))?;
            out.zeroes(out.list.end());
            out.flush();
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

/// Opens what was a regular file a moment ago; never waits, and never follows a link.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// The archive on its way to the thread that hashes.
struct Output<'b, W> {
    list: ListWriter<W>,
    budget: &'b Budget,
    chunk: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    recycled: Receiver<Vec<u8>>,
    entries: usize,
    max: usize,
}

impl<W: Write> Output<'_, W> {
    fn item(&mut self, item: Item) -> Result<(), LayerError> {
        let Item { name, mode, owner, what } = item;
        let entry = |mode: u32, kind| Entry { name, mode, owner, kind };
        match what {
            What::OnDisk(Found { path, metadata }) => {
                let file_type = metadata.file_type();
                let mode = mode.unwrap_or(metadata.mode() & 0o7777);
                if file_type.is_dir() {
                    return self.entry(&entry(mode, Kind::Folder));
                }
                if file_type.is_symlink() {
                    let target = fs::read_link(&path).map_err(LayerError::io(&path))?;
                    return self.entry(&entry(mode, Kind::Link(target.into_os_string().into_vec())));
                }
                if !file_type.is_file() {
                    return Err(LayerError::Unfit { path, what: unfit(file_type) });
                }
                self.file(path, mode, entry)
            }
            What::Folder => self.entry(&entry(mode.unwrap_or(0o755), Kind::Folder)),
            What::Link(target) => self.entry(&entry(mode.unwrap_or(0o777), Kind::Link(target))),
            What::Inline(bytes) => {
                let entry = entry(mode.unwrap_or(0o644), Kind::Inline(bytes));
                self.entry(&entry)?;
                let Kind::Inline(bytes) = &entry.kind else { return Ok(()) };
                self.chunk.extend_from_slice(bytes);
                self.zeroes(padding(bytes.len() as u64));
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        path: PathBuf,
        mode: u32,
        entry: impl FnOnce(u32, Kind) -> Entry,
    ) -> Result<(), LayerError> {
        let file = open(&path).map_err(LayerError::io(&path))?;
        // What counts is the file that is going to be read.
        let metadata = file.metadata().map_err(LayerError::io(&path))?;
        if !metadata.is_file() {
            return Err(LayerError::Changed { path });
        }
        let size = metadata.len();
        let mut entry = entry(mode, Kind::Folder);
        let elsewhere = (path.as_os_str().as_bytes() != entry.name).then(|| path.clone());
        entry.kind = Kind::File { size, mark: Mark::of(&metadata), path: elsewhere };
        self.entry(&entry)?;
        self.contents(&file, size, path)?;
        self.zeroes(padding(size));
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.entries += 1;
        if self.entries > self.max {
            return Err(LayerError::TooMany(self.max));
        }
        check(entry)?;
        self.list.push(entry, &mut self.chunk).map_err(LayerError::List)?;
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
        Ok(())
    }

    fn contents(&mut self, file: &File, size: u64, path: PathBuf) -> Result<(), LayerError> {
        let mut position = 0;
        while position < size {
            let filled = self.chunk.len();
            let length = ((CHUNK.saturating_sub(filled)) as u64).min(size - position) as usize;
            if length == 0 {
                self.flush();
                self.budget.in_time()?;
                continue;
            }
            self.chunk.resize(filled + length, 0);
            let read = file.read_at(&mut self.chunk[filled..], position);
            self.chunk.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(LayerError::Changed { path }),
                Ok(n) => position += n as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(LayerError::Io { path, source }),
            }
        }
        Ok(())
    }

    fn zeroes(&mut self, count: u64) {
        // At most a record of 20 blocks.
        debug_assert!(count <= 22 * BLOCK);
        self.chunk.resize(self.chunk.len() + count as usize, 0);
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let next = self.recycled.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        let full = std::mem::replace(&mut self.chunk, next);
        // The receiver goes away only after the last chunk, or in a panic that the join reports.
        let _ = self.full.send(full);
    }
}

/// What neither an archive nor an entry list can hold.
fn check(entry: &Entry) -> Result<(), LayerError> {
    let text = |text: &[u8], limit: usize| text.len() <= limit && !text.contains(&0);
    let problem = match &entry.kind {
        _ if entry.name.is_empty() => "it has no name".into(),
        _ if !text(&entry.name, MAX_NAME) => format!("its name is no name of at most {MAX_NAME} bytes"),
        // Seven octal digits.
        _ if entry.mode >= 1 << 21 => format!("{:o} are no permissions", entry.mode),
        Kind::Link(target) if !text(target, MAX_NAME) => {
            format!("its target is no name of at most {MAX_NAME} bytes")
        }
        Kind::Inline(bytes) if bytes.len() > MAX_INLINE => {
            format!("{} bytes are more than the {MAX_INLINE} that a list takes", bytes.len())
        }
        Kind::File { .. } if entry.name.ends_with(b"/") => "a file's name ends in no slash".into(),
        Kind::Inline(_) if entry.name.ends_with(b"/") => "a file's name ends in no slash".into(),
        _ => match &entry.owner {
            Some(owner)
                if !text(owner.uname.as_bytes(), MAX_OWNER) || !text(owner.gname.as_bytes(), MAX_OWNER) =>
            {
                format!("its owner's name is no name of at most {MAX_OWNER} bytes")
            }
            _ => return Ok(()),
        },
    };
    Err(LayerError::Refused { name: entry.name[..entry.name.len().min(300)].to_vec(), problem })
}
