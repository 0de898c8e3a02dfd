//! Content codings: bytes of a blob, compressed while they are sent.
//!
//! ```text
//! chunk ─ Pace: which level ─▶ Workspace: compressed ─┬▶ pieces
//!                         └──▶ stored, not copied ────┘
//! ```
//! Chunks are independent of each other, so each can have another level, and none has state that would have to be kept
//! while a client takes its time. What does not get smaller, or comes when all workspaces are in use, is stored.

mod gzip;
mod pace;
mod wire;
mod zstd;

pub use wire::{Encoder, Encoders};

/// How the bytes of a response are encoded (RFC 9110, section 8.4.1).
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
