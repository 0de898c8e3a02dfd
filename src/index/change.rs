//! What is written to the index: each method is one transaction.

use super::{
    COMMITS, CONTENTS, IMAGES, ImageId, ImageRow, Index, LAYERINGS, Location, MEMBERS, NAMES, Result, TAGS,
    TagRow, USED, rows,
};
use crate::{
    nix::StorePath,
    oci::{Digest, RepositoryName, Tag},
};
use redb::{ReadableTable, WriteTransaction};
use std::collections::{HashMap, HashSet};

/// Seconds for which it is not written again that a commit was seen.
const COMMIT_NOTED: u64 = 24 * 3600;

impl Index {
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
        // A tag is looked at again far more often than it changes: that costs no flush to the disk.
        let mut is_same = true;
        for (tag, row) in tags {
            is_same = is_same && self.tag(repository, tag).is_ok_and(|known| known.as_ref() == Some(row));
        }
        if is_same {
            return Ok(());
        }
        self.write(|transaction| {
            let images = transaction.open_table(IMAGES)?;
            let mut table = transaction.open_table(TAGS)?;
            let mut members = transaction.open_table(MEMBERS)?;
            let mut names = transaction.open_table(NAMES)?;
            for (tag, row) in tags {
                // Retention may have been faster.
                if images.get(row.image.as_bytes())?.is_none() {
                    continue;
                }
                let key = rows::tag_key(repository, tag);
                table.insert(&*key, &*rows::encode(&key, row))?;
                members.insert(&*rows::member_key(repository, &row.image), ())?;
                names.insert(&*rows::name_key(&row.image, repository), ())?;
            }
            Ok(())
        })
    }

    /// Remembers that a branch or tag of a source is at a commit, and forgets those that were last seen before
    /// `since`. Both are seconds since 1970.
    pub fn put_commit(&self, commit: &str, now: u64, since: u64) -> Result<()> {
        let seen = self
            .read(|transaction| Ok(transaction.open_table(COMMITS)?.get(commit)?.map(|when| when.value())))?;
        // A branch that rests is looked at every minute.
        if seen.is_some_and(|seen| now.abs_diff(seen) < COMMIT_NOTED) {
            return Ok(());
        }
        self.write(|transaction| {
            let mut table = transaction.open_table(COMMITS)?;
            table.insert(commit, now)?;
            table.retain(|_, seen| seen >= since)?;
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
                let names = rows::names(&transaction.open_table(NAMES)?, id)?;
                for repository in names {
                    unlink(transaction, &repository, id)?;
                }
                remove_contents(transaction, id)?;
                transaction.open_table(IMAGES)?.remove(id.as_bytes())?;
                transaction.open_table(LAYERINGS)?.remove(id.as_bytes())?;
                transaction.open_table(USED)?.remove(id.as_bytes())?;
            }
            Ok(())
        })
    }

    /// Forgets tags of a repository, and that these images have been served under its name, with all tags of it that
    /// lead to them.
    pub fn forget(&self, repository: &RepositoryName, tags: &[Tag], images: &[ImageId]) -> Result<()> {
        self.write(|transaction| {
            for tag in tags {
                transaction.open_table(TAGS)?.remove(&*rows::tag_key(repository, tag))?;
            }
            images.iter().try_for_each(|image| unlink(transaction, repository, image))
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
}

/// Removes an image from a repository, with the tags that lead to it. A tag whose row cannot be read leads nowhere.
fn unlink(transaction: &WriteTransaction, repository: &RepositoryName, id: &ImageId) -> Result<()> {
    transaction.open_table(MEMBERS)?.remove(&*rows::member_key(repository, id))?;
    transaction.open_table(NAMES)?.remove(&*rows::name_key(id, repository))?;
    let prefix = rows::repository_prefix(repository);
    let mut end = prefix.clone();
    // The NUL that names end with: the next byte ends the range of this one.
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    transaction.open_table(TAGS)?.retain_in::<&[u8], _>(&*prefix..&*end, |key, row| {
        rows::decode::<TagRow>("tags", key, row).is_ok_and(|row| row.image != *id)
    })?;
    Ok(())
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
