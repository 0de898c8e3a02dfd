//! The open database, which is opened again when the disk has failed it.

use super::{IndexError, Result, open};
use redb::Database;
use std::{
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The open database.
#[derive(Debug)]
pub(super) struct Handle {
    path: PathBuf,
    open: RwLock<Open>,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Open {
    /// How often it has been opened.
    times: u64,
    /// None while it cannot be opened again after a failure.
    db: Option<Database>,
}

impl Handle {
    pub(super) fn new(path: &Path, db: Database) -> Self {
        Self {
            path: path.into(),
            open: RwLock::new(Open { times: 1, db: Some(db) }),
            generation: AtomicU64::new(0),
        }
    }

    /// Does something with the database. It keeps its distance from a disk that has failed once, even if it was only
    /// full for a while; then it is opened again.
    pub(super) fn with<T>(&self, work: impl Fn(&Database) -> Result<T>) -> Result<T> {
        let (times, result) = self.attempt(&work);
        match result {
            Err(error) if error.is_of_the_disk() => {
                self.reopen(times)?;
                // What failed just now would fail again; what failed earlier and only shows now need not.
                let now = matches!(error, IndexError::Database(redb::Error::Io(_)));
                if now { Err(error) } else { self.attempt(&work).1 }
            }
            result => result,
        }
    }

    /// The bytes of its file.
    pub(super) fn file_size(&self) -> Result<u64> {
        let file_error = |error| IndexError::Io { path: self.path.clone(), error };
        Ok(std::fs::metadata(&self.path).map_err(file_error)?.len())
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Says that what was read until now may hold no more.
    pub(super) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn attempt<T>(&self, work: impl Fn(&Database) -> Result<T>) -> (u64, Result<T>) {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let result = match &open.db {
            Some(db) => work(db),
            None => Err(redb::Error::DatabaseClosed.into()),
        };
        (open.times, result)
    }

    /// Closes the database and opens it again, as the next start would, unless somebody else has since `times`.
    fn reopen(&self, times: u64) -> Result<()> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.times != times {
            return Ok(());
        }
        open.db = None;
        let (db, moved_aside) = open::database(&self.path)?;
        match moved_aside {
            None => tracing::info!("the index was opened again after a failure of the disk"),
            Some((aside, reason)) => {
                tracing::warn!(moved_to = %aside.display(), "the index cannot be used and was moved aside ({reason})");
            }
        }
        *open = Open { times: times + 1, db: Some(db) };
        self.changed();
        Ok(())
    }
}
