//! What a store path is as an image: one file a format.

use crate::{
    blob::Source,
    oci::{Digest, Document},
};

/// An image as it was found in a store path: everything that a client can ask for.
#[derive(Debug, Clone)]
pub struct Image {
    /// What a tag leads to, in OCI form: an image manifest, or an index of several platforms. Taken verbatim from an
    /// OCI layout, else made canonically.
    pub oci: Document,
    /// The same in Docker form, for clients that accept no OCI types.
    pub docker: Document,
    /// Further manifests, in both forms, that `oci` and `docker` lead to where they are indexes.
    pub children: Vec<Document>,
    /// Configurations and layers, each digest once.
    pub blobs: Vec<ImageBlob>,
    /// Tags that the image itself names (`RepoTags` of a docker-archive, `org.opencontainers.image.ref.name`).
    pub tags: Vec<String>,
}

/// A configuration or a layer.
#[derive(Debug, Clone)]
pub struct ImageBlob {
    /// The digest of the bytes; it has been computed, not believed.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
    /// Where the bytes are.
    pub source: Source,
}

/// Which image of a store path is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Selection {
    /// The only one that there is.
    Only,
    /// The archive of this name, without its endings, in a folder.
    Member(String),
}
