//! What the index said of tags, for as long as nothing else has been written to it.

use super::Indexed;
use crate::oci::{RepositoryName, Tag};
use lru::LruCache;
use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

/// Tags; the answer for each takes as much memory as its manifest, in both forms.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// A tag's image, and when it was resolved, in seconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) resolved_at: u64,
    pub(super) image: Indexed,
}

/// Answers that were read lately. Each counts only while the index is of the generation that it was read from.
#[derive(Debug)]
pub(super) struct Hot {
    answers: Mutex<LruCache<(RepositoryName, Tag), (u64, Known)>>,
}

impl Default for Hot {
    fn default() -> Self {
        Self { answers: Mutex::new(LruCache::new(CAPACITY)) }
    }
}

impl Hot {
    /// The answer of this generation, else what `read` finds; `generation` was asked for before.
    pub(super) fn get<E>(
        &self,
        key: (RepositoryName, Tag),
        generation: u64,
        read: impl FnOnce() -> Result<Option<Known>, E>,
    ) -> Result<Option<Known>, E> {
        let answers = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, known)) = answers().get(&key)
            && *of == generation
        {
            return Ok(Some(known.clone()));
        }
        let known = read()?;
        if let Some(known) = &known {
            answers().put(key, (generation, known.clone()));
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        image::{Options, Selection},
        index::ImageId,
        nix::StorePath,
        oci::{Digest, Document},
    };
    use std::{convert::Infallible, sync::Arc};

    fn known(resolved_at: u64) -> Known {
        let object = StorePath::from_base_name(&format!("{}-image", "0".repeat(32))).unwrap();
        let document =
            Document { media_type: String::new(), digest: Digest::of(b""), bytes: Default::default() };
        let documents = Arc::new([document.clone(), document]);
        let id = ImageId::of(&[object], &Selection::Only, &Options::default());
        Known { resolved_at, image: Indexed { id, is_current: true, documents } }
    }

    #[test]
    fn an_answer_counts_for_its_tag_and_its_generation_alone() {
        let hot = Hot::default();
        let get = |name: &str, generation, found: Option<u64>| {
            let key = (name.parse().unwrap(), "latest".parse().unwrap());
            let read = || Ok::<_, Infallible>(found.map(known));
            hot.get(key, generation, read).unwrap().map(|known| known.resolved_at)
        };
        assert_eq!(get("a", 7, None), None);
        assert_eq!(get("a", 7, Some(1)), Some(1), "that there was nothing is not remembered");
        assert_eq!(get("a", 7, Some(2)), Some(1));
        assert_eq!(get("b", 7, Some(3)), Some(3));
        assert_eq!(get("a", 8, Some(4)), Some(4));
        assert_eq!(get("a", 9, None), None);
        for n in 0..2 * CAPACITY.get() {
            get(&format!("name{n}"), 9, Some(5));
        }
        assert_eq!(hot.answers.lock().unwrap().len(), CAPACITY.get());
    }
}
