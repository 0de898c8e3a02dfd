//! Keys and rows of the index.
//!
//! A row is eight bytes of SHA-256 over key and text, then the text, JSON. The database has checksums of its own; this
//! one makes sure that no damaged row is ever taken for a place where a digest's bytes are.

use super::{IndexError, Result};
use crate::{
    blob::Source,
    image::{Options, Selection},
    nix::{Buildable, StorePath},
    oci::{Digest, RepositoryName, Tag},
};
use redb::ReadableTable;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Identifies an image: store paths, which image of them, and how it was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageId(Digest);

impl ImageId {
    /// The image of `selection` in `objects`, made under these options.
    pub fn of(objects: &[StorePath], selection: &Selection, options: &Options) -> Self {
        // Strings and names of variants: there is no key for which this fails.
        Self(Digest::of(&serde_json::to_vec(&(objects, selection, options)).unwrap_or_default()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_raw()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Digest::from_raw(bytes.try_into().ok()?)))
    }

    /// A file name for this image, unique to it.
    pub fn file_name(&self) -> String {
        self.0.hex()
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex()[..12])
    }
}

/// What a tag led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRow {
    /// The image.
    pub image: ImageId,
    /// When that was found out, in seconds since 1970.
    pub resolved_at: u64,
    /// Further tags of the same image that the source states: the image's own, the package's version.
    pub aliases: Vec<String>,
}

/// An image, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// The store path it lies in, or those that it is made of.
    pub objects: Vec<StorePath>,
    /// Which image of them.
    pub selection: Selection,
    /// How it was made.
    pub options: Options,
    /// How to realise the store paths again.
    pub buildables: Vec<Buildable>,
    /// Its manifest or index in OCI form.
    pub oci: Digest,
    /// The same in Docker form.
    pub docker: Digest,
    /// Tags that the image itself states.
    pub tags: Vec<String>,
    /// Every digest that belongs to it: manifests, configurations and layers.
    pub contents: Vec<Digest>,
    /// When it was read, in seconds since 1970; zero in rows of format 3.
    #[serde(default)]
    pub made_at: u64,
}

/// Where a digest's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Length in bytes.
    pub size: u64,
    /// The media type, if this is a manifest or an index.
    pub media_type: Option<String>,
    /// Where.
    pub source: Source,
}

const CHECKSUM: usize = 8;

fn checksum(key: &[u8], text: &[u8]) -> [u8; CHECKSUM] {
    let hash =
        Sha256::new().chain_update((key.len() as u64).to_le_bytes()).chain_update(key).chain_update(text);
    let mut out = [0; CHECKSUM];
    out.copy_from_slice(&hash.finalize()[..CHECKSUM]);
    out
}

pub(super) fn encode(key: &[u8], row: &impl Serialize) -> Vec<u8> {
    let mut out = vec![0; CHECKSUM];
    // Strings, numbers and lists: there is no row for which this fails.
    let _ = serde_json::to_writer(&mut out, row);
    let sum = checksum(key, &out[CHECKSUM..]);
    out[..CHECKSUM].copy_from_slice(&sum);
    out
}

pub(super) fn decode<T: DeserializeOwned>(table: &'static str, key: &[u8], row: &[u8]) -> Result<T> {
    let (sum, text) = row.split_at_checked(CHECKSUM).ok_or(IndexError::Damaged(table))?;
    if sum != checksum(key, text) {
        return Err(IndexError::Damaged(table));
    }
    serde_json::from_slice(text).map_err(|_| IndexError::Damaged(table))
}

pub(super) fn repository_prefix(repository: &RepositoryName) -> Vec<u8> {
    [repository.as_str().as_bytes(), b"\0"].concat()
}

pub(super) fn tag_key(repository: &RepositoryName, tag: &Tag) -> Vec<u8> {
    [repository.as_str().as_bytes(), b"\0", tag.as_str().as_bytes()].concat()
}

pub(super) fn member_key(repository: &RepositoryName, image: &ImageId) -> Vec<u8> {
    [repository.as_str().as_bytes(), b"\0", image.as_bytes()].concat()
}

pub(super) fn name_key(image: &ImageId, repository: &RepositoryName) -> Vec<u8> {
    [image.as_bytes(), repository.as_str().as_bytes()].concat()
}

/// The repository of a key of `names`, if it is one of this image.
fn name_of_key(key: &[u8], image: &ImageId) -> Option<Result<RepositoryName>> {
    let name = key.strip_prefix(image.as_bytes())?;
    let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    Some(name.ok_or(IndexError::Damaged("names")))
}

/// All names of an image, from the table `names`.
pub(super) fn names(
    table: &impl ReadableTable<&'static [u8], ()>,
    image: &ImageId,
) -> Result<Vec<RepositoryName>> {
    let mut names = Vec::new();
    for entry in table.range::<&[u8]>(image.as_bytes()..)? {
        let (key, _) = entry?;
        let Some(name) = name_of_key(key.value(), image) else { break };
        names.push(name?);
    }
    Ok(names)
}

/// The key of `names` that goes with a key of `members`.
pub(super) fn name_key_of_member(key: &[u8]) -> Option<Vec<u8>> {
    let image = member_of_key(key)?;
    let name = key.split(|byte| *byte == 0).next()?;
    Some([image.as_bytes(), name].concat())
}

/// The image of a key of `members`. A name has no NUL, an image's identity may.
fn member_of_key(key: &[u8]) -> Option<ImageId> {
    let nul = key.iter().position(|byte| *byte == 0)?;
    ImageId::from_bytes(&key[nul + 1..])
}

pub(super) fn content_key(digest: &Digest, image: &ImageId) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(digest.as_raw());
    key[32..].copy_from_slice(image.as_bytes());
    key
}

pub(super) fn digest_of_key(key: &[u8]) -> Option<Digest> {
    Some(Digest::from_raw(key.get(..32)?.try_into().ok()?))
}
