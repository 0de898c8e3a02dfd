//! Where names come from: a flake or a package set, fetched by one socket and evaluated by another.
//!
//! The fetcher is told what the operator configured, and runs no code of a source. It alone has access tokens and sees
//! local folders. The evaluator runs a source's code and has neither: it finds the source, and the inputs that its
//! `flake.lock` pins, in the store.

use super::{
    Resolution, ResolveError,
    evaluation::{self, Answer, Query},
    fetch_error::{self, FetchError},
    last_fetch::{LastFetch, MaxAge},
};
use crate::nix::{Evaluator, EvaluatorError, HeldPaths, NixDaemon, hide_secrets};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The function that the fetcher applies.
const FUNCTION: &str = include_str!("../../nix/eval/fetch.nix");
/// How an evaluation that needs an input ends: this, then the input's name in flake.lock as JSON.
const NEEDS: &str = "forge-registry-input:";
/// How often a source is fetched again that was collected before an evaluation could begin.
const MAX_FETCHES: usize = 8;
/// Inputs of one source that are fetched at most.
const MAX_INPUTS: usize = 256;

/// The two sockets behind which Nix evaluates, and nix-daemon, which keeps what they work on.
#[derive(Debug, Clone)]
pub struct Evaluators {
    /// Runs the registry's own expressions alone, and fetches sources.
    pub fetcher: Evaluator,
    /// Runs the code of sources.
    pub evaluator: Evaluator,
    /// Keeps sources from the garbage collector while they are evaluated.
    pub daemon: Arc<NixDaemon>,
}

/// A flake or a package set, as it is configured.
#[derive(Debug)]
pub(super) struct Source {
    reference: String,
    /// Whether it is a package set, which need not be a flake.
    is_set: bool,
    nix: Evaluators,
    last: LastFetch<Fetched>,
    /// Inputs that evaluations of the source as it is configured have needed: they are fetched with it from then on.
    needed: Mutex<BTreeSet<String>>,
}

/// A source at one revision, in the store.
#[derive(Debug)]
pub(super) struct Fetched {
    /// With the revision that was asked for, if any was.
    reference: String,
    at: Instant,
    /// Nothing for a package set that is named by an entry of NIX_PATH.
    tree: Option<Tree>,
    inputs: Mutex<BTreeMap<String, Tree>>,
}

/// A tree in the store, as `fetch.nix` describes it: its path, hash, revision and whatever else Nix says of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tree(serde_json::Map<String, serde_json::Value>);

#[derive(Serialize)]
struct Wanted<'a> {
    reference: Option<&'a str>,
    tree: Option<&'a Tree>,
    inputs: &'a BTreeSet<String>,
}

#[derive(Deserialize)]
struct Found {
    tree: Tree,
    inputs: BTreeMap<String, Tree>,
}

/// What is asked about.
#[derive(Serialize)]
pub(super) struct Subject<'a> {
    source: Option<&'a Tree>,
    inputs: BTreeMap<String, Tree>,
    flake: &'a str,
    set: bool,
    local: bool,
    systems: &'a [String],
    /// Whether its binary caches are asked for.
    caches: bool,
}

impl Tree {
    fn hash(&self) -> Option<&str> {
        self.0.get("narHash")?.as_str()
    }
}

impl Fetched {
    /// The reference as people may see it, without passwords and tokens.
    pub(super) fn shown(&self) -> String {
        hide_secrets(&self.reference)
    }

    /// The commit, with `-dirty` behind it where the working tree differs; nothing for sources without revisions.
    pub(super) fn revision(&self) -> Option<String> {
        let text = |name| self.tree.as_ref()?.0.get(name)?.as_str().map(str::to_owned);
        text("rev").or_else(|| text("dirtyRev"))
    }

    fn hash(&self) -> Option<&str> {
        self.tree.as_ref()?.hash()
    }

    /// How long ago it was fetched.
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

impl Source {
    /// The source at `reference`, which is fetched again when that is longer ago than `max_age`. A failure of a local one is
    /// not remembered: there is no server that limits attempts, and somebody may be mending it.
    pub(super) fn new(reference: String, is_set: bool, nix: Evaluators, mut max_age: MaxAge) -> Self {
        if is_local(&reference) {
            max_age.failed = Duration::ZERO;
        }
        let last = LastFetch::new(max_age, nix.evaluator.timeout());
        Self { reference, is_set, nix, last, needed: Mutex::default() }
    }

    /// The reference, with passwords and tokens.
    pub(super) fn reference(&self) -> &str {
        &self.reference
    }

    /// Whether it was fetched as it is configured, and not at a revision that a client chose.
    pub(super) fn is_as_configured(&self, fetched: &Fetched) -> bool {
        fetched.reference == self.reference
    }

    /// The source as it is now, or was less than `max_age` ago. Evaluations that begin at the same time share it.
    pub(super) async fn current(&self) -> Result<Arc<Fetched>, ResolveError> {
        Ok(self.last.get(self.fetch(&self.reference)).await?)
    }

    /// What is found in the source as it is. If nothing is found in a local one that was fetched earlier, and it has changed
    /// since, it is looked for there: somebody may have mended it, and tries again.
    pub(super) async fn find_current<F>(
        &self,
        find: impl Fn(Arc<Fetched>) -> F,
    ) -> Result<Resolution, ResolveError>
    where
        F: Future<Output = Result<Resolution, ResolveError>>,
    {
        let asked = Instant::now();
        let fetched = self.current().await?;
        let found = find(fetched.clone()).await;
        if found.is_ok() || !is_local(&self.reference) || fetched.at >= asked {
            return found;
        }
        let now = self.last.get_since(asked, self.fetch(&self.reference)).await?;
        if now.hash() == fetched.hash() { found } else { find(now).await }
    }

    /// Takes nothing for current any more, nor what is being fetched. Does not wait for that.
    pub(super) fn forget(&self) {
        self.last.forget();
    }

    /// How long an evaluation may take.
    pub(super) fn timeout(&self) -> Duration {
        self.nix.evaluator.timeout()
    }

    /// The source at this reference, with inputs that were needed before as far as it has them.
    pub(super) async fn fetch(&self, reference: &str) -> Result<Fetched, FetchError> {
        let at = Instant::now();
        let mut fetched = Fetched { reference: reference.into(), at, tree: None, inputs: Mutex::default() };
        if reference.starts_with('<') {
            return Ok(fetched);
        }
        let of_source = |error| FetchError::of_source(error, is_local(reference));
        // The source alone: whatever it fails for, it is asked for once.
        let found = self.call(Some(reference), None, &BTreeSet::new()).await.map_err(of_source)?;
        let inputs = self.needed_inputs(&found.tree, self.is_as_configured(&fetched)).await;
        fetched.tree = Some(found.tree);
        fetched.inputs = Mutex::new(inputs);
        Ok(fetched)
    }

    /// The inputs that were needed before, in one go. An evaluation that needs one that is not among them asks for it.
    async fn needed_inputs(&self, tree: &Tree, is_as_configured: bool) -> BTreeMap<String, Tree> {
        let needed = self.needed().clone();
        if needed.is_empty() {
            return BTreeMap::new();
        }
        let inputs = match self.call(None, Some(tree), &needed).await {
            Ok(found) => found.inputs,
            Err(error) => {
                tracing::debug!("inputs are fetched when they are needed: {error}");
                BTreeMap::new()
            }
        };
        if is_as_configured {
            // Without those that the lock file has no more. If one of them failed, evaluations tell anew which they need.
            self.needed().retain(|name| inputs.contains_key(name) || !needed.contains(name));
        }
        inputs
    }

    fn needed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.needed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(
        &self,
        reference: Option<&str>,
        tree: Option<&Tree>,
        inputs: &BTreeSet<String>,
    ) -> Result<Found, EvaluatorError> {
        self.nix.fetcher.call(FUNCTION, &Wanted { reference, tree, inputs }).await
    }

    /// Asks about the source. What it needs of its inputs is fetched on the way.
    pub(super) async fn ask(
        &self,
        fetched: &Fetched,
        systems: &[String],
        caches: bool,
        query: Query<'_>,
    ) -> Result<Answer, ResolveError> {
        let (begun, shown) = (Instant::now(), fetched.shown());
        let mut tree = fetched.tree.clone();
        let mut fetches = 0;
        loop {
            let inputs = fetched.inputs.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Nothing else keeps them from the garbage collector.
            let Some(_held) = self.hold(tree.iter().chain(inputs.values())).await? else {
                fetches += 1;
                if fetches > MAX_FETCHES {
                    let reason = "it was collected again and again before it could be evaluated".into();
                    return Err(EvaluatorError::Failed(reason).into());
                }
                fetched.inputs.lock().unwrap_or_else(PoisonError::into_inner).clear();
                let again = self.fetch(&fetched.reference).await?.tree;
                // What is known of the one that was collected would be said of another.
                if again.as_ref().map(Tree::hash) != tree.as_ref().map(Tree::hash) {
                    self.forget();
                    let reason = format!("{} changed while it was being evaluated", fetched.shown());
                    return Err(ResolveError::Unreachable(reason));
                }
                tree = again;
                continue;
            };
            let subject = Subject {
                source: tree.as_ref(),
                inputs,
                flake: shown.trim_matches(['<', '>']),
                set: self.is_set,
                local: is_local(&fetched.reference),
                systems,
                caches,
            };
            let reason = match evaluation::ask(&self.nix.evaluator, subject, &query).await {
                Err(EvaluatorError::Failed(reason)) => reason,
                answer => return Ok(answer?),
            };
            let Some(name) = needed_input(&reason) else { return Err(EvaluatorError::Failed(reason).into()) };
            if begun.elapsed() > self.timeout() {
                return Err(EvaluatorError::TimedOut(self.timeout()).into());
            }
            self.add_input(fetched, tree.as_ref(), name).await?;
        }
    }

    async fn hold(&self, trees: impl Iterator<Item = &Tree>) -> Result<Option<HeldPaths>, ResolveError> {
        let store = self.nix.daemon.store();
        let paths = trees.map(|tree| {
            let path = tree.0.get("path").and_then(|path| path.as_str()).unwrap_or_default();
            store.parse(path).map_err(|error| {
                EvaluatorError::Failed(format!("the fetcher uses another store than NIX_STORE_DIR: {error}"))
            })
        });
        Ok(self.nix.daemon.hold(&paths.collect::<Result<Vec<_>, _>>()?).await?)
    }

    async fn add_input(
        &self,
        fetched: &Fetched,
        tree: Option<&Tree>,
        name: String,
    ) -> Result<(), ResolveError> {
        let inputs = || fetched.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |reason| ResolveError::from(EvaluatorError::Failed(reason));
        // The name is the evaluation's word, and is looked up in the lock file: nothing else can be fetched by it.
        if inputs().contains_key(&name) {
            return Err(failed(format!("the input {name} was fetched, and the evaluation does not find it")));
        }
        if inputs().len() >= MAX_INPUTS {
            return Err(failed(format!("it needs more than {MAX_INPUTS} inputs of its flake.lock")));
        }
        let found = self.call(None, tree, &BTreeSet::from([name.clone()])).await;
        let found = found.map_err(fetch_error::of_input)?;
        let Some(tree) = found.inputs.get(&name) else {
            return Err(failed(format!("flake.lock has no input {name}")));
        };
        inputs().insert(name.clone(), tree.clone());
        // What a revision needs that a client chose says nothing of the source as it is.
        let mut needed = self.needed();
        if self.is_as_configured(fetched) && needed.len() < MAX_INPUTS {
            needed.insert(name);
        }
        Ok(())
    }

    /// Whether the fetcher and the evaluator answer: they are asked for a constant. Gives the evaluator's version of Nix.
    pub(super) async fn ping(&self) -> Ping {
        let (fetcher, evaluator) =
            tokio::join!(evaluation::ping(&self.nix.fetcher), evaluation::ping(&self.nix.evaluator));
        Ping { fetcher, evaluator }
    }
}

/// Whether fetcher and evaluator answer, each with its version of Nix.
#[derive(Debug)]
pub struct Ping {
    /// The fetcher.
    pub fetcher: Result<String, EvaluatorError>,
    /// The evaluator.
    pub evaluator: Result<String, EvaluatorError>,
}

/// Whether it is a folder or repository of this host.
fn is_local(reference: &str) -> bool {
    let scheme = reference.split_once(':').map(|(scheme, _)| scheme);
    reference.starts_with(['/', '.', '<'])
        || scheme.is_some_and(|s| s == "path" || s == "file" || s.ends_with("+file"))
}

/// The input that the evaluation ended for, if it did for one.
fn needed_input(reason: &str) -> Option<String> {
    let (_, name) = reason.split_once(NEEDS)?;
    serde_json::Deserializer::from_str(name).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_says_which_input_it_needs() {
        let abort = |text: &str| format!("evaluation aborted with the following error message: '{text}'");
        assert_eq!(needed_input(&abort(r#"forge-registry-input:"nixpkgs_2""#)).as_deref(), Some("nixpkgs_2"));
        assert_eq!(needed_input(&abort(r#"forge-registry-input:"a\"b'c""#)).as_deref(), Some("a\"b'c"));
        for other in ["forge-registry-input:", "forge-registry-input:{}", "there is no input"] {
            assert_eq!(needed_input(&abort(other)), None);
        }
    }

    #[test]
    fn folders_of_this_host_are_local() {
        for local in ["/r", "path:/r", "git+file:///r", "file:///r.tar.gz", "tarball+file:///r", "<nixpkgs>"]
        {
            assert!(is_local(local), "{local}");
        }
        for remote in
            ["github:o/r", "nixpkgs", "git+ssh://h/r", "https://h/file:x.tar", "tarball+https://h/r"]
        {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
