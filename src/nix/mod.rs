//! Nix: store paths, the two sockets (nix-daemon and the evaluator), GC roots and build logs.

mod build_log;
mod build_progress;
mod caches;
mod calls;
mod daemon;
mod evaluator;
mod gc_roots;
mod greeting;
mod paths;
mod realise;
mod secrets;
mod store_path;

pub use build_log::{BuildLog, clean_message, strip_ansi};
pub use build_progress::{BuildProgress, BuildStatus};
pub use caches::{Caches, FlakeCaches};
pub use calls::HeldPaths;
pub use daemon::{BuildSettings, Buildable, DaemonError, NixDaemon};
pub use evaluator::{Evaluator, EvaluatorError};
pub use gc_roots::{GcRootError, GcRoots, Present};
pub use paths::{ClosureError, PathInfo, Wanted};
pub use realise::{BuildError, Realised};
pub use secrets::hide_secrets;
pub use store_path::{StoreDir, StorePath, StorePathError};
