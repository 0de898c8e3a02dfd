//! Opening the index: a damaged one, or one of another format, is moved aside. It can be made again from the Nix store,
//! so it is never a reason not to start.

use super::{
    CONTENTS, FORMAT, Handle, IMAGES, Index, IndexError, LAYERINGS, MEMBERS, META, Result, TAGS, USED,
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

enum Refusal {
    /// Another start would not get further: in use, no permission, no space.
    Fatal(IndexError),
    /// This file is of no use, another would be.
    Unusable(String),
}

fn try_open(path: &Path) -> std::result::Result<Database, Refusal> {
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
        check_format(&db)?;
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
    transaction.open_table(USED)?;
    Ok(())
}

/// Reads the format, or writes it, and makes all tables, so that readers always find them.
fn check_format(db: &Database) -> std::result::Result<(), Refusal> {
    let unusable = |error: redb::Error| Refusal::Unusable(error.to_string());
    let format = {
        let transaction = db.begin_read().map_err(|e| unusable(e.into()))?;
        match transaction.open_table(META) {
            Ok(table) => table.get("format").map_err(|e| unusable(e.into()))?.map(|format| format.value()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(unusable(error.into())),
        }
    };
    match format {
        Some(FORMAT) => return check_tables(db).map_err(|error| Refusal::Unusable(error.to_string())),
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
        transaction.open_table(USED)?;
        transaction.open_table(META)?.insert("format", FORMAT)?;
        transaction.commit()?;
        Ok(())
    };
    create().map_err(Refusal::Fatal)
}
