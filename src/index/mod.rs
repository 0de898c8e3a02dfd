//! The index: what has been served, and where its bytes are. An embedded transactional database in the state folder,
//! so that a restart needs no evaluation, no build and no hashing.
//!
//! | table | key | row |
//! |---|---|---|
//! | `tags` | repository, NUL, tag | [`TagRow`]: the image it led to, and when |
//! | `images` | [`ImageId`] | [`ImageRow`]: the store path, how to realise it again, its contents |
//! | `contents` | digest, [`ImageId`] | [`Location`]: size, type, and where the bytes are in that image |
//! | `layerings` | [`ImageId`] | for each layer that is made of store paths, these: to make the same ones again |
//! | `members` | repository, NUL, [`ImageId`] | none: the image has been served under that name |
//! | `names` | [`ImageId`], repository | none: the same the other way round |
//! | `used` | [`ImageId`] | when it was last asked for, in microseconds since 1970 |
//! | `commits` | the hash of a commit that a branch or tag of a source was at | when that was last seen, in seconds since 1970 |
//!
//! A digest can have several locations, one an image: when one image is dropped, the other still has the bytes.

mod change;
mod handle;
mod migrate;
mod open;
mod rows;
mod size;

pub use migrate::migrate;
pub use open::{Opened, open};
pub use rows::{ImageId, ImageRow, Location, TagRow};

use crate::{
    blob::Source,
    nix::StorePath,
    oci::{Digest, RepositoryName, Tag},
};
use handle::Handle;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::{collections::HashSet, path::PathBuf};

/// The format of keys and rows; another number is another database.
const FORMAT: u64 = 4;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const TAGS: Rows = Rows::new("tags");
const IMAGES: Rows = Rows::new("images");
const CONTENTS: Rows = Rows::new("contents");
const LAYERINGS: Rows = Rows::new("layerings");
const MEMBERS: TableDefinition<'static, &[u8], ()> = TableDefinition::new("members");
const NAMES: TableDefinition<'static, &[u8], ()> = TableDefinition::new("names");
const USED: TableDefinition<'static, &[u8], u64> = TableDefinition::new("used");
const COMMITS: TableDefinition<'static, &str, u64> = TableDefinition::new("commits");

/// The index. All calls block, readers for microseconds, writers for a flush to the disk.
#[derive(Debug)]
pub struct Index {
    db: Handle,
}

/// The index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has it open.
    #[error("{0:?} is in use by another forge-registry: each needs its own STATE_DIR")]
    InUse(PathBuf),
    /// The file cannot be made, read or moved aside.
    #[error("{path:?}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        error: std::io::Error,
    },
    /// A newer version of this program has written it. It is left alone: whoever goes back to that version needs it.
    #[error(
        "{path:?} has format {found}, and this version knows format {FORMAT}: start the newer forge-registry again, or \
         set STATE_DIR to another folder; everything in it can be made again"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The number that it states.
        found: u64,
    },
    /// The database failed.
    #[error("index: {0}")]
    Database(#[from] redb::Error),
    /// A row is not what was written.
    #[error("index: a damaged row in table {0:?}; it will be made again")]
    Damaged(&'static str),
}

macro_rules! into_database_error {
    ($($error:ty),*) => {$(
        impl From<$error> for IndexError {
            fn from(error: $error) -> Self {
                Self::Database(error.into())
            }
        }
    )*};
}
into_database_error!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

impl IndexError {
    /// Whether the disk failed, now or earlier: then the database does nothing more until it is opened again.
    fn is_of_the_disk(&self) -> bool {
        use redb::Error as E;
        matches!(self, Self::Database(E::Io(_) | E::PreviousIo | E::DatabaseClosed))
    }
}

type Result<T, E = IndexError> = std::result::Result<T, E>;

impl Index {
    fn read<T>(&self, look: impl Fn(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.db.with(|db| look(&db.begin_read()?))
    }

    /// A number that changes with every write: what was read after asking for it holds for as
    /// long as it is the same.
    pub fn generation(&self) -> u64 {
        self.db.generation()
    }

    fn write<T>(&self, change: impl Fn(&WriteTransaction) -> Result<T>) -> Result<T> {
        let result = self.db.with(|db| {
            let transaction = db.begin_write()?;
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        });
        // Also after a failure: perhaps it was only the flush that failed.
        self.db.changed();
        result
    }

    /// What the tag led to when it was last resolved.
    pub fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<TagRow>> {
        self.read(|transaction| {
            let table = transaction.open_table(TAGS)?;
            let key = rows::tag_key(repository, tag);
            table.get(&*key)?.map(|row| rows::decode("tags", &key, row.value())).transpose()
        })
    }

    /// All tags of a repository that have been resolved, sorted. A row that cannot be read leads nowhere, as if it were
    /// not there.
    pub fn tags(&self, repository: &RepositoryName) -> Result<Vec<(Tag, TagRow)>> {
        self.read(|transaction| {
            let table = transaction.open_table(TAGS)?;
            let prefix = rows::repository_prefix(repository);
            let mut tags = Vec::new();
            for entry in table.range::<&[u8]>(&*prefix..)? {
                let (key, row) = entry?;
                let Some(tag) = key.value().strip_prefix(&*prefix) else { break };
                let tag = std::str::from_utf8(tag).ok().and_then(|tag| tag.parse().ok());
                let tag = tag.ok_or(IndexError::Damaged("tags"));
                match tag.and_then(|tag| Ok((tag, rows::decode("tags", key.value(), row.value())?))) {
                    Ok(found) => tags.push(found),
                    Err(error) => tracing::warn!(%repository, "{error}"),
                }
            }
            Ok(tags)
        })
    }

    /// Everything about one image but its bytes.
    pub fn image(&self, id: &ImageId) -> Result<Option<ImageRow>> {
        self.read(|transaction| {
            let table = transaction.open_table(IMAGES)?;
            table
                .get(id.as_bytes())?
                .map(|row| rows::decode("images", id.as_bytes(), row.value()))
                .transpose()
        })
    }

    /// The store paths of each layer of an image that is made of packages.
    pub fn layering(&self, id: &ImageId) -> Result<Option<Vec<Vec<StorePath>>>> {
        self.read(|transaction| {
            let table = transaction.open_table(LAYERINGS)?;
            table
                .get(id.as_bytes())?
                .map(|row| rows::decode("layerings", id.as_bytes(), row.value()))
                .transpose()
        })
    }

    /// Where one of an image's digests is.
    pub fn location(&self, digest: &Digest, image: &ImageId) -> Result<Option<Location>> {
        self.read(|transaction| {
            let table = transaction.open_table(CONTENTS)?;
            let key = rows::content_key(digest, image);
            table.get(key.as_slice())?.map(|row| rows::decode("contents", &key, row.value())).transpose()
        })
    }

    /// Where a digest is, in every image of a repository that has it.
    pub fn locations(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<(ImageId, Location)>> {
        self.read(|transaction| {
            let contents = transaction.open_table(CONTENTS)?;
            let members = transaction.open_table(MEMBERS)?;
            let prefix = digest.as_raw().as_slice();
            let mut found = Vec::new();
            for entry in contents.range::<&[u8]>(prefix..)? {
                let (key, row) = entry?;
                let Some(image) = key.value().strip_prefix(prefix) else { break };
                let image = ImageId::from_bytes(image).ok_or(IndexError::Damaged("contents"))?;
                if members.get(&*rows::member_key(repository, &image))?.is_some() {
                    found.push((image, rows::decode("contents", key.value(), row.value())?));
                }
            }
            Ok(found)
        })
    }

    /// Whether any image has been served under this name.
    pub fn knows(&self, repository: &RepositoryName) -> Result<bool> {
        self.read(|transaction| {
            let table = transaction.open_table(MEMBERS)?;
            let prefix = rows::repository_prefix(repository);
            let first = table.range::<&[u8]>(&*prefix..)?.next().transpose()?;
            Ok(first.is_some_and(|(key, _)| key.value().starts_with(&prefix)))
        })
    }

    /// All names under which images have been served, sorted.
    pub fn repositories(&self) -> Result<Vec<RepositoryName>> {
        self.read(|transaction| {
            let table = transaction.open_table(MEMBERS)?;
            let mut names: Vec<RepositoryName> = Vec::new();
            for entry in table.iter()? {
                let (key, _) = entry?;
                let name = key.value().split(|byte| *byte == 0).next().unwrap_or_default();
                if names.last().is_none_or(|last| last.as_str().as_bytes() != name) {
                    let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
                    names.push(name.ok_or(IndexError::Damaged("members"))?);
                }
            }
            Ok(names)
        })
    }

    /// All images that have been served under a name.
    pub fn members(&self, repository: &RepositoryName) -> Result<Vec<ImageId>> {
        self.read(|transaction| {
            let table = transaction.open_table(MEMBERS)?;
            let prefix = rows::repository_prefix(repository);
            let mut images = Vec::new();
            for entry in table.range::<&[u8]>(&*prefix..)? {
                let (key, _) = entry?;
                let Some(image) = key.value().strip_prefix(&*prefix) else { break };
                images.push(ImageId::from_bytes(image).ok_or(IndexError::Damaged("members"))?);
            }
            Ok(images)
        })
    }

    /// All names under which an image has been served, sorted.
    pub fn names(&self, image: &ImageId) -> Result<Vec<RepositoryName>> {
        self.read(|transaction| rows::names(&transaction.open_table(NAMES)?, image))
    }

    /// The commit with this hash, or the only one whose hash begins like this, if it is known.
    pub fn commit(&self, hash: &str) -> Result<Option<String>> {
        let hash = hash.to_ascii_lowercase();
        self.read(|transaction| {
            let table = transaction.open_table(COMMITS)?;
            let mut found = Vec::new();
            for entry in table.range(hash.as_str()..)?.take(2) {
                let (commit, _) = entry?;
                if commit.value().starts_with(&*hash) {
                    found.push(commit.value().to_owned());
                }
            }
            Ok(if found.len() == 1 { found.pop() } else { None })
        })
    }

    /// When an image was last asked for, in microseconds since 1970.
    pub fn used(&self, image: &ImageId) -> Result<Option<u64>> {
        self.read(|transaction| {
            Ok(transaction.open_table(USED)?.get(image.as_bytes())?.map(|used| used.value()))
        })
    }

    /// All images and when each was last asked for, in microseconds since 1970.
    pub fn usage(&self) -> Result<Vec<(ImageId, u64)>> {
        self.read(|transaction| {
            let used = transaction.open_table(USED)?;
            let mut all = Vec::new();
            for entry in transaction.open_table(IMAGES)?.iter()? {
                let (key, _) = entry?;
                let id = ImageId::from_bytes(key.value()).ok_or(IndexError::Damaged("images"))?;
                let when = used.get(id.as_bytes())?.map_or(0, |when| when.value());
                all.push((id, when));
            }
            Ok(all)
        })
    }

    /// Which files of the two caches something needs for one of these blobs, if these images are left out. Of a row that
    /// cannot be read it is not known: it is taken to need the same files.
    pub fn needed_of(&self, blobs: &[(Digest, Source)], without: &HashSet<ImageId>) -> Result<Needed> {
        self.read(|transaction| {
            let table = transaction.open_table(CONTENTS)?;
            let mut needed = Needed::default();
            for (digest, source) in blobs {
                let prefix = digest.as_raw().as_slice();
                for entry in table.range::<&[u8]>(prefix..)? {
                    let (key, row) = entry?;
                    let Some(image) = key.value().strip_prefix(prefix) else { break };
                    if ImageId::from_bytes(image).is_some_and(|image| without.contains(&image)) {
                        continue;
                    }
                    match rows::decode::<Location>("contents", key.value(), row.value()) {
                        Ok(location) => needed.add(*digest, &location.source),
                        Err(error) => {
                            tracing::warn!(%digest, "{error}; until then its files are kept");
                            needed.add(*digest, source);
                        }
                    }
                }
            }
            Ok(needed)
        })
    }

    /// Every file of the two caches that something needs.
    pub fn needed(&self) -> Result<Needed> {
        self.read(|transaction| {
            let mut needed = Needed::default();
            for entry in transaction.open_table(CONTENTS)?.iter()? {
                let (key, row) = entry?;
                let location: Location = rows::decode("contents", key.value(), row.value())?;
                let digest = rows::digest_of_key(key.value()).ok_or(IndexError::Damaged("contents"))?;
                needed.add(digest, &location.source);
            }
            Ok(needed)
        })
    }
}

/// Files of the blob cache and of the cache of entry lists, by name.
#[derive(Debug, Default)]
pub struct Needed {
    /// Blobs.
    pub blobs: HashSet<Digest>,
    /// Entry lists, and notes of compressed layers.
    pub lists: HashSet<Digest>,
}

impl Needed {
    /// Adds what a blob of this digest needs.
    pub fn add(&mut self, digest: Digest, source: &Source) {
        match source {
            Source::Cache => drop(self.blobs.insert(digest)),
            Source::Compressed { note } => {
                self.blobs.insert(digest);
                self.lists.insert(*note);
            }
            Source::Virtual { list } => drop(self.lists.insert(*list)),
            Source::Store { .. } | Source::Inline(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
