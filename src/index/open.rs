//! Opening the index: a damaged one is moved aside, as is one of an older format that nothing leads on from. It can be made
//! again from the Nix store, so it is never a reason not to start. Only a newer one is: it stays as it is.

use super::{
    COMMITS, CONTENTS, FORMAT, Handle, IMAGES, Index, IndexError, LAYERINGS, MEMBERS, META, NAMES, Result,
    TAGS, USED,
};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// Memory for pages of the database. Unit tests see what the file says.
const CACHE_BYTES: usize = if cfg!(test) { 0 } else { 32 << 20 };

/// An open index.
#[derive(Debug)]
pub struct Opened {
    /// The index.
    pub index: Index,
    /// Where a former one was moved to, and why.
    pub moved_aside: Option<(PathBuf, String)>,
}

/// Opens the index in the file `path`, which is made if it does not exist.
pub fn open(path: &Path) -> Result<Opened> {
    let (db, moved_aside) = database(path)?;
    Ok(Opened { index: Index { db: Handle::new(path, db) }, moved_aside })
}

/// The database in the file `path`, and where a former one was moved to.
pub(super) fn database(path: &Path) -> Result<(Database, Option<(PathBuf, String)>)> {
    match try_open(path) {
        Ok(db) => Ok((db, None)),
        Err(Refusal::Fatal(error)) => Err(error),
        Err(Refusal::Unusable(reason)) => {
            let aside = path.with_extension("damaged");
            fs::rename(path, &aside).map_err(|error| IndexError::Io { path: path.into(), error })?;
            match try_open(path) {
                Ok(db) => Ok((db, Some((aside, reason)))),
                Err(Refusal::Fatal(error)) => Err(error),
                Err(Refusal::Unusable(reason)) => {
                    Err(IndexError::Io { path: path.into(), error: std::io::Error::other(reason) })
                }
            }
        }
    }
}

pub(super) enum Refusal {
    /// Another start would not get further: in use, no permission, no space.
    Fatal(IndexError),
    /// This file is of no use, another would be.
    Unusable(String),
}

impl Refusal {
    /// What an error on the way means: a failing disk fails the start, all else is damage.
    pub(super) fn of(error: IndexError) -> Self {
        if error.is_of_the_disk() { Self::Fatal(error) } else { Self::Unusable(error.to_string()) }
    }
}

fn try_open(path: &Path) -> std::result::Result<Database, Refusal> {
    usable(path, |db| check_format(db, path))
}

/// Opens and checks a database, which is made if need be, and then does something with it.
pub(super) fn usable(
    path: &Path,
    work: impl FnOnce(&Database) -> std::result::Result<(), Refusal>,
) -> std::result::Result<Database, Refusal> {
    let file_error = |error| match error {
        DatabaseError::DatabaseAlreadyOpen => Refusal::Fatal(IndexError::InUse(path.into())),
        DatabaseError::Storage(StorageError::Io(error))
            if !matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
            ) =>
        {
            Refusal::Fatal(IndexError::Io { path: path.into(), error })
        }
        error => Refusal::Unusable(error.to_string()),
    };
    // Configurations of images can be private.
    let made = fs::File::options().create(true).append(true).mode(0o600).open(path);
    made.map_err(|error| Refusal::Fatal(IndexError::Io { path: path.into(), error }))?;
    // The checks of the database can panic on pages that make no sense.
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let mut db = Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(file_error)?;
        db.check_integrity().map_err(file_error)?;
        work(&db)?;
        Ok(db)
    }));
    checked.unwrap_or_else(|_| Err(Refusal::Unusable("its pages make no sense".into())))
}

/// Whether all tables are there, each of its type: what readers take for granted.
fn check_tables(db: &Database) -> Result<()> {
    let transaction = db.begin_read()?;
    for table in [TAGS, IMAGES, CONTENTS, LAYERINGS] {
        transaction.open_table(table)?;
    }
    transaction.open_table(MEMBERS)?;
    transaction.open_table(NAMES)?;
    transaction.open_table(USED)?;
    Ok(())
}

/// Makes the table of commits, where there is none.
fn commits(db: &Database) -> Result<()> {
    match db.begin_read()?.open_table(COMMITS) {
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let transaction = db.begin_write()?;
            transaction.open_table(COMMITS)?;
            Ok(transaction.commit()?)
        }
        other => Ok(other.map(drop)?),
    }
}

/// The format that a database says it has; nothing if it is new.
pub(super) fn stated_format(db: &Database) -> std::result::Result<Option<u64>, redb::Error> {
    let transaction = db.begin_read()?;
    match transaction.open_table(META) {
        Ok(table) => Ok(table.get("format")?.map(|format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads the format, or writes it, and makes all tables, so that readers always find them.
fn check_format(db: &Database, path: &Path) -> std::result::Result<(), Refusal> {
    let unusable = |error: redb::Error| Refusal::Unusable(error.to_string());
    match stated_format(db).map_err(unusable)? {
        Some(FORMAT) => {
            // Came without a format of its own: older releases pass over it.
            commits(db).map_err(Refusal::of)?;
            return check_tables(db).map_err(|error| Refusal::Unusable(error.to_string()));
        }
        Some(found) if found > FORMAT => {
            return Err(Refusal::Fatal(IndexError::Newer { path: path.into(), found }));
        }
        Some(other) => {
            return Err(Refusal::Unusable(format!(
                "it has format {other}, this version knows format {FORMAT}"
            )));
        }
        None => {}
    }
    let create = || -> Result<()> {
        let transaction = db.begin_write()?;
        for table in [TAGS, IMAGES, CONTENTS, LAYERINGS] {
            transaction.open_table(table)?;
        }
        transaction.open_table(MEMBERS)?;
        transaction.open_table(NAMES)?;
        transaction.open_table(USED)?;
        transaction.open_table(COMMITS)?;
        transaction.open_table(META)?.insert("format", FORMAT)?;
        transaction.commit()?;
        Ok(())
    };
    create().map_err(Refusal::Fatal)
}
