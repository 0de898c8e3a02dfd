//! From names to derivations: which flake attribute or catalog entry a repository name means.

mod catalog;
mod flake;
mod flake_ref;
mod name;
mod near;
mod package;

pub use catalog::{Catalog, CatalogError};
pub use flake::{Flake, Listing};
pub use name::{ImageName, ImageNameError};

use crate::{
    image::Selection,
    nix::{Buildable, EvaluatorError, StorePath, Wanted},
    oci::{RepositoryName, Tag},
};

/// The tag that means a source as it is configured.
pub const LATEST: &str = "latest";

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// What nix-daemon has to realise, first what the name stands for. What its image's configuration mentions follows.
    pub wanted: Vec<Wanted>,
    /// Which image of it is meant.
    pub selection: Selection,
    /// What to do if it turns out to be no image.
    pub hint: Option<String>,
    /// Further tags of the same image: the image's own, and the package's version.
    pub tags: Vec<Tag>,
    /// Where it comes from, for the log: a flake attribute, or a catalog file.
    pub origin: String,
    /// The source's revision, where it has one.
    pub revision: Option<String>,
}

impl Resolution {
    /// What has to be realised.
    pub fn buildables(&self) -> Vec<Buildable> {
        self.wanted.iter().map(|wanted| wanted.buildable.clone()).collect()
    }

    /// The store paths that there will be, if all are known before anything is built.
    pub fn expected(&self) -> Option<Vec<StorePath>> {
        self.wanted.iter().map(|wanted| wanted.expected.clone()).collect()
    }
}

/// Why a name means nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// The name has none of the forms that are configured.
    #[error(transparent)]
    Name(#[from] ImageNameError),
    /// There is no such attribute or entry. The message lists near misses.
    #[error("{0}")]
    Unknown(String),
    /// The source has no such revision, or no revisions at all.
    #[error("{0}")]
    TagUnknown(String),
    /// The attribute exists, and is not a derivation.
    #[error("{0}")]
    NotADerivation(String),
    /// The package cannot become an image as it is.
    #[error("{0}")]
    Package(String),
    /// The evaluation failed.
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
}

/// All sources of names, in the order in which they are asked.
#[derive(Debug)]
pub struct Resolver {
    catalog: Option<Catalog>,
    flake: Option<Flake>,
}

impl Resolver {
    /// A resolver of the given sources. The catalog goes first: its names are exact.
    pub fn new(catalog: Option<Catalog>, flake: Option<Flake>) -> Self {
        Self { catalog, flake }
    }

    /// The flake, if one is configured.
    pub fn flake(&self) -> Option<&Flake> {
        self.flake.as_ref()
    }

    /// The catalog, if there is one.
    pub fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_ref()
    }

    /// Reads the catalog again, if there is one; the number of its entries.
    pub async fn reload_catalog(&self) -> Result<Option<usize>, CatalogError> {
        match &self.catalog {
            Some(catalog) => catalog.reload().await.map(Some),
            None => Ok(None),
        }
    }

    /// What the name means as the source is now: its `latest`.
    pub async fn resolve(&self, name: &RepositoryName) -> Result<Resolution, ResolveError> {
        match (self.entry(name).await, &self.flake) {
            (Some(resolution), _) => Ok(resolution),
            (None, Some(flake)) => flake.resolve(&ImageName::parse(name)?).await,
            (None, None) => {
                let names = self.catalog_names().await.iter().map(RepositoryName::to_string).collect();
                let near = near::misses(name.to_string(), names).await;
                Err(ResolveError::Unknown(format!("there is no image {name} in the catalog{near}")))
            }
        }
    }

    /// What the name means at a branch, tag or commit of the source; the tag is not `latest`, nor another name of it.
    pub async fn resolve_revision(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<Resolution, ResolveError> {
        let in_catalog = self.entry(name).await.is_some();
        match &self.flake {
            Some(flake) if !in_catalog => flake.resolve_revision(&ImageName::parse(name)?, tag).await,
            _ => Err(ResolveError::TagUnknown(format!("{name} has no tag {tag}; it has: {LATEST}"))),
        }
    }

    async fn entry(&self, name: &RepositoryName) -> Option<Resolution> {
        match &self.catalog {
            Some(catalog) => catalog.get(name).await,
            None => None,
        }
    }

    async fn catalog_names(&self) -> Vec<RepositoryName> {
        match &self.catalog {
            Some(catalog) => catalog.names().await,
            None => Vec::new(),
        }
    }

    /// Every name that can be listed without building anything, sorted.
    pub async fn names(&self) -> Result<Vec<RepositoryName>, ResolveError> {
        let mut names = self.catalog_names().await;
        if let Some(flake) = &self.flake {
            names.extend(flake.list().await?.names);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}
