//! Layers that are computed from store paths: virtual tar archives.
//!
//! ```text
//! contents ─▶ items ─▶ entries ─ header ─▶ headers ┬─ make ─▶ size and digest
//!                                contents of files ┘    └───▶ entry list ─ pieces ─▶ any range, later
//! ```
//! One pass reads every file once, hashes the archive and writes down its entries. From that list any range of the
//! archive is produced without the bytes before it: headers are computed again, contents are in the files.
//!
//! A layer is [`StorePaths`] with all below them, [`Listed`] items, or whatever else implements [`Contents`]. Its
//! [`Style`] says whose bytes it has: Python's `tarfile` (nixpkgs' `stream_layered_image.py`) or Go's `archive/tar`.
//!
//! This module knows about tar and folders; it knows nothing of images, HTTP or daemons.

mod contents;
mod entry;
mod error;
mod header;
mod list;
mod make;
mod name;
mod style;
mod walk;

pub use contents::{Contents, Item, Listed, MAX_INLINE, MAX_NAME, StorePaths, Take, What};
pub use entry::{Entry, Kind, Mark};
pub use error::LayerError;
pub use header::write as write_header;
pub use list::{EntryList, ListWriter, Piece, Recent};
pub use make::{Made, make, recipe};
pub use style::{Owner, Style, Writer};
pub use walk::{Found, walk};
