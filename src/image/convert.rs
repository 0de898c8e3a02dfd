//! The two forms of manifests: OCI and Docker.

use crate::oci::{Descriptor, Document, Index, Manifest, Tag, media_type};
use std::collections::BTreeMap;

/// One of the two families of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Oci,
    Docker,
}

impl Form {
    /// The form that a manifest or index of this media type has.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            media_type::OCI_MANIFEST | media_type::OCI_INDEX => Some(Self::Oci),
            media_type::DOCKER_MANIFEST | media_type::DOCKER_MANIFEST_LIST => Some(Self::Docker),
            _ => None,
        }
    }

    /// This form's name for a media type; types that it has no name for stay what they are.
    pub(super) fn media_type(self, media_type: &str) -> String {
        let other = match self {
            Self::Oci => media_type::to_oci(media_type),
            Self::Docker => media_type::to_docker(media_type),
        };
        other.unwrap_or(media_type).into()
    }

    fn descriptor(self, descriptor: &Descriptor) -> Descriptor {
        let mut descriptor = descriptor.clone();
        descriptor.media_type = self.media_type(&descriptor.media_type);
        if self == Self::Docker {
            descriptor.annotations = BTreeMap::new();
            descriptor.artifact_type = None;
        }
        descriptor
    }

    fn annotations(self, annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        match self {
            Self::Oci => annotations.clone(),
            // Docker's types have no such field.
            Self::Docker => BTreeMap::new(),
        }
    }

    /// A manifest in this form.
    pub(super) fn manifest(self, manifest: &Manifest) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(self.media_type(media_type::OCI_MANIFEST)),
            config: self.descriptor(&manifest.config),
            layers: manifest.layers.iter().map(|layer| self.descriptor(layer)).collect(),
            annotations: self.annotations(&manifest.annotations),
        }
    }

    /// An index in this form, of these manifests: each the descriptor that stands in the other form's index, and the
    /// document in this form that it shall point at.
    pub(super) fn index(self, index: &Index, manifests: &[(&Descriptor, &Document)]) -> Index {
        let manifests = manifests.iter().map(|(descriptor, document)| {
            let mut descriptor = self.descriptor(descriptor);
            descriptor.media_type = document.media_type.clone();
            (descriptor.digest, descriptor.size) = (document.digest, document.bytes.len() as u64);
            descriptor
        });
        Index {
            schema_version: 2,
            media_type: Some(self.media_type(media_type::OCI_INDEX)),
            manifests: manifests.collect(),
            annotations: self.annotations(&index.annotations),
        }
    }
}

/// The tag in an image's own name: `name:tag`, or the tag alone.
pub(super) fn tag_of(name: &str) -> Option<String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = match last.split_once(':') {
        Some((_, tag)) => tag,
        None if last == name => last,
        None => return None,
    };
    tag.parse::<Tag>().ok().map(|tag| tag.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_follows_the_last_colon_unless_that_is_a_port() {
        assert_eq!(tag_of("hello:1.0").as_deref(), Some("1.0"));
        assert_eq!(tag_of("localhost:5000/a/hello:x").as_deref(), Some("x"));
        assert_eq!(tag_of("latest").as_deref(), Some("latest"));
        assert_eq!(tag_of("localhost:5000/hello"), None);
        assert_eq!(tag_of("hello:not a tag"), None);
    }
}
