//! Realising: nix-daemon builds or substitutes what is not there.

use super::{
    BuildLog, BuildProgress, Buildable, DaemonError, NixDaemon, StorePath, clean_message, daemon::Connection,
};
use nix_daemon::{
    BuildMode, BuildResult, BuildResultStatus, ClientSettings, Progress, Stderr, Store, Verbosity,
};
use std::{collections::HashMap, time::Duration};

/// How much later than nix-daemon the registry gives up on a derivation, so that nix-daemon's own word comes first.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(20);

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
    /// Realises outputs and paths: builds or substitutes them and what they need, unless they are there already.
    pub async fn realise(
        &self,
        what: &[Buildable],
        progress: &BuildProgress,
    ) -> Result<Realised, BuildError> {
        let mut connection = self.connect().await?;
        let mut overrides = self.caches.settings();
        overrides.insert("timeout".to_owned(), self.build.timeout.as_secs().to_string());
        let options = ClientSettings {
            verbosity: Verbosity::Info,
            max_build_jobs: self.build.max_jobs,
            overrides,
            ..ClientSettings::default()
        };
        self.bounded(set_options(&mut connection, options)).await?;
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
            let drv = self.store().print(derivation);
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
        let drv = self.store().print(derivation);
        let mut outputs = self.bounded(connection.query_derivation_output_map(&drv).result()).await?;
        let path = outputs.remove(output).ok_or_else(|| BuildError::Failed {
            reason: format!("{derivation} has no output {output:?}"),
            log_tail: Vec::new(),
        })?;
        let path = self.store().parse(&path).map_err(|e| DaemonError::Nix(e.to_string()))?;
        self.bounded(connection.add_temp_root(self.store().print(&path)).result()).await?;
        Ok(path)
    }

    /// A path without a derivation.
    async fn ensure(
        &self,
        connection: &mut Connection,
        path: &StorePath,
        progress: &BuildProgress,
    ) -> Result<StorePath, BuildError> {
        let full = self.store().print(path);
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
}

/// Settings that nix-daemon refuses are worth a line in the log: it says so, and builds without them.
async fn set_options(connection: &mut Connection, options: ClientSettings) -> Result<(), nix_daemon::Error> {
    let mut call = connection.set_options(options);
    while let Some(message) = call.next().await? {
        if let Stderr::Next(text) = message {
            tracing::warn!("nix-daemon: {}", clean_message(&text));
        }
    }
    call.result().await
}

enum Stopped {
    TimedOut,
    Daemon(DaemonError),
}
