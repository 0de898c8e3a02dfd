//! Names that mean packages of a package set such as nixpkgs, together in one image: `git/htop`, `shell/git`.

use super::{
    Resolution, ResolveError,
    evaluation::{self, Answer, Found, Outcome, Query},
    last_fetch::MaxAge,
    near,
    revision::{Revision, Revisions},
    source::{Evaluators, Fetched, Ping, Source},
};
use crate::{
    image::{Package, Selection, Settings},
    nix::{EvaluatorError, StoreDir, hide_secrets},
    oci::RepositoryName,
};
use std::{num::NonZeroUsize, sync::Arc, time::Duration};

/// What every image has, if the set does: what nearly every program that speaks to others looks for.
const ALWAYS: [&str; 2] = ["cacert", "iana-etc"];
/// What `shell` stands for.
const SHELL: [&str; 4] = ["bashInteractive", "coreutils", "moreutils", "nano"];
/// Packages whose program is what to run unless the client says otherwise.
const SHELLS: [&str; 2] = ["bash", "bashinteractive"];
/// What `arm64` stands for.
const ARM64: &str = "aarch64-linux";

/// The configured package set.
#[derive(Debug)]
pub struct PackageSet {
    source: Source,
    /// Its reference for messages and logs.
    shown: String,
    revisions: Revisions,
    system: String,
    store: StoreDir,
}

/// What a name asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'n> {
    system: &'n str,
    /// Attribute paths with dots, sorted: `a/b` is the same image as `b/a`.
    packages: Vec<&'n str>,
    has_shell: bool,
}

impl<'n> Asked<'n> {
    /// Meta-packages count in front of all others, in any order. Nothing is left if there is no package.
    fn parse(name: &'n RepositoryName, system: &'n str) -> Self {
        let components: Vec<&str> = name.components().collect();
        let metas = components.iter().take_while(|name| ["shell", "arm64"].contains(name)).count();
        let (metas, packages) = components.split_at(metas);
        let mut asked = Self { system, packages: packages.to_vec(), has_shell: false };
        if metas.contains(&"arm64") {
            asked.system = ARM64;
        }
        if metas.contains(&"shell") {
            asked.packages.extend(SHELL);
        }
        asked.has_shell =
            asked.packages.iter().any(|name| SHELLS.contains(&name.to_ascii_lowercase().as_str()));
        asked.packages.sort_unstable();
        asked.packages.dedup();
        asked
    }
}

impl PackageSet {
    /// The package set at `reference`, which is looked up again after `max_age`: a flake, a folder with a `default.nix`, or
    /// `<name>` of an entry of the evaluator's NIX_PATH. Packages are for `system`, unless a name says otherwise.
    pub fn new(reference: String, max_age: MaxAge, system: String, nix: Evaluators, store: StoreDir) -> Self {
        let shown = hide_secrets(&reference);
        let source = Source::new(reference, true, nix, max_age);
        Self { source, shown, revisions: Revisions::default(), system, store }
    }

    /// Which revisions tags may choose.
    pub fn with_revisions(self, revisions: Revisions) -> Self {
        Self { revisions, ..self }
    }

    /// The reference as people may see it, without passwords and tokens.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether the fetcher and the evaluator answer.
    pub async fn ping(&self) -> Ping {
        self.source.ping().await
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

    /// Whether it can be evaluated at all; no package is looked at.
    pub async fn look(&self) -> Result<(), ResolveError> {
        let source = self.source.current().await?;
        let query = Query::Packages { wanted: Vec::new(), extra: Vec::new() };
        match self.ask(&source, &self.system, query).await?.outcome {
            Outcome::Gathered { broken, .. } => self.whole(&source, &self.system, &broken).await,
            _ => Err(evaluation::unexpected()),
        }
    }

    /// Why a part of it throws, if one does.
    async fn whole(
        &self,
        source: &Fetched,
        system: &str,
        broken: &[Vec<String>],
    ) -> Result<(), ResolveError> {
        match broken.first() {
            Some(path) => self.ask(source, system, Query::Look(path)).await.map(drop),
            None => Ok(()),
        }
    }

    /// What the name means in the set as it is.
    pub async fn resolve(&self, name: &RepositoryName) -> Result<Resolution, ResolveError> {
        let find = |source: Arc<Fetched>| async move { self.resolve_in(&source, name).await };
        self.source.find_current(find).await
    }

    /// What the name means at a branch, tag or commit of the set.
    pub async fn resolve_revision(
        &self,
        name: &RepositoryName,
        revision: &Revision<'_>,
    ) -> Result<Resolution, ResolveError> {
        let fetched = revision.fetch(&self.source, self.revisions, name.as_str()).await?;
        self.resolve_in(&fetched, name).await.map_err(ResolveError::at_revision)
    }

    async fn resolve_in(&self, source: &Fetched, name: &RepositoryName) -> Result<Resolution, ResolveError> {
        let asked = Asked::parse(name, &self.system);
        if asked.packages.is_empty() {
            return Err(ResolveError::Unknown(format!(
                "{name} names no package: add one, as in {name}/hello"
            )));
        }
        let query = Query::Packages {
            wanted: asked.packages.iter().map(|path| vec![*path]).collect(),
            extra: ALWAYS.map(|path| vec![path]).into(),
        };
        let answer = self.ask(source, asked.system, query).await?;
        let Outcome::Gathered { found, missing, names, broken } = answer.outcome else {
            return Err(evaluation::unexpected());
        };
        if let Some(first) = missing.first() {
            // It may be in there.
            self.whole(source, asked.system, &broken).await.map_err(|error| match error {
                ResolveError::Evaluator(EvaluatorError::Failed(reason)) => ResolveError::Hidden(reason),
                error => error,
            })?;
            let near = near::misses(first.clone(), names).await;
            let (missing, reference) = (missing.join(", "), source.shown());
            return Err(ResolveError::Unknown(format!("there is no package {missing} in {reference}{near}")));
        }
        let found = found.into_iter().map(|outcome| match outcome {
            Outcome::Found(found) => Ok(found),
            Outcome::NotADerivation { attr, kind } => {
                Err(evaluation::not_a_derivation(&source.shown(), &attr, &kind))
            }
            _ => Err(evaluation::unexpected()),
        });
        self.resolution(source, &asked, found.collect::<Result<_, _>>()?)
    }

    async fn ask(&self, source: &Fetched, system: &str, query: Query<'_>) -> Result<Answer, ResolveError> {
        self.source.ask(source, &[system.to_owned()], false, query).await
    }

    fn resolution(
        &self,
        source: &Fetched,
        asked: &Asked<'_>,
        found: Vec<Found>,
    ) -> Result<Resolution, ResolveError> {
        let origin = format!("{}#{}", source.shown(), asked.packages.join(","));
        // The version of a package is that of an image with nothing else in it.
        let tags = match (&found[..], &asked.packages[..]) {
            ([package, ..], [_]) => package.tags(),
            _ => Vec::new(),
        };
        let (mut wanted, mut platform) = (Vec::new(), None);
        for package in found {
            wanted.push(package.wanted(&self.store)?);
            let Some(packaged) = package.package else { return Err(evaluation::unexpected()) };
            platform = platform.or(Some(packaged.platform(&origin)?));
        }
        let (Some(count), Some(platform)) = (NonZeroUsize::new(wanted.len()), platform) else {
            return Err(evaluation::unexpected());
        };
        // Clients name the program: there is no telling which one of several is meant.
        let settings = Settings {
            entrypoint: Some(Vec::new()),
            cmd: asked.has_shell.then(|| vec!["bash".into()]),
            ..Settings::default()
        };
        let package = Package { count, platform, main_program: None, settings: Some(settings) };
        let selection = Selection::Package(Box::new(package));
        let (revision, age) = (source.revision(), source.age());
        Ok(Resolution { wanted, selection, hint: None, tags, origin, revision, age })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_packages_stand_in_front_and_order_does_not_matter() {
        let parse = |name: &str| {
            let name = name.parse().unwrap();
            let asked = Asked::parse(&name, "x86_64-linux");
            (asked.system.to_owned(), asked.packages.join(" "), asked.has_shell)
        };
        let here = |packages: &str, has_shell| ("x86_64-linux".to_owned(), packages.to_owned(), has_shell);
        assert_eq!(parse("git/htop"), here("git htop", false));
        assert_eq!(parse("htop/git/htop"), parse("git/htop"));
        assert_eq!(parse("shell"), here("bashInteractive coreutils moreutils nano", true));
        assert_eq!(parse("git/shell"), here("git shell", false), "only in front");
        assert_eq!(parse("bash"), here("bash", true));
        for name in ["arm64/shell/git", "shell/arm64/git"] {
            let packages = "bashInteractive coreutils git moreutils nano";
            assert_eq!(parse(name), ("aarch64-linux".into(), packages.into(), true));
        }
        assert_eq!(parse("arm64").1, "");
    }
}
