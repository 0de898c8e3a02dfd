//! What the evaluator is asked, and what it answers: `nix/eval/flake.nix` from this side.

use super::{ResolveError, package::Packaged, source::Subject};
use crate::{
    nix::{Buildable, Evaluator, EvaluatorError, FlakeCaches, StoreDir, Wanted},
    oci::Tag,
};
use serde::{Deserialize, Serialize};

/// The function that the evaluator applies.
const FUNCTION: &str = include_str!("../../nix/eval/flake.nix");

#[derive(Serialize)]
struct Argument<'a> {
    #[serde(flatten)]
    subject: Subject<'a>,
    query: &'a Query<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Query<'a> {
    Find {
        attrs: Vec<Vec<&'a str>>,
        /// Of which an image is made if none of these exists.
        package: Option<Vec<&'a str>>,
    },
    List {
        /// These packages and applications, or all.
        only: Option<&'a [String]>,
        /// Also packages that have no image.
        plain: bool,
    },
    Names(bool),
    /// Only whether it can be evaluated.
    Look(&'a [String]),
    /// Of a package set.
    Packages {
        wanted: Vec<Vec<&'a str>>,
        /// Taken along where the set has them.
        extra: Vec<Vec<&'a str>>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) caches: Option<FlakeCaches>,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    Found(Found),
    #[serde(rename_all = "camelCase")]
    Missing {
        names: Vec<String>,
        package_exists: bool,
        broken: Vec<Vec<String>>,
    },
    NotADerivation {
        attr: String,
        #[serde(rename = "type")]
        kind: String,
    },
    Listed {
        broken: Vec<Vec<String>>,
        packages: Vec<String>,
        applications: Vec<Application>,
    },
    Names(Vec<String>),
    Gathered {
        /// Packages, or what is none.
        found: Vec<Outcome>,
        missing: Vec<String>,
        names: Vec<String>,
        broken: Vec<Vec<String>>,
    },
}

#[derive(Deserialize)]
pub(super) struct Found {
    /// Which of the attribute paths it is.
    pub(super) candidate: Option<usize>,
    pub(super) attr: String,
    pub(super) derivation: String,
    pub(super) output: String,
    pub(super) path: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) package: Option<Packaged>,
}

#[derive(Deserialize)]
pub(super) struct Application {
    pub(super) name: String,
    pub(super) images: Vec<String>,
}

impl Found {
    /// What has to be realised of it.
    pub(super) fn wanted(&self, store: &StoreDir) -> Result<Wanted, ResolveError> {
        let derivation = store.parse(&self.derivation).map_err(|error| {
            EvaluatorError::Failed(format!("the evaluator uses another store than NIX_STORE_DIR: {error}"))
        })?;
        // Of a content-addressed derivation there is only a placeholder.
        let expected = self.path.as_deref().and_then(|path| store.parse(path).ok());
        Ok(Wanted { buildable: Buildable::Output { derivation, output: self.output.clone() }, expected })
    }

    /// The tags that it has by itself, sorted.
    pub(super) fn tags(&self) -> Vec<Tag> {
        let mut tags: Vec<Tag> = self.tags.iter().filter_map(|tag| tag.parse().ok()).collect();
        tags.sort();
        tags.dedup();
        tags
    }
}

/// Asks about a flake or a package set.
pub(super) async fn ask(
    evaluator: &Evaluator,
    subject: Subject<'_>,
    query: &Query<'_>,
) -> Result<Answer, EvaluatorError> {
    evaluator.call(FUNCTION, &Argument { subject, query }).await
}

/// Whether an evaluator answers: it is asked for a constant. Gives its version of Nix.
pub(super) async fn ping(evaluator: &Evaluator) -> Result<String, EvaluatorError> {
    evaluator.call("_: { forgeRegistry = builtins.nixVersion; }", &()).await
}

/// The error of an attribute that is there, and nothing that could be built.
pub(super) fn not_a_derivation(flake: &str, attr: &str, kind: &str) -> ResolveError {
    ResolveError::NotADerivation(format!("{flake}#{attr} is not a derivation but of type {kind}"))
}

/// The error of an answer that has nothing to do with what was asked.
pub(super) fn unexpected() -> ResolveError {
    EvaluatorError::Failed("the evaluator answered another question".into()).into()
}
