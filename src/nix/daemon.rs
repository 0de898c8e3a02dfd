//! nix-daemon: connections to its Unix socket (the worker protocol), and what can go wrong with them.

use super::{Caches, StoreDir, StorePath, calls::Calls, clean_message, greeting::Greeted};
use crate::metrics::DaemonConnections;
use nix_daemon::nix::DaemonStore;
use serde::{Deserialize, Serialize};
use std::{
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
};

/// Reading is buffered since the protocol is read field by field. Writing must not be: the crate never flushes.
pub(super) type Connection = DaemonStore<Join<BufReader<Greeted<OwnedReadHalf>>, OwnedWriteHalf>>;

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
    pub(super) build: BuildSettings,
    pub(super) caches: Caches,
    pub(super) answer_timeout: Duration,
    pub(super) calls: Calls,
    connections: DaemonConnections,
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

impl NixDaemon {
    /// A client of the daemon at `socket`; connects when first needed. `answer_timeout` bounds every call but builds.
    pub fn new(socket: &Path, store: StoreDir, build: BuildSettings, answer_timeout: Duration) -> Self {
        let (caches, calls, version) = (Caches::default(), Calls::default(), Mutex::default());
        let connections = DaemonConnections::default();
        Self { socket: socket.into(), store, build, caches, answer_timeout, calls, connections, version }
    }

    /// Has builds use `caches` as well. nix-daemon must trust the registry's user.
    pub fn with_caches(self, caches: Caches) -> Self {
        Self { caches, ..self }
    }

    /// Counts connections there.
    pub fn with_metrics(self, connections: DaemonConnections) -> Self {
        Self { connections, ..self }
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

    /// Whether the daemon answers: one round trip on a new connection.
    pub async fn ping(&self) -> Result<(), DaemonError> {
        self.connect().await.map(drop)
    }

    pub(super) async fn connect(&self) -> Result<Connection, DaemonError> {
        let connection = self.bounded(async {
            let (read, write) = UnixStream::connect(&self.socket).await?.into_split();
            let (read, greeting) = Greeted::new(read, self.connections.open());
            let connection =
                DaemonStore::builder().init(tokio::io::join(BufReader::new(read), write)).await?;
            let nix = greeting.nix_version().map_or_else(String::new, |version| format!("Nix {version}, "));
            let version = Some(format!("{nix}protocol {}", connection.proto));
            *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
            Ok(connection)
        });
        connection.await.inspect_err(|_| self.connections.failed())
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

    pub(super) fn error(&self, error: nix_daemon::Error) -> DaemonError {
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

    pub(super) fn unavailable(&self, reason: String) -> DaemonError {
        DaemonError::Unavailable { socket: self.socket.clone(), reason }
    }
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
