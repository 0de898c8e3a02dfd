//! How large the index is, for the metrics.

use super::{CONTENTS, IMAGES, Index, Result, TAGS};
use crate::metrics::IndexSize;
use redb::ReadableTableMetadata;

impl Index {
    /// How much there is in it.
    pub fn size(&self) -> Result<IndexSize> {
        let bytes = self.db.file_size()?;
        self.read(|transaction| {
            Ok(IndexSize {
                images: transaction.open_table(IMAGES)?.len()?,
                tags: transaction.open_table(TAGS)?.len()?,
                contents: transaction.open_table(CONTENTS)?.len()?,
                bytes,
            })
        })
    }
}
