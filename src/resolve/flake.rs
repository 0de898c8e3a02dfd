//! Names that mean attributes of a flake, by way of the evaluator.

use super::{
    ImageName, Resolution, ResolveError,
    evaluation::{self, Answer, Application, Found, Outcome, Query},
    last_fetch::MaxAge,
    near,
    revision::{Revision, Revisions},
    source::{Evaluators, Fetched, Ping, Source},
};
use crate::{
    image::Selection,
    nix::{Caches, EvaluatorError, StoreDir, hide_secrets},
    oci::RepositoryName,
};
use std::{sync::Arc, time::Duration};

/// Evaluations that may be spent on finding what cannot be evaluated.
const MAX_SEARCH: usize = 48;

/// The configured flake.
#[derive(Debug)]
pub struct Flake {
    source: Source,
    /// Its reference for messages and logs.
    shown: String,
    revisions: Revisions,
    systems: Vec<String>,
    store: StoreDir,
    /// Whether packages are made into images.
    implicit: bool,
    /// Where to put the binary caches that it names, if they are to be used.
    caches: Option<Caches>,
}

/// What a flake offers, and what evaluated it.
#[derive(Debug)]
pub struct Listing {
    /// Names that can be pulled, as far as they are known without building anything.
    pub names: Vec<RepositoryName>,
    /// Packages, applications and whole sets of them that cannot be evaluated, or were not looked at for there being too many of these.
    pub broken: Vec<String>,
}

impl Flake {
    /// The flake at `reference`, which is looked up again after `max_age`; attributes are looked up for each of `systems`,
    /// the preferred first. Packages without an image become images if `implicit`.
    pub fn new(
        reference: String,
        max_age: MaxAge,
        systems: Vec<String>,
        nix: Evaluators,
        store: StoreDir,
        implicit: bool,
    ) -> Self {
        let shown = hide_secrets(&reference);
        let source = Source::new(reference, false, nix, max_age);
        Self { source, shown, revisions: Revisions::default(), systems, store, implicit, caches: None }
    }

    /// Which revisions tags may choose.
    pub fn with_revisions(self, revisions: Revisions) -> Self {
        Self { revisions, ..self }
    }

    /// Has the binary caches that the flake names put into `caches`, whenever it is evaluated.
    pub fn with_caches(self, caches: Caches) -> Self {
        Self { caches: Some(caches), ..self }
    }

    /// The reference as people may see it, without passwords and tokens.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What the name means in the flake as it is.
    pub async fn resolve(&self, name: &ImageName) -> Result<Resolution, ResolveError> {
        let find = |source: Arc<Fetched>| async move { self.resolve_in(&source, name).await };
        self.source.find_current(find).await
    }

    /// What the name means at a branch, tag or commit.
    pub async fn resolve_revision(
        &self,
        name: &ImageName,
        revision: &Revision<'_>,
    ) -> Result<Resolution, ResolveError> {
        let shown = name.with_attr(name.attr());
        let fetched = revision.fetch(&self.source, self.revisions, &shown).await?;
        self.resolve_in(&fetched, name).await.map_err(ResolveError::at_revision)
    }

    /// Whether the source is asked for this revision.
    pub(super) fn looks_up(&self, revision: &Revision<'_>) -> bool {
        revision.is_looked_up(&self.source, self.revisions)
    }

    /// Takes nothing for current any more.
    pub(super) fn forget(&self) {
        self.source.forget();
    }

    /// How long an evaluation may take.
    pub(super) fn timeout(&self) -> Duration {
        self.source.timeout()
    }

    async fn resolve_in(&self, source: &Fetched, name: &ImageName) -> Result<Resolution, ResolveError> {
        let package = name.package().filter(|_| self.implicit);
        let answer = self.ask(source, Query::Find { attrs: name.candidates(), package }).await?;
        match answer.outcome {
            Outcome::Found(found) => self.resolution(source, name, found),
            Outcome::Missing { names, package_exists, broken } => {
                let unknown = self.unknown(source, name, names, package_exists).await;
                match broken.first() {
                    // It may be in there.
                    Some(path) if !package_exists => Err(self.hidden(source, path, unknown).await),
                    _ => Err(unknown),
                }
            }
            Outcome::NotADerivation { attr, kind } => {
                Err(evaluation::not_a_derivation(&source.shown(), &attr, &kind))
            }
            Outcome::Listed { .. } | Outcome::Names(_) | Outcome::Gathered { .. } => {
                Err(evaluation::unexpected())
            }
        }
    }

    fn resolution(
        &self,
        source: &Fetched,
        name: &ImageName,
        found: Found,
    ) -> Result<Resolution, ResolveError> {
        let mut wanted = vec![found.wanted(&self.store)?];
        let origin = format!("{}#{}", source.shown(), found.attr);
        let (mut hint, tags) = (None, found.tags());
        let selection = match (name, found.package) {
            (_, Some(packaged)) => {
                let (package, mentioned) = packaged.read(&origin, &self.store)?;
                wanted.extend(mentioned);
                Selection::Package(Box::new(package))
            }
            (ImageName::Application { image, .. }, None) => Selection::Member(image.clone()),
            (ImageName::Package { .. }, None) => Selection::Only,
            (ImageName::Attribute { attr }, None) => {
                let is_package = found.candidate == Some(name.candidates().len() - 1);
                let as_package = || format!("to make an image of a package, ask for packages/{attr}");
                hint = (self.implicit && is_package).then(as_package);
                Selection::Only
            }
        };
        let (revision, age) = (source.revision(), source.age());
        Ok(Resolution { wanted, selection, hint, tags, origin, revision, age })
    }

    /// The error of a name that is nowhere but perhaps below `path`, which throws.
    async fn hidden(&self, source: &Fetched, path: &[String], unknown: ResolveError) -> ResolveError {
        match self.ask(source, Query::Look(path)).await {
            Err(ResolveError::Evaluator(EvaluatorError::Failed(reason))) => {
                let path = path.join(".");
                ResolveError::Hidden(format!("{path} cannot be evaluated: {reason}\nelsewhere, {unknown}"))
            }
            Err(error) => error,
            Ok(_) => unknown,
        }
    }

    async fn unknown(
        &self,
        source: &Fetched,
        name: &ImageName,
        names: Vec<String>,
        package_exists: bool,
    ) -> ResolveError {
        let (attr, flake) = (name.attr(), source.shown());
        if package_exists {
            let wanted = if matches!(name, ImageName::Application { .. }) { "containers" } else { "image" };
            let is_no_package = self.implicit && name.package().is_some();
            let nor = if is_no_package { " and is no derivation" } else { "" };
            return ResolveError::Unknown(format!(
                "{attr} exists in {flake}, but it has no attribute {wanted}{nor}"
            ));
        }
        let near = near::misses(attr.to_owned(), names).await;
        ResolveError::Unknown(format!("there is no {} in {flake}{near}", name.with_attr(attr)))
    }

    /// Every name that can be listed without building anything, unsorted.
    ///
    /// Nix can catch what `throw` throws, and no other error: a package that recurses for ever or misspells an
    /// attribute would take the whole list with it. So the list is made again around those.
    pub async fn list(&self) -> Result<Listing, ResolveError> {
        let source = self.source.current().await?;
        let mut listing = Listing { names: Vec::new(), broken: Vec::new() };
        let reason = match self.list_into(&source, &mut listing, None).await {
            Err(ResolveError::Evaluator(EvaluatorError::Failed(reason))) => reason,
            result => {
                if !listing.broken.is_empty() {
                    tracing::warn!(
                        "{} cannot be evaluated, so nothing in it is listed",
                        listing.broken.join(", ")
                    );
                }
                return result.map(|()| listing);
            }
        };
        let Outcome::Names(all) = self.ask(&source, Query::Names(true)).await?.outcome else {
            return Err(evaluation::unexpected());
        };
        let mut parts = vec![all.as_slice()];
        let mut evaluations = 0;
        while let Some(part) = parts.pop() {
            let (half, other) = part.split_at(part.len() / 2);
            if part.len() > 1 && evaluations < MAX_SEARCH {
                for part in [half, other] {
                    evaluations += 1;
                    match self.list_into(&source, &mut listing, Some(part)).await {
                        Err(ResolveError::Evaluator(EvaluatorError::Failed(_))) => parts.push(part),
                        result => result?,
                    }
                }
            } else {
                listing.broken.extend_from_slice(part);
            }
        }
        tracing::warn!(
            packages = listing.broken.join(", ").chars().take(300).collect::<String>(),
            "these cannot be listed: {reason}"
        );
        Ok(listing)
    }

    async fn list_into(
        &self,
        source: &Fetched,
        listing: &mut Listing,
        only: Option<&[String]>,
    ) -> Result<(), ResolveError> {
        let answer = self.ask(source, Query::List { only, plain: self.implicit }).await?;
        let Outcome::Listed { broken, packages, applications } = answer.outcome else {
            return Err(evaluation::unexpected());
        };
        for path in broken.iter().map(|path| path.join(".")) {
            if !listing.broken.contains(&path) {
                listing.broken.push(path);
            }
        }
        let of_application = |application: Application| {
            let name = application.name;
            application.images.into_iter().map(move |image| format!("applications/{name}/{image}"))
        };
        let names = packages
            .iter()
            .map(|name| format!("packages/{name}"))
            .chain(applications.into_iter().flat_map(of_application))
            .filter_map(|name| name.parse().ok());
        listing.names.extend(names);
        Ok(())
    }

    /// Whether the fetcher and the evaluator answer.
    pub async fn ping(&self) -> Ping {
        self.source.ping().await
    }

    async fn ask(&self, source: &Fetched, query: Query<'_>) -> Result<Answer, ResolveError> {
        // A revision that a client chose has no say in whom this host trusts.
        let caches = self.caches.as_ref().filter(|_| self.source.is_as_configured(source));
        let mut answer = self.source.ask(source, &self.systems, caches.is_some(), query).await?;
        if let (Some(caches), Some(named)) = (caches, answer.caches.take()) {
            caches.set(named);
        }
        Ok(answer)
    }
}
