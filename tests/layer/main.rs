//! Layers that are computed from store paths, beside what Python's `tarfile` and GNU tar make of the same files.

mod bytes;
mod changes;
mod large;
mod listed;
#[path = "../reference/mod.rs"]
mod reference;
mod support;
mod trees;
mod unpacked;
