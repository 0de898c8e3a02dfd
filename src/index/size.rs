//! How much there is in the index, for the metrics.

use super::{CONTENTS, IMAGES, ImageId, ImageRow, Index, IndexError, Result, TAGS, rows};
use crate::metrics::IndexSize;
use redb::{ReadableTable, ReadableTableMetadata};
use std::collections::HashMap;

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

    /// How many store paths each image has. `known` are some of these numbers: as the store paths are part of an image's
    /// identity they stay what they are, and only the rows of other images are read.
    pub fn object_counts(&self, known: &HashMap<ImageId, usize>) -> Result<HashMap<ImageId, usize>> {
        self.read(|transaction| {
            let mut counts = HashMap::new();
            for entry in transaction.open_table(IMAGES)?.iter()? {
                let (key, row) = entry?;
                let id = ImageId::from_bytes(key.value()).ok_or(IndexError::Damaged("images"))?;
                let count = known.get(&id).copied().unwrap_or_else(|| {
                    // One at least, if the row cannot be read.
                    rows::decode::<ImageRow>("images", key.value(), row.value())
                        .map_or(1, |row| row.objects.len())
                });
                counts.insert(id, count);
            }
            Ok(counts)
        })
    }
}
