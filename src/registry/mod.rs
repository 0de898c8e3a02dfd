//! The use cases: manifests, blobs, tags, the catalog. The one place where resolving, building, recognising and the
//! index meet.
//!
//! A request for a tag goes down these steps, and stops at the first that has the answer:
//!
//! 1. the index knows what the tag led to, recently enough (`tags.rs`);
//! 2. the evaluator says which derivation the name means now (`tags.rs`), and its image is known (`images.rs`);
//! 3. nix-daemon realises it, it is recognised, hashed and written to the index (`images.rs`).
//!
//! A request for the tag of a referrer, which is what clients look for signatures by, is answered from the index alone
//! (`referrers.rs`).
//!
//! A request for a digest is answered from the index; the bytes come from the store or the blob cache, and are made
//! again if they have gone (`blobs.rs`).

mod allowance;
mod blobs;
mod caller;
mod error;
mod flight;
mod forget;
mod hot;
mod images;
mod inventory;
mod listing;
mod look_ups;
mod meanings;
mod measuring;
mod memory;
mod packages;
mod plan;
mod readiness;
mod referrers;
mod retention;
mod snapshot;
mod state;
mod tags;
mod time;
mod turns;
mod work;

pub use caller::{Caller, Patience};
pub use error::RegistryError;
use error::end;
pub use inventory::{ImageDetails, ImageSummary, LayerDetails, Place, RootDetails};
pub use readiness::Readiness;
pub use retention::{Collect, Dropped, Retention};
pub use snapshot::Snapshot;
pub use state::{StateError, format as state_format};
pub use time::Time;
pub use work::{Step, Task, Work};

use crate::{
    access::Client,
    blob::{Buffers, Cache, Mappings},
    closure::Popularity,
    image::{Limits, Options, Resources},
    index::{self, ImageId, Index},
    metrics::{Measured, Metrics},
    nix::{Buildable, GcRoots, NixDaemon},
    oci::{Digest, Document, Reference, RepositoryName, Tag},
    resolve::{CatalogError, Resolver},
};
use allowance::Unknowns;
use flight::{Flight, Flights, landed};
use hot::Hot;
use images::{Held, Indexed};
use look_ups::LookUps;
use meanings::Evaluated;
use measuring::ExpectedRoots;
use memory::Memory;
use state::State;
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::RwLock;
use turns::{Queue, Turns};
use work::Behalf;

type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// How the registry behaves; each field is a setting of the same name.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a tag's answer is taken for current.
    pub tag_ttl: Duration,
    /// How long after that the old answer is still given while a new one is sought.
    pub tag_stale: Duration,
    /// How long a request waits for an evaluation, a build and the reading of its image.
    pub pull_wait: Duration,
    /// The same, for clients that do not come back when asked to.
    pub pull_wait_once: Duration,
    /// How long a failed evaluation or build is remembered.
    pub failure_ttl: Duration,
    /// How long it is remembered that a name or tag does not exist.
    pub unknown_ttl: Duration,
    /// Failures and answers of the evaluator that are remembered at a time.
    pub max_remembered: NonZeroUsize,
    /// Builds at a time, and images that are read at a time.
    pub max_builds: NonZeroUsize,
    /// Builds that wait for their turn.
    pub max_queued_builds: usize,
    /// Images that are in the store already and wait to be read.
    pub max_queued_readings: usize,
    /// Evaluations at a time.
    pub max_evaluations: NonZeroUsize,
    /// Evaluations that wait for their turn.
    pub max_queued_evaluations: usize,
    /// Evaluations that one client may have running or waiting; zero is no limit.
    pub max_client_evaluations: usize,
    /// Builds that one client may have running or waiting; zero is no limit.
    pub max_client_builds: usize,
    /// Evaluations a minute that one client may cause and that lead to no image; zero is no limit.
    pub max_client_unknown: usize,
    /// Tags an hour that are looked up as revisions; zero is no limit, and the sources decide if it is not set.
    pub max_revisions: Option<usize>,
    /// How long the parts that this registry depends on may take to say that they are ready.
    pub ready_timeout: Duration,
    /// Files that are kept mapped.
    pub max_mapped_files: NonZeroUsize,
    /// Memory for chunks on their way into responses, in bytes (`MAX_BUFFER_BYTES`).
    pub max_buffer_bytes: u64,
    /// When images are dropped.
    pub retention: Retention,
    /// Bytes of the blob cache.
    pub cache_max_bytes: u64,
    /// Bytes of entry lists.
    pub layers_max_bytes: u64,
    /// How images are made.
    pub image_options: Options,
    /// Store paths that the runtime closure of a package may have.
    pub max_closure_paths: usize,
    /// What `image_options` has the digest of.
    pub popularity: Arc<Popularity>,
    /// What an image may be at most.
    pub image_limits: Limits,
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    _state: State,
    settings: Settings,
    metrics: Metrics,
    resolver: Resolver,
    daemon: NixDaemon,
    roots: GcRoots,
    index: Index,
    reader: Resources,
    turns: Turns,
    unknowns: Unknowns,
    look_ups: LookUps,
    evaluating: Flights<(RepositoryName, Option<Tag>), Result<Arc<Evaluated>>>,
    updating: Flights<(RepositoryName, Tag), Result<Indexed>>,
    building: Flights<Vec<Buildable>, Result<Arc<Held>>>,
    indexing: Flights<ImageId, Result<Indexed>>,
    /// With whether it may be built for that.
    restoring: Flights<(ImageId, Digest, bool), Result<()>>,
    listing: Flights<(), Result<Arc<Vec<RepositoryName>>>>,
    checking: Flights<(), Readiness>,
    checked: Memory<(), Readiness>,
    measuring: Flights<(), Arc<Measured>>,
    measured: Memory<(), Arc<Measured>>,
    /// For the metrics.
    expected: ExpectedRoots,
    evaluated: Memory<(RepositoryName, Option<Tag>), Arc<Evaluated>>,
    /// Tags that led nowhere.
    failures: Memory<(RepositoryName, Tag), RegistryError>,
    /// Names that cannot be resolved, whatever the tag.
    unresolved: Memory<RepositoryName, RegistryError>,
    /// Images whose blobs cannot be made again.
    lost: Memory<ImageId, RegistryError>,
    /// Tags that were forgotten on request, and may be being pulled.
    forgotten: Memory<RepositoryName, Vec<Tag>>,
    listed: Memory<(), Result<Arc<Vec<RepositoryName>>>>,
    /// The last list that could be made, however long ago: these names are no guesses.
    last_listed: Mutex<Arc<Vec<RepositoryName>>>,
    /// Clients that get what a tag led to, since they may not have it looked up now.
    refused: Memory<(RepositoryName, Tag, Option<Client>), ()>,
    hot: Hot,
    mapped: Mappings,
    buffers: Arc<Buffers>,
    used: Mutex<HashMap<ImageId, u64>>,
    /// When the sources were read again on request; what names meant before then is not taken for current.
    reloaded: AtomicU64,
    /// Held by whoever adds a root and a row, and alone by whoever removes both.
    changing: RwLock<()>,
}

/// What a request for a manifest leads to.
#[derive(Debug, Clone)]
pub struct ManifestAnswer {
    /// The canonical documents, the OCI form first; exactly one when the manifest was asked for by digest.
    pub documents: Vec<Document>,
}

impl Registry {
    /// Opens the registry whose state lies in `state_dir`, which is made if need be. Nothing is connected to yet.
    pub fn open(
        state_dir: &Path,
        settings: Settings,
        daemon: NixDaemon,
        resolver: Resolver,
        metrics: Metrics,
    ) -> Result<Arc<Self>, StateError> {
        let folder = |path: PathBuf| move |error| StateError::Folder { path, error };
        // First of all: it is locked, and so keeps a second process away from the rest.
        let state = State::open(state_dir)?;
        let opened = index::open(&state_dir.join(state::INDEX))?;
        if let Some((aside, reason)) = opened.moved_aside {
            tracing::warn!(
                moved_to = %aside.display(),
                "the index cannot be used and was moved aside ({reason}); images are indexed again when asked for"
            );
        }
        let blobs = state_dir.join("blobs");
        let cache =
            Cache::open(&blobs, settings.cache_max_bytes, "CACHE_MAX_BYTES").map_err(folder(blobs))?;
        let layers = state_dir.join("layers");
        let lists =
            Cache::open(&layers, settings.layers_max_bytes, "LAYERS_MAX_BYTES").map_err(folder(layers))?;
        let gcroots = state_dir.join("gcroots");
        let roots = GcRoots::open(&gcroots).map_err(folder(gcroots))?;
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let (cache, lists, limits) = (Arc::new(cache), Arc::new(lists), settings.image_limits.clone());
        let reader = Resources { cache, lists, limits, threads };
        metrics.evaluations.limit(settings.max_evaluations.get(), settings.max_queued_evaluations);
        metrics.builds.limit(settings.max_builds.get(), settings.max_queued_builds);
        metrics.readings.limit(settings.max_builds.get(), settings.max_queued_readings);
        let look_ups = LookUps::new(settings.max_revisions, &resolver.remotes());
        let registry = Self {
            _state: state,
            metrics,
            resolver,
            daemon,
            roots,
            index: opened.index,
            reader,
            turns: Turns::new(&settings),
            unknowns: Unknowns::new(settings.max_client_unknown, settings.max_remembered),
            look_ups,
            evaluating: Flights::default(),
            updating: Flights::default(),
            building: Flights::default(),
            indexing: Flights::default(),
            restoring: Flights::default(),
            listing: Flights::default(),
            checking: Flights::default(),
            checked: Memory::new(NonZeroUsize::MIN),
            measuring: Flights::default(),
            measured: Memory::new(NonZeroUsize::MIN),
            expected: ExpectedRoots::default(),
            evaluated: Memory::new(settings.max_remembered),
            failures: Memory::new(settings.max_remembered),
            unresolved: Memory::new(settings.max_remembered),
            lost: Memory::new(settings.max_remembered),
            forgotten: Memory::new(settings.max_remembered),
            listed: Memory::new(NonZeroUsize::MIN),
            last_listed: Mutex::default(),
            refused: Memory::new(settings.max_remembered),
            hot: Hot::default(),
            mapped: Mappings::new(settings.max_mapped_files),
            buffers: Buffers::for_chunks(settings.max_buffer_bytes),
            used: Mutex::default(),
            reloaded: AtomicU64::new(0),
            changing: RwLock::default(),
            settings,
        };
        registry.sweep()?;
        Ok(Arc::new(registry))
    }

    /// The manifest that a tag or digest leads to.
    pub async fn manifest(
        self: &Arc<Self>,
        repository: &RepositoryName,
        reference: &Reference,
        caller: &Caller,
    ) -> Result<ManifestAnswer> {
        match reference {
            Reference::Tag(tag) => {
                let image = self.by_tag(repository, tag, caller).await?;
                self.touch(image.id);
                Ok(ManifestAnswer { documents: image.documents.to_vec() })
            }
            Reference::Referrer(tag) => {
                let image = self.referrer(repository, tag)?;
                self.touch(image.id);
                Ok(ManifestAnswer { documents: image.documents.to_vec() })
            }
            Reference::Digest(digest) => {
                let document = match self.document_in(repository, digest)? {
                    Some(document) => document,
                    // A pull that is pinned to a digest finds it as long as the source still leads to it.
                    None => {
                        let unknown = || RegistryError::ManifestUnknown {
                            message: format!("{repository} has no manifest {digest}"),
                        };
                        self.by_tag(repository, &tags::latest(), caller).await.map_err(
                            |error| match error {
                                RegistryError::NameUnknown { .. } | RegistryError::ManifestUnknown { .. } => {
                                    unknown()
                                }
                                error => error,
                            },
                        )?;
                        self.document_in(repository, digest)?.ok_or_else(unknown)?
                    }
                };
                Ok(ManifestAnswer { documents: vec![document] })
            }
        }
    }

    /// Reads the catalog again, if there is one, and forgets what names meant; the number of entries. A catalog that
    /// cannot be used changes nothing.
    pub async fn reload_catalog(&self) -> Result<Option<usize>, CatalogError> {
        let entries = self.resolver.reload_catalog().await?;
        self.reloaded.store(now(), Ordering::Relaxed);
        self.resolver.forget_sources();
        self.failures.clear();
        self.unresolved.clear();
        self.listed.clear();
        self.refused.clear();
        Ok(entries)
    }

    /// What is being done for those who wait for this manifest, if anybody does.
    pub fn work(&self, repository: &RepositoryName, reference: &Reference) -> Option<Arc<Work>> {
        let tag = match reference {
            Reference::Tag(tag) => tag.clone(),
            Reference::Digest(_) => tags::latest(),
            // Nothing is ever done for one.
            Reference::Referrer(_) => return None,
        };
        self.updating.running(&(repository.clone(), tag)).map(|flight| flight.work)
    }

    /// Waits for shared work for as long as a request may take.
    async fn patient<T: Clone>(&self, join: impl Fn() -> Flight<Result<T>>, wait: Duration) -> Result<T> {
        let mut last = None;
        let join = || {
            let flight = join();
            last = Some((flight.since, flight.work.clone()));
            flight
        };
        match tokio::time::timeout(wait, landed(join)).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let (so_far, work) =
                    last.map_or_else(Default::default, |(since, work)| (since.elapsed(), work));
                // Clients try a handful of times; the longer the build, the longer they are asked to wait.
                let retry_after = so_far.clamp(Duration::from_secs(5), Duration::from_secs(60));
                Err(RegistryError::InProgress {
                    message: format!("{}, pull again to join it", work.describe()),
                    retry_after,
                })
            }
        }
    }
}

/// Microseconds since 1970: finer than images can follow upon each other, so that the least recently used is known.
fn used_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Seconds since 1970.
fn now() -> u64 {
    seconds(SystemTime::now())
}

/// The same of another time.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
