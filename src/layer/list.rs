//! Entry lists: what is needed to produce any range of a layer, as a file.
//!
//! ```text
//! "forge-registry layer 2\n"
//! block*     up to 64 entries, see `codec`, then 8 bytes of SHA-256 over the block's place in the archive and the entries
//! table      for each block: its place in the archive and its place in this file, 8 bytes each
//! footer     JSON: style, the archive's size and digest, the store paths with their marks
//! trailer    places of table and footer, 8 bytes each; SHA-256 of table, footer and these two
//! ```
//! Numbers are little endian. A block is found by its place in the archive; the places of entries in it follow from the
//! lengths of headers and contents. So a reader holds the table, 16 bytes for 64 entries, and one block at a time.

mod codec;

use super::{
    Entry, Kind, LayerError, MAX_INLINE, MAX_NAME, Mark, Style,
    header::{self, padding},
};
use crate::oci::Digest;
use codec::Before;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    ops::Range,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
};

/// The first bytes; another number is another format.
pub(super) const MAGIC: &[u8] = b"forge-registry layer 2\n";
const ENTRIES: usize = 64;
const CHECKSUM: usize = 8;
const TRAILER: u64 = 8 + 8 + 32;
/// A block is no longer than this and one entry: contents that are in the list do not make blocks long to read.
const BLOCK_LENGTH: usize = 64 << 10;
/// Nor is an entry longer than this: name, place and owner's names, and a link's target or contents.
const MAX_ENTRY: usize = 2 * MAX_NAME + 2 * MAX_OWNER + MAX_INLINE + 128;
const MAX_BLOCK: u64 = (BLOCK_LENGTH + MAX_ENTRY + CHECKSUM) as u64;
/// The longest name of an owner, in bytes.
pub(super) const MAX_OWNER: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Footer {
    style: Style,
    size: u64,
    digest: Digest,
    roots: Vec<(PathBuf, Mark)>,
}

/// Writes an entry list.
#[derive(Debug)]
pub struct ListWriter<W> {
    out: W,
    style: Style,
    written: u64,
    /// Where the next entry begins in the archive.
    position: u64,
    block: Vec<u8>,
    block_position: u64,
    in_block: usize,
    previous: Vec<u8>,
    before: Before,
    table: Vec<u8>,
    roots: Vec<(PathBuf, Mark)>,
}

impl<W: Write> ListWriter<W> {
    /// Begins a list.
    pub fn new(mut out: W, style: Style) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self {
            out,
            style,
            written: MAGIC.len() as u64,
            position: 0,
            block: Vec::new(),
            block_position: 0,
            in_block: 0,
            previous: Vec::new(),
            before: Before::default(),
            table: Vec::new(),
            roots: Vec::new(),
        })
    }

    /// Remembers a store path that the layer is made from.
    pub fn root(&mut self, path: &Path, mark: Mark) {
        self.roots.push((path.into(), mark));
    }

    /// Adds an entry, and appends its headers to `headers`.
    pub fn push(&mut self, entry: &Entry, headers: &mut Vec<u8>) -> io::Result<()> {
        if self.in_block == 0 {
            self.block_position = self.position;
            self.previous.clear();
            self.before = Before::default();
        }
        codec::encode(&mut self.block, &self.previous, &mut self.before, entry);
        self.previous.clone_from(&entry.name);
        self.in_block += 1;
        let before = headers.len();
        header::write(headers, &self.style, entry);
        self.position += (headers.len() - before) as u64 + entry.size() + padding(entry.size());
        let full = self.in_block == ENTRIES || self.block.len() >= BLOCK_LENGTH;
        if full { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.in_block == 0 {
            return Ok(());
        }
        self.table.extend_from_slice(&self.block_position.to_le_bytes());
        self.table.extend_from_slice(&self.written.to_le_bytes());
        let sum = checksum(self.block_position, &self.block);
        self.block.extend_from_slice(&sum);
        self.out.write_all(&self.block)?;
        self.written += self.block.len() as u64;
        self.block.clear();
        self.in_block = 0;
        Ok(())
    }

    /// Bytes, all zero, with which the archive ends after the entries so far.
    pub fn end(&self) -> u64 {
        self.style.writer.end(self.position)
    }

    /// Ends the list of the archive that has this digest; the archive's size, and what was written to.
    pub fn finish(mut self, digest: Digest) -> io::Result<(u64, W)> {
        self.end_block()?;
        let size = self.position + self.end();
        let footer = Footer { style: self.style, size, digest, roots: self.roots };
        let places = [self.written, self.written + self.table.len() as u64];
        let mut tail = self.table;
        serde_json::to_writer(&mut tail, &footer)?;
        tail.extend(places.iter().flat_map(|place| place.to_le_bytes()));
        let sum = Sha256::digest(&tail);
        tail.extend_from_slice(&sum);
        self.out.write_all(&tail)?;
        Ok((size, self.out))
    }
}

/// A part of a range of a layer.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many zeroes.
    Zeroes(u64),
    /// Bytes of a file.
    File {
        /// Where it is.
        path: &'a Path,
        /// What it was when it was hashed.
        mark: Mark,
        /// Which of its bytes.
        range: Range<u64>,
    },
}

/// The block that was read last. It has at most 64 entries, which stand in 64 KiB and one entry.
#[derive(Debug, Default)]
pub struct Recent {
    /// Which one, if it was read to its end.
    n: Option<usize>,
    entries: Vec<Placed>,
}

/// An entry and its places in the archive: where it, its contents, and the next entry begin.
#[derive(Debug)]
struct Placed {
    position: u64,
    contents: u64,
    after: u64,
    entry: Entry,
}

/// An open entry list.
#[derive(Debug)]
pub struct EntryList {
    file: File,
    footer: Footer,
    /// Places in the archive and in the list.
    table: Vec<(u64, u64)>,
    table_at: u64,
}

impl EntryList {
    /// Opens a list; an error if it is not what was written. The blocks are checked when they are read.
    pub fn open(file: File) -> Result<Self, LayerError> {
        const TOO_SHORT: LayerError = LayerError::Damaged("it is too short");
        let read = |range: Range<u64>| -> Result<Vec<u8>, LayerError> {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).map_err(|_| TOO_SHORT)?;
            Ok(bytes)
        };
        let length = file.metadata().map_err(|_| LayerError::Damaged("its length is unknown"))?.len();
        let start = MAGIC.len() as u64;
        let trailer_at = length.checked_sub(TRAILER).filter(|at| *at >= start).ok_or(TOO_SHORT)?;
        if read(0..start)? != MAGIC {
            return Err(LayerError::Damaged("it has another format"));
        }
        let places = read(trailer_at..trailer_at + 16)?;
        let (table_at, footer_at) = (number(&places[..8]), number(&places[8..]));
        if !(start <= table_at && table_at <= footer_at && footer_at <= trailer_at) {
            return Err(LayerError::Damaged("its parts are out of order"));
        }
        let tail = read(table_at..length)?;
        let (tail, sum) = tail.split_at(tail.len() - 32);
        if Sha256::digest(tail)[..] != *sum {
            return Err(LayerError::Damaged("its table or footer has another checksum"));
        }
        let (table, rest) = tail.split_at((footer_at - table_at) as usize);
        let footer = serde_json::from_slice(&rest[..rest.len() - 16])
            .map_err(|_| LayerError::Damaged("its footer is not what was written"))?;
        let table = table.chunks_exact(16).map(|row| (number(&row[..8]), number(&row[8..]))).collect();
        Ok(Self { file, footer, table, table_at })
    }

    /// The archive's length in bytes.
    pub fn size(&self) -> u64 {
        self.footer.size
    }

    /// The archive's digest.
    pub fn digest(&self) -> Digest {
        self.footer.digest
    }

    /// Whether all store paths that the layer was made from are there, and are still the same. What is in them is looked
    /// at when it is served.
    pub fn is_current(&self) -> bool {
        self.footer
            .roots
            .iter()
            .all(|(path, mark)| fs::symlink_metadata(path).is_ok_and(|metadata| Mark::of(&metadata) == *mark))
    }

    /// Hands the parts of a range, which is clamped to the archive, to `take`, one after the other. `recent` is what was
    /// read for the range before: most ranges begin in the block in which that one ended.
    pub fn pieces(
        &self,
        range: Range<u64>,
        recent: &mut Recent,
        take: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut at, end) = (range.start, range.end.min(self.footer.size));
        let mut n = self.table.partition_point(|(position, _)| *position <= at).saturating_sub(1);
        let mut header = Vec::new();
        while at < end && n < self.table.len() {
            if recent.n != Some(n) {
                recent.n = None;
                self.read_block(n, recent)?;
                recent.n = Some(n);
            }
            let first = recent.entries.partition_point(|placed| placed.after <= at);
            for placed in &recent.entries[first..] {
                if at >= end {
                    break;
                }
                let Placed { position, contents, after, entry } = placed;
                let zeroes = contents + entry.size();
                if at < end.min(*contents) {
                    header.clear();
                    header::write(&mut header, &self.footer.style, entry);
                    let to = (end.min(*contents) - position) as usize;
                    take(Piece::Bytes(&header[(at - position) as usize..to]))?;
                    at = end.min(*contents);
                }
                if at < zeroes.min(end) {
                    let range = at - contents..zeroes.min(end) - contents;
                    match &entry.kind {
                        Kind::File { mark, path, .. } => {
                            let path = path.as_deref().unwrap_or(OsStr::from_bytes(&entry.name).as_ref());
                            take(Piece::File { path, mark: *mark, range })?;
                        }
                        Kind::Inline(bytes) => {
                            take(Piece::Bytes(&bytes[range.start as usize..range.end as usize]))?;
                        }
                        Kind::Folder | Kind::Link(_) => {}
                    }
                    at = zeroes.min(end);
                }
                if at < end.min(*after) {
                    take(Piece::Zeroes(end.min(*after) - at))?;
                    at = end.min(*after);
                }
            }
            n += 1;
        }
        if at < end {
            // After the last entry.
            take(Piece::Zeroes(end - at))?;
        }
        Ok(())
    }

    /// Reads the entries of a block, each with its places in the archive.
    fn read_block(&self, n: usize, recent: &mut Recent) -> io::Result<()> {
        const DAMAGED: LayerError = LayerError::Damaged("a block is not what was written");
        let (mut position, from) = self.table[n];
        let to = self.table.get(n + 1).map_or(self.table_at, |(_, to)| *to);
        let length =
            to.checked_sub(from).filter(|l| (CHECKSUM as u64..=MAX_BLOCK).contains(l)).ok_or(DAMAGED)?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, from)?;
        let (mut entries, sum) = bytes.split_at(bytes.len() - CHECKSUM);
        if checksum(position, entries) != *sum {
            return Err(DAMAGED.into());
        }
        recent.entries.clear();
        let (mut before, mut header) = (Before::default(), Vec::new());
        let mut entry = Entry { name: Vec::new(), mode: 0, owner: None, kind: Kind::Folder };
        while !entries.is_empty() {
            codec::decode(&mut entries, &mut before, &mut entry).ok_or(DAMAGED)?;
            header.clear();
            header::write(&mut header, &self.footer.style, &entry);
            let contents = position + header.len() as u64;
            let after = contents + entry.size() + padding(entry.size());
            recent.entries.push(Placed { position, contents, after, entry: entry.clone() });
            position = after;
        }
        if self.table.get(n + 1).is_some_and(|(next, _)| *next != position) {
            return Err(LayerError::Damaged("a block does not end where the next begins").into());
        }
        Ok(())
    }
}

fn checksum(position: u64, entries: &[u8]) -> [u8; CHECKSUM] {
    let hash = Sha256::new().chain_update(position.to_le_bytes()).chain_update(entries).finalize();
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&hash[..CHECKSUM]);
    sum
}

/// Eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
