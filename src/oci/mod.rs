//! The vocabulary of the OCI Distribution and Image specifications: values that exist only if they parsed.
//!
//! Nothing here does I/O or knows of HTTP, Nix or files.

mod digest;
mod error;
mod manifest;
pub mod media_type;
mod name;
mod reference;

pub use digest::{Digest, DigestError, DigestWriter};
pub use error::{ErrorBody, ErrorCode, ErrorEntry};
pub use manifest::{Descriptor, Document, Index, Manifest, Platform};
pub use name::{NameError, RepositoryName};
pub use reference::{Reference, ReferenceError, ReferrerTag, Tag, TagError};
