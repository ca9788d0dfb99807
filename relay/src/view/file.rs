//! The view's file: opened if it can be used, and created again if not.
//!
//! Its commits are not synced. After a power failure some of them are missing, and SQLite cannot tell which. So the file names
//! the boot of the machine in which it is in use, and can be used in another one only after it was closed in order.

use super::schema::{TABLES, VERSION};
use rusqlite::Connection;
use std::{fs, path::Path};
use talaria_bus::{Bounds, private::SQLITE_SUFFIXES, sqlite};

/// Replaces the boot in a file that was closed in order.
const CLOSED: &str = "closed";

/// Opens the view of a journal, or creates a new one.
pub(super) fn open(file: &Path, journal: &Bounds) -> rusqlite::Result<Connection> {
    let opened = if file.exists() { existing(file, journal) } else { Ok(None) };
    let connection = match opened {
        Ok(Some(connection)) => connection,
        unusable => {
            if let Err(error) = unusable {
                tracing::warn!(%error, file = %file.display(), "status view unusable; rebuilding");
            }
            remove(file);
            create(file, journal)?
        }
    };
    mark(&connection, &boot().unwrap_or_default())?;
    Ok(connection)
}

pub(super) fn remove(file: &Path) {
    for suffix in SQLITE_SUFFIXES {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let _ = fs::remove_file(name);
    }
}

fn existing(file: &Path, journal: &Bounds) -> rusqlite::Result<Option<Connection>> {
    let connection = connect(file)?;
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    if version != VERSION {
        return Ok(None);
    }
    let select = "SELECT source, boot, (SELECT max(seq) FROM cursors) FROM file";
    let (source, marked, furthest): (String, String, Option<u64>) =
        connection.query_row(select, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let is_whole = marked == CLOSED || Some(marked) == boot();
    // A file beyond the journal's end was folded from commits that the journal lost.
    let is_usable = is_whole && source == journal.source && furthest <= Some(journal.last_commit);
    Ok(is_usable.then_some(connection))
}

fn create(file: &Path, journal: &Bounds) -> rusqlite::Result<Connection> {
    let mut connection = connect(file)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute("INSERT INTO file VALUES (?, '')", [&journal.source])?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(connection)
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = sqlite::connect(file)?;
    // The interval of checkpoints, in pages, bounds the log.
    connection.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
         PRAGMA wal_autocheckpoint = 2000; PRAGMA cache_size = -8192; PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(connection)
}

/// Syncs the file, and marks it as closed.
pub(super) fn close(connection: &Connection) -> rusqlite::Result<()> {
    mark(connection, CLOSED)
}

/// Syncs the file, and writes the boot in which it is in use.
fn mark(connection: &Connection, boot: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let mut update = connection.prepare_cached("UPDATE file SET boot = ?")?;
    // A checkpoint syncs the file only if the log is not empty.
    update.execute([""])?;
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    if !busy {
        update.execute([boot])?;
    }
    connection.pragma_update(None, "synchronous", "OFF")
}

/// The id of this boot of the machine, if the kernel has one.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
