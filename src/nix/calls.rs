//! Short calls to nix-daemon, on connections that are kept open for them.

use super::{DaemonError, NixDaemon, StorePath, daemon::Connection};
use nix_daemon::{PathInfo, Progress, Store};
use std::{
    collections::HashMap,
    future::Future,
    path::Path,
    sync::{Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// Short calls at a time; so many connections are kept open for them.
const MAX_CALLS: usize = 4;

/// The places of short calls, and the connections that wait for one.
#[derive(Debug)]
pub(super) struct Calls {
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { places: Semaphore::new(MAX_CALLS), idle: Mutex::default() }
    }
}

/// A call that takes no longer than it takes to look something up, and can be sent again on another connection.
pub(super) trait Call: Sync {
    /// What nix-daemon answers.
    type Answer: Send;

    /// Sends the call, and waits for the answer.
    fn send(
        &self,
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Self::Answer, nix_daemon::Error>> + Send;
}

/// Whether a path is in the store and registered.
struct IsValid(String);

impl Call for IsValid {
    type Answer = bool;

    async fn send(&self, connection: &mut Connection) -> Result<bool, nix_daemon::Error> {
        connection.is_valid_path(&self.0).result().await
    }
}

/// Registers a symlink as a root.
struct AddIndirectRoot(String);

impl Call for AddIndirectRoot {
    type Answer = ();

    async fn send(&self, connection: &mut Connection) -> Result<(), nix_daemon::Error> {
        connection.add_indirect_root(&self.0).result().await
    }
}

/// What is registered of a path.
pub(super) struct QueryPathInfo(pub(super) String);

impl Call for QueryPathInfo {
    type Answer = Option<PathInfo>;

    async fn send(&self, connection: &mut Connection) -> Result<Option<PathInfo>, nix_daemon::Error> {
        connection.query_pathinfo(&self.0).result().await
    }
}

/// The outputs of a derivation, by name.
pub(super) struct QueryOutputs(pub(super) String);

impl Call for QueryOutputs {
    type Answer = HashMap<String, String>;

    async fn send(&self, connection: &mut Connection) -> Result<Self::Answer, nix_daemon::Error> {
        connection.query_derivation_output_map(&self.0).result().await
    }
}

/// Store paths that are not collected: their temporary roots last as long as the connection that made them.
pub struct HeldPaths {
    _connection: Connection,
}

impl NixDaemon {
    /// Closes connections that wait for a next call. Each is a process of nix-daemon's, of the version that it had then.
    pub fn close_idle(&self) {
        self.calls.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether the path is in the store and registered.
    pub async fn is_valid(&self, path: &StorePath) -> Result<bool, DaemonError> {
        self.call(&IsValid(self.store().print(path))).await
    }

    /// Keeps paths from the garbage collector for as long as the result lives; nothing if one is not valid (any more).
    pub async fn hold(&self, paths: &[StorePath]) -> Result<Option<HeldPaths>, DaemonError> {
        let mut connection = self.connect().await?;
        for path in paths {
            let path = self.store().print(path);
            self.bounded(connection.add_temp_root(&path).result()).await?;
            if !self.bounded(connection.is_valid_path(&path).result()).await? {
                return Ok(None);
            }
        }
        Ok(Some(HeldPaths { _connection: connection }))
    }

    /// Registers an indirect GC root: `link` is a symlink, outside of the store, that the daemon can read.
    pub async fn add_indirect_root(&self, link: &Path) -> Result<(), DaemonError> {
        self.call(&AddIndirectRoot(link.display().to_string())).await
    }

    /// Runs a short call on an idle connection, else on a new one. A connection that was idle may have been closed by
    /// a restart of the daemon, so a failure on one is tried again on a new one.
    pub(super) async fn call<C: Call>(&self, call: &C) -> Result<C::Answer, DaemonError> {
        let _place = tokio::time::timeout(self.answer_timeout, self.calls.places.acquire())
            .await
            .map_err(|_elapsed| self.unavailable("too busy with earlier calls".into()))?;
        let idle = self.calls.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
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
        let mut idle = self.calls.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_CALLS {
            idle.push(connection);
        }
    }
}
