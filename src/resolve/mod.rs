//! From names to derivations: which flake attribute or catalog entry a repository name means.

mod catalog;
mod evaluation;
mod fetch_error;
mod flake;
mod last_fetch;
mod name;
mod near;
mod package;
mod package_set;
mod remote;
mod revision;
mod source;

pub use catalog::{Catalog, CatalogError};
pub use flake::{Flake, Listing};
pub use last_fetch::MaxAge;
pub use name::{ImageName, ImageNameError};
pub use near::find as near_misses;
pub use package_set::PackageSet;
pub use remote::Remote;
pub use revision::{Revision, Revisions, is_commit, may_be_commit};
pub use source::{Evaluators, Ping};

use crate::{
    image::Selection,
    nix::{Buildable, DaemonError, EvaluatorError, StorePath, Wanted},
    oci::{RepositoryName, Tag},
};
use std::time::Duration;

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
    /// How long ago the source was fetched.
    pub age: Duration,
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
    /// The revision exists, and has no such attribute or entry.
    #[error("{0}")]
    UnknownAtRevision(String),
    /// The source as it is configured cannot be fetched, however often that is tried.
    #[error("{0}")]
    Source(String),
    /// The server of a source, or of one of its inputs, cannot be asked now. Nothing is known of what it has.
    #[error("{0}")]
    Unreachable(String),
    /// The attribute exists, and is not a derivation.
    #[error("{0}")]
    NotADerivation(String),
    /// The package cannot become an image as it is.
    #[error("{0}")]
    Package(String),
    /// The name is nowhere, except perhaps in a part of the source that cannot be evaluated. The message has that part,
    /// the reason, and near misses.
    #[error("{0}")]
    Hidden(String),
    /// The evaluation failed.
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
    /// nix-daemon cannot be asked.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

impl ResolveError {
    /// The same of a revision that is there: what it has not is another matter than what the source has not.
    fn at_revision(self) -> Self {
        match self {
            Self::Unknown(message) => Self::UnknownAtRevision(message),
            error => error,
        }
    }
}

/// All sources of names, in the order in which they are asked.
#[derive(Debug)]
pub struct Resolver {
    catalog: Option<Catalog>,
    flake: Option<Flake>,
    package_set: Option<PackageSet>,
}

/// A source that the evaluator is needed for.
#[derive(Debug)]
enum Source<'r> {
    Flake(&'r Flake, ImageName),
    PackageSet(&'r PackageSet),
}

impl Resolver {
    /// A resolver of the given sources. The catalog goes first, since its names are exact. Where there is a flake and a
    /// package set, names of one component are the flake's if it has them, and all that has another form than those of
    /// flakes is the set's.
    pub fn new(catalog: Option<Catalog>, flake: Option<Flake>, package_set: Option<PackageSet>) -> Self {
        Self { catalog, flake, package_set }
    }

    /// Whether the fetcher and the evaluator answer; `None` if nothing here needs them.
    pub async fn ping(&self) -> Option<Ping> {
        match (&self.flake, &self.package_set) {
            (Some(flake), _) => Some(flake.ping().await),
            (None, Some(set)) => Some(set.ping().await),
            (None, None) => None,
        }
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

    /// Fetches flake and package set anew when they are needed next.
    pub fn forget_sources(&self) {
        if let Some(flake) = &self.flake {
            flake.forget();
        }
        if let Some(set) = &self.package_set {
            set.forget();
        }
    }

    /// Whether the evaluator is asked about this name, rather than the catalog alone.
    pub async fn evaluates(&self, name: &RepositoryName) -> bool {
        (self.flake.is_some() || self.package_set.is_some()) && self.entry(name).await.is_none()
    }

    /// Whether a source is asked for this revision, of which there may be only so many.
    pub async fn looks_up(&self, name: &RepositoryName, revision: &Revision<'_>) -> bool {
        let is_of_flake = || self.flake.as_ref().is_some_and(|flake| flake.looks_up(revision));
        let is_of_set = || self.package_set.as_ref().is_some_and(|set| set.looks_up(revision));
        (is_of_flake() || is_of_set()) && self.entry(name).await.is_none()
    }

    /// Whom look-ups of revisions ask, source by source.
    pub fn remotes(&self) -> Vec<Remote> {
        let flake = self.flake.iter().filter_map(|flake| Remote::of(flake.shown()));
        let set = self.package_set.iter().filter_map(|set| Remote::of(set.shown()));
        flake.chain(set).collect()
    }

    /// What the name means as the source is now: its `latest`. To find out takes no longer than one evaluation may.
    pub async fn resolve(&self, name: &RepositoryName) -> Result<Resolution, ResolveError> {
        self.in_time(self.find(name)).await
    }

    async fn find(&self, name: &RepositoryName) -> Result<Resolution, ResolveError> {
        if let Some(resolution) = self.entry(name).await {
            return Ok(resolution);
        }
        let sources = self.sources(name)?;
        if sources.is_empty() {
            let names = self.catalog_names().await.iter().map(RepositoryName::to_string).collect();
            let near = near::misses(name.to_string(), names).await;
            return Err(ResolveError::Unknown(format!("there is no image {name} in the catalog{near}")));
        }
        let mut nowhere = Vec::new();
        for source in &sources {
            let answer = match source {
                Source::Flake(flake, name) => flake.resolve(name).await,
                Source::PackageSet(set) => set.resolve(name).await,
            };
            match answer {
                Err(ResolveError::Unknown(message)) => nowhere.push(message),
                answer => return answer,
            }
        }
        Err(ResolveError::Unknown(nowhere.join("; and ")))
    }

    /// What the name means at a branch, tag or commit of the source; the tag is not `latest`, nor another name of it. To
    /// find out takes no longer than one evaluation may.
    pub async fn resolve_revision(
        &self,
        name: &RepositoryName,
        revision: &Revision<'_>,
    ) -> Result<Resolution, ResolveError> {
        self.in_time(self.find_revision(name, revision)).await
    }

    /// Fetching, and evaluating as often as inputs turn out to be needed, share one time limit.
    async fn in_time(
        &self,
        work: impl Future<Output = Result<Resolution, ResolveError>>,
    ) -> Result<Resolution, ResolveError> {
        let of_set = || self.package_set.as_ref().map(PackageSet::timeout);
        let Some(limit) = self.flake.as_ref().map(Flake::timeout).or_else(of_set) else { return work.await };
        let late = |_| Err(EvaluatorError::TimedOut(limit).into());
        tokio::time::timeout(limit, work).await.unwrap_or_else(late)
    }

    async fn find_revision(
        &self,
        name: &RepositoryName,
        revision: &Revision<'_>,
    ) -> Result<Resolution, ResolveError> {
        let none = || format!("{name} has no tag {}; it has: {LATEST}", revision.tag);
        let sources = match self.entry(name).await {
            Some(_) => Vec::new(),
            None => self.sources(name)?,
        };
        let (mut nowhere, mut exists) = (Vec::new(), false);
        for source in &sources {
            let answer = match source {
                Source::Flake(flake, name) => flake.resolve_revision(name, revision).await,
                Source::PackageSet(set) => set.resolve_revision(name, revision).await,
            };
            match answer {
                Err(ResolveError::TagUnknown(message)) => nowhere.push(message),
                Err(ResolveError::UnknownAtRevision(message)) => {
                    nowhere.push(message);
                    exists = true;
                }
                answer => return answer,
            }
        }
        let message = if nowhere.is_empty() { none() } else { nowhere.join("; and ") };
        Err(if exists { ResolveError::UnknownAtRevision(message) } else { ResolveError::TagUnknown(message) })
    }

    /// Where a name can mean something, besides the catalog.
    fn sources(&self, name: &RepositoryName) -> Result<Vec<Source<'_>>, ImageNameError> {
        let set = self.package_set.as_ref().map(Source::PackageSet);
        Ok(match (&self.flake, ImageName::parse(name)) {
            (None, _) => set.into_iter().collect(),
            (Some(flake), Ok(name @ ImageName::Attribute { .. })) => {
                [Source::Flake(flake, name)].into_iter().chain(set).collect()
            }
            (Some(flake), Ok(name)) => vec![Source::Flake(flake, name)],
            (Some(_), Err(error)) => vec![set.ok_or(error)?],
        })
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
