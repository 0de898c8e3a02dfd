//! Nix: store paths, the two sockets (nix-daemon and the evaluator), GC roots and build logs.

mod store_path;

pub use store_path::{StoreDir, StorePath, StorePathError};
