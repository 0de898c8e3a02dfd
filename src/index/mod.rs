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
//! | `used` | [`ImageId`] | when it was last asked for, in microseconds since 1970 |
//!
//! A digest can have several locations, one an image: when one image is dropped, the other still has the bytes.

mod handle;
mod open;
mod rows;
mod size;

pub use open::{Opened, open};
pub use rows::{ImageId, ImageRow, Location, TagRow};

use crate::{
    blob::Source,
    nix::StorePath,
    oci::{Digest, RepositoryName, Tag},
};
use handle::Handle;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

/// The format of keys and rows; another number is another database.
const FORMAT: u64 = 3;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const TAGS: Rows = Rows::new("tags");
const IMAGES: Rows = Rows::new("images");
const CONTENTS: Rows = Rows::new("contents");
const LAYERINGS: Rows = Rows::new("layerings");
const MEMBERS: TableDefinition<'static, &[u8], ()> = TableDefinition::new("members");
const USED: TableDefinition<'static, &[u8], u64> = TableDefinition::new("used");

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

    /// All tags of a repository that have been resolved, sorted.
    pub fn tags(&self, repository: &RepositoryName) -> Result<Vec<(Tag, TagRow)>> {
        self.read(|transaction| {
            let table = transaction.open_table(TAGS)?;
            let prefix = rows::repository_prefix(repository);
            let mut tags = Vec::new();
            for entry in table.range::<&[u8]>(&*prefix..)? {
                let (key, row) = entry?;
                let Some(tag) = key.value().strip_prefix(&*prefix) else { break };
                let tag = std::str::from_utf8(tag).ok().and_then(|tag| tag.parse().ok());
                let tag = tag.ok_or(IndexError::Damaged("tags"))?;
                tags.push((tag, rows::decode("tags", key.value(), row.value())?));
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

    /// Writes an image and all its contents, in place of what was known of it.
    pub fn put_image(
        &self,
        id: &ImageId,
        row: &ImageRow,
        contents: &[(Digest, Location)],
        layering: Option<&[Vec<StorePath>]>,
        now: u64,
    ) -> Result<()> {
        self.write(|transaction| {
            remove_contents(transaction, id)?;
            let mut table = transaction.open_table(CONTENTS)?;
            for (digest, location) in contents {
                let key = rows::content_key(digest, id);
                table.insert(key.as_slice(), &*rows::encode(&key, location))?;
            }
            transaction.open_table(IMAGES)?.insert(id.as_bytes(), &*rows::encode(id.as_bytes(), row))?;
            if let Some(layering) = layering {
                let row = rows::encode(id.as_bytes(), &layering);
                transaction.open_table(LAYERINGS)?.insert(id.as_bytes(), &*row)?;
            }
            transaction.open_table(USED)?.insert(id.as_bytes(), now)?;
            Ok(())
        })
    }

    /// Points tags of a repository at images, those that are (still) in the index.
    pub fn put_tags(&self, repository: &RepositoryName, tags: &[(Tag, TagRow)]) -> Result<()> {
        self.write(|transaction| {
            let images = transaction.open_table(IMAGES)?;
            let mut table = transaction.open_table(TAGS)?;
            let mut members = transaction.open_table(MEMBERS)?;
            for (tag, row) in tags {
                // Retention may have been faster.
                if images.get(row.image.as_bytes())?.is_none() {
                    continue;
                }
                let key = rows::tag_key(repository, tag);
                table.insert(&*key, &*rows::encode(&key, row))?;
                members.insert(&*rows::member_key(repository, &row.image), ())?;
            }
            Ok(())
        })
    }

    /// Forgets a tag; its image stays until retention drops it.
    pub fn remove_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<()> {
        // Most names that do not exist never did: they cost no flush to the disk.
        let key = rows::tag_key(repository, tag);
        if !self.read(|transaction| Ok(transaction.open_table(TAGS)?.get(&*key)?.is_some()))? {
            return Ok(());
        }
        self.write(|transaction| {
            transaction.open_table(TAGS)?.remove(&*key)?;
            Ok(())
        })
    }

    /// Removes images with all rows that lead to them.
    pub fn remove_images(&self, images: &HashSet<ImageId>) -> Result<()> {
        self.write(|transaction| {
            for id in images {
                remove_contents(transaction, id)?;
                transaction.open_table(IMAGES)?.remove(id.as_bytes())?;
                transaction.open_table(LAYERINGS)?.remove(id.as_bytes())?;
                transaction.open_table(USED)?.remove(id.as_bytes())?;
            }
            let dropped = |id: Option<ImageId>| id.is_none_or(|id| images.contains(&id));
            transaction.open_table(MEMBERS)?.retain(|key, ()| !dropped(rows::member_of_key(key)))?;
            transaction.open_table(TAGS)?.retain(|key, row| {
                let row: Option<TagRow> = rows::decode("tags", key, row).ok();
                !dropped(row.map(|row| row.image))
            })?;
            Ok(())
        })
    }

    /// Remembers when images were last asked for.
    pub fn touch(&self, used: &HashMap<ImageId, u64>) -> Result<()> {
        self.write(|transaction| {
            let images = transaction.open_table(IMAGES)?;
            let mut table = transaction.open_table(USED)?;
            for (id, when) in used {
                // A clock that was set back, or has not been set yet, makes nothing older than it was.
                let known = table.get(id.as_bytes())?.map_or(0, |known| known.value());
                if images.get(id.as_bytes())?.is_some() {
                    table.insert(id.as_bytes(), known.max(*when))?;
                }
            }
            Ok(())
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

    /// Which files of the two caches something needs for a blob of one of these digests.
    pub fn needed_of(&self, digests: &[Digest]) -> Result<Needed> {
        self.read(|transaction| {
            let table = transaction.open_table(CONTENTS)?;
            let mut needed = Needed::default();
            for digest in digests {
                let prefix = digest.as_raw().as_slice();
                for entry in table.range::<&[u8]>(prefix..)? {
                    let (key, row) = entry?;
                    if !key.value().starts_with(prefix) {
                        break;
                    }
                    let location: Location = rows::decode("contents", key.value(), row.value())?;
                    needed.add(*digest, &location.source);
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

fn remove_contents(transaction: &WriteTransaction, id: &ImageId) -> Result<()> {
    let images = transaction.open_table(IMAGES)?;
    let Some(row) = images.get(id.as_bytes())? else { return Ok(()) };
    let mut contents = transaction.open_table(CONTENTS)?;
    match rows::decode::<ImageRow>("images", id.as_bytes(), row.value()) {
        Ok(row) => {
            for digest in row.contents {
                contents.remove(rows::content_key(&digest, id).as_slice())?;
            }
        }
        // The list of contents is lost, so look at all of them.
        Err(_) => contents.retain(|key, _| !key.ends_with(id.as_bytes()))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
