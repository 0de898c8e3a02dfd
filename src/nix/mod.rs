//! Nix: store paths, the two sockets (nix-daemon and the evaluator), GC roots and build logs.

mod build_log;
mod build_progress;
mod daemon;
mod evaluator;
mod gc_roots;
mod greeting;
mod paths;
mod secrets;
mod store_path;

pub use build_log::{BuildLog, clean_message, strip_ansi};
pub use build_progress::{BuildProgress, BuildStatus};
pub use daemon::{BuildError, BuildSettings, Buildable, DaemonError, NixDaemon, Realised};
pub use evaluator::{Evaluator, EvaluatorError};
pub use gc_roots::{GcRootError, GcRoots};
pub use paths::{ClosureError, PathInfo, Wanted};
pub use secrets::hide_secrets;
pub use store_path::{StoreDir, StorePath, StorePathError};
