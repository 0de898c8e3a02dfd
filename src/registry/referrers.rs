//! Manifests that refer to another one, by the tags under which clients look for them. Only the index answers: these tags
//! are derived from digests, so no source and no forge has such a revision, and clients that verify signatures ask for
//! one with every pull.

use super::{Indexed, Registry, RegistryError, Result, tags};
use crate::oci::{ReferrerTag, RepositoryName};

impl Registry {
    /// The image that the index has under a referrer's tag, of whatever age; else [`RegistryError::ManifestUnknown`],
    /// whether the name exists or not. Reads the index and does nothing else.
    pub(super) fn referrer(&self, repository: &RepositoryName, referrer: &ReferrerTag) -> Result<Indexed> {
        let tag = referrer.as_tag();
        let mut image = self.led_to(repository, tag)?;
        // An image can state any tag as its own, and `tags/list` has those.
        if image.is_none() && self.own_tags(repository).contains(tag) {
            image = self.led_to(repository, &tags::latest())?;
        }
        image.ok_or_else(|| RegistryError::ManifestUnknown {
            message: format!("{repository}:{referrer} is not in the index; a referrer's tag is never built"),
        })
    }
}
