//! Files that can be made anew from something else, and are when nobody vouches for what is in them.
//!
//! Their commits do not wait for the disk: they would, once in a few thousand, make callbacks wait for it too. So what
//! the kernel had not yet written when the power failed is missing, and SQLite cannot tell where. As long as this boot
//! lasts the kernel vouches for the file; beyond it, only a process that closed it in order.

use crate::sqlite::{self, Durability};
use rusqlite::Connection;
use std::{fs, path::Path, path::PathBuf};

/// What was written on its way out by a process that had brought everything to the disk.
const CLOSED: &str = "closed";

const TABLES: &str = "
-- Who vouches for the file, and what it was derived from.
CREATE TABLE derived (keeper TEXT NOT NULL, source TEXT NOT NULL);
INSERT INTO derived VALUES ('', '');
";

/// What a file has to be like.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a> {
    /// Written into the file. A file of another version is thrown away.
    pub version: i64,
    /// Makes the tables of an empty file.
    pub tables: &'a str,
    /// What the file is derived from. A file that was derived from something else is thrown away.
    pub source: &'a str,
}

/// Opens a file, or makes it anew: when there is none, when it cannot be used, when nobody vouches for it, when it is
/// not like the schema, or when `usable` says no.
pub fn open(
    file: &Path,
    schema: Schema<'_>,
    usable: impl FnOnce(&Connection) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Connection> {
    let opened = if file.exists() { existing(file, schema, usable) } else { Ok(None) };
    let connection = match opened {
        Ok(Some(connection)) => connection,
        unusable => {
            if let Err(error) = unusable {
                tracing::warn!(%error, "{} cannot be used and is made anew", file.display());
            }
            for suffix in ["", "-wal", "-shm"] {
                let mut name = file.as_os_str().to_owned();
                name.push(suffix);
                let _ = fs::remove_file(PathBuf::from(name));
            }
            create(file, schema)?
        }
    };
    keep(&connection, &boot().unwrap_or_default())?;
    Ok(connection)
}

fn existing(
    file: &Path,
    schema: Schema<'_>,
    usable: impl FnOnce(&Connection) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Option<Connection>> {
    let connection = sqlite::open(file, Durability::Derived)?;
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    if version != schema.version {
        return Ok(None);
    }
    let (keeper, source): (String, String) =
        connection
            .query_row("SELECT keeper, source FROM derived", (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let vouched = keeper == CLOSED || boot().as_ref() == Some(&keeper);
    Ok((vouched && source == schema.source && usable(&connection)?).then_some(connection))
}

fn create(file: &Path, schema: Schema<'_>) -> rusqlite::Result<Connection> {
    let mut connection = sqlite::open(file, Durability::Derived)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(schema.tables)?;
    transaction.execute("UPDATE derived SET source = ?", [schema.source])?;
    transaction.pragma_update(None, "user_version", schema.version)?;
    transaction.commit()?;
    Ok(connection)
}

/// Brings everything to the disk, and says so.
pub fn close(connection: &Connection) -> rusqlite::Result<()> {
    keep(connection, CLOSED)
}

/// Writes who vouches for the file.
fn keep(connection: &Connection, keeper: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let mut update = connection.prepare_cached("UPDATE derived SET keeper = ?")?;
    // A checkpoint syncs the file only if there is something to move into it.
    update.execute([""])?;
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    if !busy {
        update.execute([keeper])?;
    }
    connection.pragma_update(None, "synchronous", "OFF")
}

/// What tells this boot of the machine from the others, where the kernel says it.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
