//! The view's file: opened where it can be used, and begun again where not.
//!
//! Its commits do not wait for the disk. After a power failure some of them are missing, and SQLite cannot tell which. So
//! the file says in which boot of the machine it is in use, and is used in another one only after it was closed in order.

use super::schema::{TABLES, VERSION};
use rusqlite::Connection;
use std::{fs, path::Path};
use talaria_bus::{Bounds, private::SQLITE_SUFFIXES, sqlite};

/// Instead of a boot: the file was closed in order.
const CLOSED: &str = "closed";

/// Opens the view of a journal, or begins a new one.
pub(super) fn open(file: &Path, journal: &Bounds) -> rusqlite::Result<Connection> {
    let opened = if file.exists() { existing(file, journal) } else { Ok(None) };
    let connection = match opened {
        Ok(Some(connection)) => connection,
        unusable => {
            if let Err(error) = unusable {
                tracing::warn!(%error, "{} cannot be used and is rebuilt", file.display());
            }
            remove(file);
            create(file, journal)?
        }
    };
    sign(&connection, &boot().unwrap_or_default())?;
    Ok(connection)
}

/// Removes a view, if there is one: it can be built again.
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
    let (source, signed, furthest): (String, String, Option<u64>) =
        connection.query_row(select, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let is_whole = signed == CLOSED || Some(signed) == boot();
    // Beyond the journal's end it was folded from commits that the journal lost.
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
    // The checkpoint's size, in pages, bounds the log between two of them.
    connection.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
         PRAGMA wal_autocheckpoint = 2000; PRAGMA cache_size = -8192; PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(connection)
}

/// Brings everything to the disk, and says so.
pub(super) fn close(connection: &Connection) -> rusqlite::Result<()> {
    sign(connection, CLOSED)
}

/// Writes in which boot the file is in use, after everything is on the disk.
fn sign(connection: &Connection, boot: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let mut update = connection.prepare_cached("UPDATE file SET boot = ?")?;
    // A checkpoint syncs the file only if there is something to move into it.
    update.execute([""])?;
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    if !busy {
        update.execute([boot])?;
    }
    connection.pragma_update(None, "synchronous", "OFF")
}

/// What tells this boot of the machine from the others, where the kernel says it.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
