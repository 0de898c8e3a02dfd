//! nix-daemon: realising derivations, path queries and roots over its Unix socket (the worker protocol).

use super::{BuildLog, BuildProgress, StoreDir, StorePath, clean_message, greeting::Greeted};
use nix_daemon::{
    BuildMode, BuildResult, BuildResultStatus, ClientSettings, Progress, Store, Verbosity, nix::DaemonStore,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{BufReader, Join},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
};

/// Reading is buffered since the protocol is read field by field. Writing must not be: the crate never flushes.
pub(super) type Connection = DaemonStore<Join<BufReader<Greeted<OwnedReadHalf>>, OwnedWriteHalf>>;

/// Short calls at a time; so many connections are kept open for them.
const MAX_CALLS: usize = 4;
/// How much later than nix-daemon the registry gives up on a derivation, so that nix-daemon's own word comes first.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(20);

/// How builds are to run.
#[derive(Debug, Clone, Copy)]
pub struct BuildSettings {
    /// How long one derivation may build.
    pub timeout: Duration,
    /// How many derivations nix-daemon may build at a time for one request.
    pub max_jobs: u64,
}

/// A client of nix-daemon.
#[derive(Debug)]
pub struct NixDaemon {
    socket: PathBuf,
    store: StoreDir,
    build: BuildSettings,
    answer_timeout: Duration,
    calls: Semaphore,
    idle: Mutex<Vec<Connection>>,
    /// What nix-daemon said that it is, when it was last connected to.
    version: Mutex<Option<String>>,
}

/// nix-daemon did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DaemonError {
    /// The socket cannot be reached, the connection broke, or there was no answer.
    #[error("nix-daemon at {socket:?}: {reason}")]
    Unavailable {
        /// The socket.
        socket: PathBuf,
        /// What the operating system or the protocol says.
        reason: String,
    },
    /// nix-daemon answered with an error.
    #[error("nix-daemon: {0}")]
    Nix(String),
}

/// What nix-daemon can realise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Buildable {
    /// One output of a derivation.
    Output {
        /// The `.drv`.
        derivation: StorePath,
        /// The output's name, mostly `out`.
        output: String,
    },
    /// A store path without a known derivation: it is there, or a substituter has it.
    Path(StorePath),
}

impl Buildable {
    /// A name to show to people.
    pub fn name(&self) -> &str {
        match self {
            Self::Output { derivation, .. } => derivation.name().trim_end_matches(".drv"),
            Self::Path(path) => path.name(),
        }
    }
}

/// Why something could not be realised.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BuildError {
    /// A builder failed, or nix-daemon refused.
    #[error("{reason}")]
    Failed {
        /// Nix's own message, without colours.
        reason: String,
        /// The last lines of the log, without colours.
        log_tail: Vec<String>,
    },
    /// The time limit passed.
    #[error("exceeded the time limit of {} s (NIX_BUILD_TIMEOUT)", .limit.as_secs())]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// The last lines of the log.
        log_tail: Vec<String>,
    },
    /// The derivation, or the path, is not in the store (any more), and no substituter has it.
    #[error("{0} is not in the Nix store")]
    Gone(StorePath),
    /// nix-daemon does not answer.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

/// Realised store paths. The connection that realised them is kept open, since its temporary roots protect the paths
/// from collection until lasting roots are registered.
#[derive(Debug)]
pub struct Realised {
    /// One for each thing that was to be realised, in that order.
    pub paths: Vec<StorePath>,
    _temporary_roots: Connection,
}

impl NixDaemon {
    /// A client of the daemon at `socket`; connects when first needed. `answer_timeout` bounds every call but builds.
    pub fn new(socket: &Path, store: StoreDir, build: BuildSettings, answer_timeout: Duration) -> Self {
        let (calls, idle) = (Semaphore::new(MAX_CALLS), Mutex::default());
        let version = Mutex::default();
        Self { socket: socket.into(), store, build, answer_timeout, calls, idle, version }
    }

    /// The store folder.
    pub fn store(&self) -> &StoreDir {
        &self.store
    }

    /// What the daemon says that it is, `Nix 2.34.8, protocol 1.38` for instance.
    pub async fn version(&self) -> Result<String, DaemonError> {
        self.connect().await?;
        Ok(self.known_version().unwrap_or_default())
    }

    fn known_version(&self) -> Option<String> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes connections that wait for a next call. Each is a process of nix-daemon's, of the version that it had then.
    pub fn close_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether the daemon answers: one round trip on a new connection.
    pub async fn ping(&self) -> Result<(), DaemonError> {
        self.connect().await.map(drop)
    }

    /// Whether the path is in the store and registered.
    pub async fn is_valid(&self, path: &StorePath) -> Result<bool, DaemonError> {
        self.call(&Call::IsValid(self.store.print(path))).await
    }

    /// Registers an indirect GC root: `link` is a symlink, outside of the store, that the daemon can read.
    pub async fn add_indirect_root(&self, link: &Path) -> Result<(), DaemonError> {
        self.call(&Call::AddIndirectRoot(link.display().to_string())).await.map(drop)
    }

    /// Realises outputs and paths: builds or substitutes them and what they need, unless they are there already.
    pub async fn realise(
        &self,
        what: &[Buildable],
        progress: &BuildProgress,
    ) -> Result<Realised, BuildError> {
        let mut connection = self.connect().await?;
        let options = ClientSettings {
            verbosity: Verbosity::Info,
            max_build_jobs: self.build.max_jobs,
            overrides: HashMap::from([("timeout".to_owned(), self.build.timeout.as_secs().to_string())]),
            ..ClientSettings::default()
        };
        self.bounded(connection.set_options(options).result()).await?;
        self.build_outputs(&mut connection, what, progress).await?;
        let mut paths = Vec::with_capacity(what.len());
        for buildable in what {
            paths.push(match buildable {
                Buildable::Output { derivation, output } => {
                    self.output(&mut connection, derivation, output).await?
                }
                Buildable::Path(path) => self.ensure(&mut connection, path, progress).await?,
            });
        }
        Ok(Realised { paths, _temporary_roots: connection })
    }

    /// Builds all that has a derivation, together.
    async fn build_outputs(
        &self,
        connection: &mut Connection,
        what: &[Buildable],
        progress: &BuildProgress,
    ) -> Result<(), BuildError> {
        let mut derivations = Vec::new();
        let mut wanted = Vec::new();
        for buildable in what {
            let Buildable::Output { derivation, output } = buildable else { continue };
            let drv = self.store.print(derivation);
            // Protects the derivation while it is being built.
            self.bounded(connection.add_temp_root(&drv).result()).await?;
            wanted.push(format!("{drv}!{output}"));
            derivations.push((derivation, drv));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let mut log = BuildLog::default();
        let built = self
            .follow(&mut log, progress, connection.build_paths_with_results(&wanted, BuildMode::Normal))
            .await
            .map_err(|stopped| self.stopped(stopped, std::mem::take(&mut log)))
            .and_then(|results| self.check_results(results, log));
        if let Err(error @ BuildError::Failed { .. }) = built {
            for (derivation, drv) in derivations {
                if !self.bounded(connection.is_valid_path(&drv).result()).await.unwrap_or(true) {
                    return Err(BuildError::Gone(derivation.clone()));
                }
            }
            return Err(error);
        }
        built
    }

    /// The path of an output that has been built.
    async fn output(
        &self,
        connection: &mut Connection,
        derivation: &StorePath,
        output: &str,
    ) -> Result<StorePath, BuildError> {
        let drv = self.store.print(derivation);
        let mut outputs = self.bounded(connection.query_derivation_output_map(&drv).result()).await?;
        let path = outputs.remove(output).ok_or_else(|| BuildError::Failed {
            reason: format!("{derivation} has no output {output:?}"),
            log_tail: Vec::new(),
        })?;
        let path = self.store.parse(&path).map_err(|e| DaemonError::Nix(e.to_string()))?;
        self.bounded(connection.add_temp_root(self.store.print(&path)).result()).await?;
        Ok(path)
    }

    /// A path without a derivation.
    async fn ensure(
        &self,
        connection: &mut Connection,
        path: &StorePath,
        progress: &BuildProgress,
    ) -> Result<StorePath, BuildError> {
        let full = self.store.print(path);
        self.bounded(connection.add_temp_root(&full).result()).await?;
        let mut log = BuildLog::default();
        match self.follow(&mut log, progress, connection.ensure_path(&full)).await {
            Ok(()) => Ok(path.clone()),
            Err(Stopped::Daemon(DaemonError::Nix(reason))) => {
                tracing::debug!(%path, reason, "not in the store, and no substituter has it");
                Err(BuildError::Gone(path.clone()))
            }
            Err(stopped) => Err(self.stopped(stopped, log)),
        }
    }

    fn check_results(&self, results: HashMap<String, BuildResult>, log: BuildLog) -> Result<(), BuildError> {
        use BuildResultStatus as Status;
        let is_failure = |result: &BuildResult| {
            !matches!(
                result.status,
                Status::Built | Status::Substituted | Status::AlreadyValid | Status::ResolvesToAlreadyValid
            )
        };
        match results.into_values().find(is_failure) {
            None => Ok(()),
            Some(result) if result.status == Status::TimedOut => {
                Err(BuildError::TimedOut { limit: self.build.timeout, log_tail: log.into_tail() })
            }
            Some(result) => {
                let reason = match clean_message(&result.error_msg) {
                    empty if empty.is_empty() => format!("the build ended with {:?}", result.status),
                    reason => reason,
                };
                Err(BuildError::Failed { reason, log_tail: log.into_tail() })
            }
        }
    }

    /// Drives a call that can take long and feeds the log. Gives up when no derivation began or ended for longer than
    /// one derivation may take, in case nix-daemon does not enforce it.
    async fn follow<T: Send>(
        &self,
        log: &mut BuildLog,
        progress: &BuildProgress,
        mut call: impl Progress<T = T, Error = nix_daemon::Error>,
    ) -> Result<T, Stopped> {
        loop {
            let deadline = log.last_step() + self.build.timeout + TIMEOUT_MARGIN;
            match tokio::time::timeout_at(deadline.into(), call.next()).await {
                Err(_) => return Err(Stopped::TimedOut),
                Ok(Err(error)) => return Err(Stopped::Daemon(self.error(error))),
                Ok(Ok(Some(message))) => {
                    progress.record(&message);
                    log.record(message);
                }
                Ok(Ok(None)) => break,
            }
        }
        self.bounded(call.result()).await.map_err(Stopped::Daemon)
    }

    fn stopped(&self, stopped: Stopped, log: BuildLog) -> BuildError {
        match stopped {
            Stopped::TimedOut => {
                BuildError::TimedOut { limit: self.build.timeout, log_tail: log.into_tail() }
            }
            Stopped::Daemon(DaemonError::Nix(reason)) => {
                BuildError::Failed { reason, log_tail: log.into_tail() }
            }
            Stopped::Daemon(error) => BuildError::Daemon(error),
        }
    }

    /// Runs a short call on an idle connection, else on a new one. A connection that was idle may have been closed by
    /// a restart of the daemon, so a failure on one is tried again on a new one.
    async fn call(&self, call: &Call) -> Result<bool, DaemonError> {
        let _place = tokio::time::timeout(self.answer_timeout, self.calls.acquire())
            .await
            .map_err(|_elapsed| self.unavailable("too busy with earlier calls".into()))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut connection) = idle {
            match self.bounded(call.send(&mut connection)).await {
                Err(DaemonError::Unavailable { .. }) => {}
                answer => {
                    self.keep(connection);
                    return answer;
                }
            }
        }
        let mut connection = self.connect().await?;
        let answer = self.bounded(call.send(&mut connection)).await;
        // A connection that broke in the middle of a message says nonsense ever after.
        if !matches!(answer, Err(DaemonError::Unavailable { .. })) {
            self.keep(connection);
        }
        answer
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_CALLS {
            idle.push(connection);
        }
    }

    pub(super) async fn connect(&self) -> Result<Connection, DaemonError> {
        self.bounded(async {
            let (read, write) = UnixStream::connect(&self.socket).await?.into_split();
            let (read, greeting) = Greeted::new(read);
            let connection =
                DaemonStore::builder().init(tokio::io::join(BufReader::new(read), write)).await?;
            let nix = greeting.nix_version().map_or_else(String::new, |version| format!("Nix {version}, "));
            let version = Some(format!("{nix}protocol {}", connection.proto));
            *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
            Ok(connection)
        })
        .await
    }

    pub(super) async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, nix_daemon::Error>>,
    ) -> Result<T, DaemonError> {
        match tokio::time::timeout(self.answer_timeout, call).await {
            Ok(answer) => answer.map_err(|error| self.error(error)),
            Err(_) => {
                Err(self.unavailable(format!("no answer within {} s", self.answer_timeout.as_secs_f32())))
            }
        }
    }

    fn error(&self, error: nix_daemon::Error) -> DaemonError {
        match error {
            nix_daemon::Error::NixError(error) => DaemonError::Nix(clean_message(&error.msg)),
            error if is_eof(&error) => {
                self.unavailable("the connection was closed in the middle of an answer".into())
            }
            error => match (invalid(&error), self.known_version()) {
                (Some(what), Some(version)) => self.unavailable(format!(
                    "it is {version}, and says something that this registry does not understand: {what} \
                     (numbers are hexadecimal)"
                )),
                _ => self.unavailable(error.to_string()),
            },
        }
    }

    fn unavailable(&self, reason: String) -> DaemonError {
        DaemonError::Unavailable { socket: self.socket.clone(), reason }
    }
}

/// A short call, which can be sent again on another connection.
enum Call {
    IsValid(String),
    AddIndirectRoot(String),
}

impl Call {
    async fn send(&self, connection: &mut Connection) -> Result<bool, nix_daemon::Error> {
        match self {
            Self::IsValid(path) => connection.is_valid_path(path).result().await,
            Self::AddIndirectRoot(link) => connection.add_indirect_root(link).result().await.map(|()| true),
        }
    }
}

enum Stopped {
    TimedOut,
    Daemon(DaemonError),
}

/// The value that the protocol of the client does not have.
fn invalid(error: &nix_daemon::Error) -> Option<&str> {
    match error {
        nix_daemon::Error::Field(_, inner) => invalid(inner),
        nix_daemon::Error::Invalid(what) => Some(what),
        _ => None,
    }
}

fn is_eof(error: &nix_daemon::Error) -> bool {
    match error {
        nix_daemon::Error::Field(_, inner) => is_eof(inner),
        nix_daemon::Error::IO(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}
