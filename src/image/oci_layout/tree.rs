//! The manifests and indexes of a layout, in both forms.

use super::*;
use crate::{image::contents::MAX_JSON, oci::Manifest};

/// Indexes in indexes: nobody has been seen to need more than two levels.
const MAX_DEPTH: usize = 4;

/// A manifest or an index.
pub(super) enum Node {
    Manifest {
        document: Document,
        form: Form,
        manifest: Box<Manifest>,
        config: Bytes,
    },
    Index {
        /// As it was found; none if it had to be generated.
        verbatim: Option<(Document, Form)>,
        index: Index,
        /// The node of every descriptor, or none where it leads to something of a type that is not known.
        manifests: Vec<Option<usize>>,
    },
}

/// All nodes, each digest once; a node comes after those it leads to.
#[derive(Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    by_digest: HashMap<Digest, usize>,
    /// Bytes of manifests and configurations so far, all of which are in memory.
    json: u64,
}

impl Tree {
    /// Loads what a descriptor leads to, which has to be a manifest or an index, and all below it.
    pub(super) fn load(
        &mut self,
        contents: &Contents<'_>,
        descriptor: &Descriptor,
        wanted_by: &str,
        depth: usize,
    ) -> Result<usize, ImageError> {
        if let Some(known) = self.by_digest.get(&descriptor.digest) {
            return Ok(*known);
        }
        let limits = &contents.reader.limits;
        let digest = descriptor.digest;
        if depth > MAX_DEPTH {
            return Err(contents.invalid(format!("index {digest} is nested too deeply")));
        }
        let Some(form) = Form::of(&descriptor.media_type) else {
            let media_type = &descriptor.media_type;
            return Err(contents.invalid(format!("{digest} is of the type {media_type:?}, no manifest")));
        };
        let bytes = small(contents, descriptor, wanted_by, limits.max_manifest_bytes)?;
        self.count(contents, &bytes)?;
        let document = Document::new(descriptor.media_type.clone(), bytes.clone());
        let malformed = |error: &dyn std::fmt::Display| {
            contents.invalid(format!("{digest} is not of the type {}: {error}", descriptor.media_type))
        };
        let stated = |version: u8, media_type: &Option<String>| match media_type {
            Some(stated) if *stated != descriptor.media_type => {
                Err(malformed(&format!("it says that it is {stated}")))
            }
            _ if version != 2 => Err(malformed(&format!("its schemaVersion is {version}, not 2"))),
            _ => Ok(()),
        };
        let from = format!("manifest {digest}");
        let node = if media_type::is_index(&descriptor.media_type) {
            let index: Index = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
            stated(index.schema_version, &index.media_type)?;
            let mut manifests = Vec::new();
            for descriptor in &index.manifests {
                manifests.push(match Form::of(&descriptor.media_type) {
                    Some(_) => Some(self.load(contents, descriptor, &from, depth + 1)?),
                    None => None,
                });
            }
            Node::Index { verbatim: Some((document, form)), index, manifests }
        } else {
            let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
            stated(manifest.schema_version, &manifest.media_type)?;
            if manifest.layers.len() > limits.max_layers {
                let limit = limits.max_layers;
                return Err(contents.exceeded(LimitExceeded::Count { what: "layers", limit }));
            }
            let config = small(contents, &manifest.config, &from, limits.max_config_bytes)?;
            self.count(contents, &config)?;
            Node::Manifest { document, form, manifest: Box::new(manifest), config }
        };
        if self.nodes.len() >= limits.max_manifests {
            let limit = limits.max_manifests;
            return Err(contents.exceeded(LimitExceeded::Count { what: "manifests", limit }));
        }
        self.by_digest.insert(digest, self.nodes.len());
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn count(&mut self, contents: &Contents<'_>, bytes: &Bytes) -> Result<(), ImageError> {
        contents.charge_json(bytes)?;
        self.json += bytes.len() as u64;
        if self.json > MAX_JSON {
            let what = "all JSON in it together".into();
            return Err(contents.exceeded(LimitExceeded::Bytes { what, size: self.json, limit: MAX_JSON }));
        }
        Ok(())
    }

    /// Adds an index that the layout does not have, of these manifests.
    pub(super) fn add_generated(&mut self, manifests: Vec<(Descriptor, usize)>) -> usize {
        let (descriptors, nodes) = manifests.into_iter().map(|(d, node)| (d, Some(node))).unzip();
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            manifests: descriptors,
            annotations: BTreeMap::new(),
        };
        self.nodes.push(Node::Index { verbatim: None, index, manifests: nodes });
        self.nodes.len() - 1
    }

    /// Every manifest, with its digest and its configuration.
    pub(super) fn manifests(&self) -> impl Iterator<Item = (Digest, &Manifest, &Bytes)> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Manifest { document, manifest, config, .. } => {
                Some((document.digest, manifest.as_ref(), config))
            }
            Node::Index { .. } => None,
        })
    }

    /// What an image's own configuration says that it runs on.
    pub(super) fn platform(&self, node: usize) -> Option<Platform> {
        match self.nodes.get(node)? {
            Node::Manifest { config, .. } => Config::parse(config).ok().map(|config| config.platform),
            Node::Index { .. } => None,
        }
    }

    /// What a tag leads to in OCI and in Docker form, and everything below it in both.
    pub(super) fn documents(&self, root: usize) -> (Document, Document, Vec<Document>) {
        let mut made: Vec<[Document; 2]> = Vec::new();
        for node in &self.nodes {
            // A node comes after those that it leads to, so theirs are made.
            made.push([Form::Oci, Form::Docker].map(|form| node.document(form, &made)));
        }
        let [oci, docker] = made[root].clone();
        let mut seen = HashSet::from([oci.digest, docker.digest]);
        let children = made.into_iter().flatten().filter(|document| seen.insert(document.digest)).collect();
        (oci, docker, children)
    }
}

impl Node {
    fn document(&self, wanted: Form, made: &[[Document; 2]]) -> Document {
        match self {
            Self::Manifest { document, form, .. } if *form == wanted => document.clone(),
            Self::Manifest { manifest, .. } => Document::from_manifest(&wanted.manifest(manifest)),
            Self::Index { verbatim: Some((document, form)), .. } if *form == wanted => document.clone(),
            Self::Index { index, manifests, .. } => {
                let documents = index.manifests.iter().zip(manifests).filter_map(|(descriptor, node)| {
                    let document = &made.get((*node)?)?[usize::from(wanted == Form::Docker)];
                    // Docker's form has no fields that would say what an attestation is and of what.
                    let left_out = wanted == Form::Docker && is_attestation(descriptor);
                    (!left_out).then_some((descriptor, document))
                });
                Document::from_index(&wanted.index(index, &documents.collect::<Vec<_>>()))
            }
        }
    }
}
