//! gzip and zstd, in two ways: once for all, and the same bytes everywhere (`storage`); or while a blob is being sent, as
//! much as its client leaves time for:
//!
//! ```text
//! chunk ─ Pace: which level ─▶ Workspace: compressed ─┬▶ pieces
//!                         └──▶ stored, not copied ────┘
//! ```
//! Chunks are independent of each other, so each can have another level, and none has state that would have to be kept
//! while a client takes its time. What does not get smaller, or comes when all workspaces are in use, is stored.

mod gzip;
mod pace;
mod storage;
mod wire;
mod zstd;

pub use storage::{BLOCK, Compressor, VERSION};
pub use wire::{Encoder, Encoders};

/// A format: of the bytes of a response (RFC 9110, section 8.4.1), or of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}
