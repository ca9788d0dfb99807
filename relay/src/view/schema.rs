//! The view's tables. Times are microseconds since 1970; messages are protobuf.
//!
//! Rows stand in the order of their events, newest last, so that lists read backwards and new rows go where the
//! last ones went. Two indexes do not: an event's id, whose first bytes are its job's, and a route's deliveries
//! by state.

use rusqlite::Connection;
use std::{fs, path::Path};
use talaria_bus::sqlite::{self, Durability};

/// Written into the file. A file of another version is thrown away: the view is derived.
const VERSION: i64 = 1;

const TABLES: &str = "
-- How far the journal was followed, and who vouches for the file (see `Keeper`).
CREATE TABLE position (seq INTEGER NOT NULL, keeper TEXT NOT NULL);
INSERT INTO position VALUES (0, '');
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    event BLOB NOT NULL
);
CREATE INDEX events_received ON events (received_at);
CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    route TEXT NOT NULL,
    changed_at INTEGER NOT NULL DEFAULT 0,
    held_because TEXT NOT NULL DEFAULT '',
    held_until INTEGER,
    UNIQUE (tenant, route)
);
CREATE TABLE deliveries (
    event_seq INTEGER NOT NULL,
    route INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL,
    step INTEGER NOT NULL,
    latency INTEGER,
    delivery BLOB NOT NULL,
    PRIMARY KEY (event_seq, route)
) WITHOUT ROWID;
CREATE INDEX deliveries_lane ON deliveries (lane, state, event_seq, route, latency);
CREATE TABLE attempts (
    event_seq INTEGER NOT NULL,
    route INTEGER NOT NULL,
    number INTEGER NOT NULL,
    attempt BLOB NOT NULL,
    PRIMARY KEY (event_seq, route, number)
) WITHOUT ROWID;
CREATE TABLE conflicts (
    event_seq INTEGER NOT NULL,
    digest BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    conflict BLOB NOT NULL,
    PRIMARY KEY (event_seq, digest)
) WITHOUT ROWID;
CREATE TABLE quarantined (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    callback BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX quarantined_received ON quarantined (received_at, id);
-- Counted while rows come and go, because counting a million of them takes long.
CREATE TABLE delivery_counts (
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (lane, state)
) WITHOUT ROWID;
CREATE TABLE event_counts (
    tenant TEXT PRIMARY KEY,
    events INTEGER NOT NULL,
    unmatched INTEGER NOT NULL
) WITHOUT ROWID;
";

/// What was written on its way out by a process that had brought everything to the disk.
const CLOSED: &str = "closed";

/// Opens a view with its position; `None` when there is none of this version, or nobody vouches for it.
pub(super) fn open(file: &Path) -> rusqlite::Result<Option<(Connection, u64)>> {
    if !file.exists() {
        return Ok(None);
    }
    let connection = sqlite::open(file, Durability::Derived)?;
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    if version != VERSION {
        return Ok(None);
    }
    let (position, keeper): (u64, String) =
        connection.query_row("SELECT seq, keeper FROM position", (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let boot = boot();
    if keeper != CLOSED && boot.as_ref() != Some(&keeper) {
        return Ok(None);
    }
    keep(&connection, &boot.unwrap_or_default())?;
    Ok(Some((connection, position)))
}

/// Makes an empty view.
pub(super) fn create(file: &Path) -> rusqlite::Result<Connection> {
    let mut connection = sqlite::open(file, Durability::Derived)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    keep(&connection, &boot().unwrap_or_default())?;
    Ok(connection)
}

/// Brings everything to the disk, and says so.
pub(super) fn close(connection: &Connection) -> rusqlite::Result<()> {
    keep(connection, CLOSED)
}

/// Writes who vouches for the file.
///
/// Commits do not wait for the disk: they would, once in a few thousand, make callbacks wait for it too. So what
/// the kernel had not yet written when the power failed is missing, and SQLite cannot tell where. As long as this
/// boot lasts the kernel vouches for the file; beyond it, only a process that closed it in order.
fn keep(connection: &Connection, keeper: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let mut update = connection.prepare_cached("UPDATE position SET keeper = ?")?;
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
