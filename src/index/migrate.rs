//! From one format of the index to the next.

use super::{
    FORMAT, IndexError, MEMBERS, META, NAMES, Result,
    open::{Refusal, stated_format, usable},
    rows,
};
use redb::{Database, ReadableTable};
use std::path::Path;

/// Brings an index of format 3 to format 4: writes down which names each image has. One transaction, so it is done or it is
/// not; done twice, the second time changes nothing. What is of no use, or of another format, is left to
/// [`open`](super::open()).
pub fn migrate(path: &Path) -> Result<()> {
    let step = |db: &Database| {
        let unusable = |error: redb::Error| Refusal::Unusable(error.to_string());
        if stated_format(db).map_err(unusable)? == Some(3) { names(db).map_err(Refusal::of) } else { Ok(()) }
    };
    match usable(path, step) {
        Ok(_) | Err(Refusal::Unusable(_)) => Ok(()),
        Err(Refusal::Fatal(error)) => Err(error),
    }
}

fn names(db: &Database) -> Result<()> {
    let transaction = db.begin_write()?;
    {
        let members = transaction.open_table(MEMBERS)?;
        let mut names = transaction.open_table(NAMES)?;
        for entry in members.iter()? {
            let (key, _) = entry?;
            let name = rows::name_key_of_member(key.value()).ok_or(IndexError::Damaged("members"))?;
            names.insert(&*name, ())?;
        }
        transaction.open_table(META)?.insert("format", FORMAT)?;
    }
    Ok(transaction.commit()?)
}
