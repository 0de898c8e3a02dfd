//! The members of an archive, or files of a layout folder, by name.

use super::{
    ImageError, Reader, json,
    limits::LimitExceeded,
    measure::Measured,
    store_file::{FileRange, StoreFile},
};
use crate::blob::cache::Finished;
use bytes::Bytes;
use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// All JSON of an image that is held in memory together, in bytes.
pub(super) const MAX_JSON: u64 = 64 << 20;
/// Links from one to the next until a member is reached.
const MAX_LINKS: usize = 16;
/// No path on Linux is longer, so no sensible member name is.
const MAX_NAME: usize = 4096;
/// Members of one name, besides the first.
const MAX_COPIES: usize = 8;
/// Bytes that a member takes besides its name and what it links to, in a map that doubles when it is full.
const MEMBER: u64 = 2 * size_of::<Entry>() as u64 + 192;

/// Where a member's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// In an uncompressed archive of the store.
    Range { file: Arc<StoreFile>, offset: u64, size: u64 },
    /// In a file of its own; it may be a link.
    OnDisk(PathBuf),
    /// In memory: small, from a compressed archive.
    Memory(Bytes),
    /// In an unfinished blob of the cache, by its number; from a compressed archive.
    Kept(Measured, usize),
    /// Another member has them, of this name.
    Link(Vec<u8>),
    /// There are none that could be used; the words for what it is.
    Unfit(String),
}

/// An archive's members or a layout's files.
#[derive(Debug)]
pub(super) struct Contents<'r> {
    pub(super) reader: &'r Reader,
    /// The archive or the folder, for messages.
    pub(super) path: PathBuf,
    /// "a tar archive", "a gzip-compressed tar archive", "a folder".
    pub(super) what: String,
    members: Members,
    /// Blobs in the cache that are not committed yet, by the numbers in [`Entry::Kept`].
    pub(super) kept: Vec<Option<Finished>>,
}

#[derive(Debug)]
enum Members {
    Archive { by_name: HashMap<Vec<u8>, Vec<Entry>>, count: usize },
    Folder,
}

impl<'r> Contents<'r> {
    pub(super) fn of_archive(reader: &'r Reader, path: &Path, what: String) -> Self {
        let members = Members::Archive { by_name: HashMap::new(), count: 0 };
        Self::new(reader, path, what, members)
    }

    pub(super) fn of_folder(reader: &'r Reader, path: &Path) -> Self {
        Self::new(reader, path, "a folder".into(), Members::Folder)
    }

    fn new(reader: &'r Reader, path: &Path, what: String, members: Members) -> Self {
        Self { reader, path: path.into(), what, members, kept: Vec::new() }
    }

    /// Adds a member of an archive. One whose name cannot be referred to is left out.
    pub(super) fn add(&mut self, name: &[u8], entry: Entry) -> Result<(), LimitExceeded> {
        let Members::Archive { by_name, count } = &mut self.members else { return Ok(()) };
        let limit = self.reader.limits.max_members;
        *count += 1;
        if *count > limit {
            return Err(LimitExceeded::Count { what: "members", limit });
        }
        if let Ok(name) = normalise(b"", name)
            && name.len() <= MAX_NAME
        {
            let heap = match &entry {
                Entry::Link(target) => target.len(),
                Entry::Unfit(what) => what.len(),
                Entry::Range { .. } | Entry::OnDisk(_) | Entry::Memory(_) | Entry::Kept(..) => 0,
            };
            self.reader.budget.charge(MEMBER + (name.len() + heap) as u64, "the names of its members")?;
            by_name.entry(name).or_insert_with(|| Vec::with_capacity(1)).push(entry);
        }
        Ok(())
    }

    /// Whether there is a member of this name, fit for use or not.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.members {
            Members::Archive { by_name, .. } => by_name.contains_key(name.as_bytes()),
            Members::Folder => self.path.join(name).symlink_metadata().is_ok(),
        }
    }

    /// Some of the names, for a message that says what was found.
    pub(super) fn describe(&self) -> String {
        let Members::Archive { by_name, .. } = &self.members else { return self.what.clone() };
        if by_name.is_empty() {
            return format!("{} without members", self.what);
        }
        let mut names: Vec<_> = by_name.keys().map(|name| String::from_utf8_lossy(name)).collect();
        names.sort_unstable();
        let more = if names.len() > 8 { ", …" } else { "" };
        let names: Vec<String> = names.iter().take(8).map(|name| name.chars().take(80).collect()).collect();
        format!("{} with {}{more}", self.what, names.join(", "))
    }

    pub(super) fn invalid(&self, problem: impl std::fmt::Display) -> ImageError {
        ImageError::invalid(&self.path, problem)
    }

    pub(super) fn exceeded(&self, exceeded: LimitExceeded) -> ImageError {
        ImageError::LimitExceeded { path: self.path.clone(), exceeded }
    }

    /// Where the bytes of `name` are, which `wanted_by` refers to; links have been followed.
    pub(super) fn find(&self, name: &str, wanted_by: &str) -> Result<Entry, ImageError> {
        let refused = |why: &str| self.invalid(format!("{wanted_by} refers to {name:?}, which {why}"));
        let missing = || ImageError::missing(&self.path, name, wanted_by);
        let mut at = normalise(b"", name.as_bytes()).map_err(&refused)?;
        let Members::Archive { by_name, .. } = &self.members else {
            return Ok(Entry::OnDisk(self.path.join(name)));
        };
        for _ in 0..=MAX_LINKS {
            let [first, others @ ..] = by_name.get(&at).map_or(&[][..], Vec::as_slice) else {
                return Err(missing());
            };
            // Comparing costs reading; nobody writes the same member more than a few times.
            if others.len() > MAX_COPIES {
                return Err(refused(&format!("is there more than {MAX_COPIES} times")));
            }
            for other in others {
                if !self.same(first, other)? {
                    return Err(refused("is there more than once, with different contents"));
                }
            }
            match first {
                Entry::Link(target) => at = target.clone(),
                Entry::Unfit(what) => return Err(refused(&format!("is {what}"))),
                entry => return Ok(entry.clone()),
            }
        }
        Err(refused(&format!("leads through more than {} links", MAX_LINKS)))
    }

    /// The bytes of a small member, which `wanted_by` refers to.
    pub(super) fn small(&self, name: &str, wanted_by: &str, limit: u64) -> Result<Bytes, ImageError> {
        let too_large = |size| self.exceeded(LimitExceeded::Bytes { what: name.into(), size, limit });
        let (file, offset, size) = match self.find(name, wanted_by)? {
            Entry::Memory(bytes) if bytes.len() as u64 > limit => return Err(too_large(bytes.len() as u64)),
            Entry::Memory(bytes) => return Ok(bytes),
            Entry::Kept(measured, _) if measured.size > limit => return Err(too_large(measured.size)),
            Entry::Range { file, offset, size } => (file, offset, size),
            Entry::OnDisk(path) => {
                let file = Arc::new(self.open(&path, name, wanted_by)?);
                let size = file.size;
                (file, 0, size)
            }
            _ => return Err(self.invalid(format!("{name:?}, which {wanted_by} refers to, is not JSON"))),
        };
        if size > limit {
            return Err(too_large(size));
        }
        self.charge(size, "its JSON")?;
        let mut bytes = Vec::with_capacity(size as usize);
        let mut range = FileRange { file: &file.file, position: offset, end: offset.saturating_add(size) };
        range.read_to_end(&mut bytes).map_err(|error| ImageError::reading(&self.path, name, error))?;
        Ok(bytes.into())
    }

    /// Takes memory for the rest of the reading.
    pub(super) fn charge(&self, bytes: u64, what: &'static str) -> Result<(), ImageError> {
        self.reader.budget.charge(bytes, what).map_err(ImageError::exceeding(&self.path))
    }

    /// Takes the memory that is needed to parse JSON, and to go on with what it says.
    pub(super) fn charge_json(&self, json: &[u8]) -> Result<(), ImageError> {
        self.charge(json::weight(json), "its JSON")
    }

    /// Opens a file of a layout folder.
    pub(super) fn open(&self, path: &Path, name: &str, wanted_by: &str) -> Result<StoreFile, ImageError> {
        let found = self
            .reader
            .store
            .follow(path)?
            .ok_or_else(|| ImageError::missing(&self.path, name, wanted_by))?;
        StoreFile::open(found)
    }

    /// Whether two members of one name are the same, so that it does not matter which one is taken.
    fn same(&self, a: &Entry, b: &Entry) -> Result<bool, ImageError> {
        match (a, b) {
            (Entry::Range { file, offset: a, size }, Entry::Range { offset: b, size: other_size, .. }) => {
                if size != other_size {
                    return Ok(false);
                }
                let range = |from: u64| FileRange {
                    file: &file.file,
                    position: from,
                    end: from.saturating_add(*size),
                };
                equal(self.reader, range(*a), range(*b))
                    .map_err(|e| ImageError::reading(&self.path, "a member", e))
            }
            (Entry::Memory(a), Entry::Memory(b)) => Ok(a == b),
            (Entry::Kept(a, _), Entry::Kept(b, _)) => Ok(a.digest == b.digest),
            (Entry::Link(a), Entry::Link(b)) => Ok(a == b),
            (Entry::Unfit(_), Entry::Unfit(_)) => Ok(true),
            _ => Ok(false),
        }
    }
}

fn equal(reader: &Reader, mut a: impl Read, mut b: impl Read) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        reader.budget.in_time().map_err(LimitExceeded::from)?;
        let n = a.read(&mut left)?;
        if n == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..n])?;
        if left[..n] != right[..n] {
            return Ok(false);
        }
    }
}

/// The name of a member without `.` and empty components, seen from the folder `base`. `..` may not lead out of the
/// archive; an absolute name is out of it. The error is a relative clause.
pub(super) fn normalise(base: &[u8], name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.starts_with(b"/") {
        return Err("is an absolute path, out of the archive");
    }
    if name.contains(&0) {
        return Err("is not a file name");
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base.split(|b| *b == b'/').chain(name.split(|b| *b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or("leads out of the archive")?),
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_however_they_are_written() {
        let folder = |base: &str, name: &str| normalise(base.as_bytes(), name.as_bytes());
        assert_eq!(folder("", "./a//b/./c"), Ok(b"a/b/c".to_vec()));
        assert_eq!(folder("x/", "../a/layer.tar"), Ok(b"a/layer.tar".to_vec()));
        assert!(folder("", "../../etc/passwd").is_err());
        assert!(folder("x", "../../a").is_err());
        assert!(folder("", "/etc/passwd").is_err());
    }
}
