//! Blobs: where their bytes are, and how they reach a response.

mod body;
mod buffers;
pub mod cache;
mod encoded;
mod mapping;
mod mappings;
mod source;
mod virtual_tar;

pub use body::{Blob, BlobBody, Sight};
pub use buffers::Buffers;
pub use cache::{Cache, CacheError};
pub use encoded::EncodedBody;
pub use mapping::Mapping;
pub use mappings::{Keep, Mappings};
pub use source::{Fingerprint, Source};
pub use virtual_tar::VirtualTar;
