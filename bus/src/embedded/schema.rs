//! The tables of the embedded bus.

use crate::{Error, sqlite};
use rusqlite::Connection;
use std::path::Path;

/// The schema's version in the file. A file with another version is refused.
pub(super) const VERSION: i64 = 2;

const TABLES: &str = "
-- Entries that an ingress stored, in the order of storing.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,          -- 0: an Event, 1: a QuarantinedCallback
    received_at INTEGER NOT NULL,   -- microseconds since 1970
    bytes BLOB NOT NULL             -- the protobuf message
);
-- The journal.
CREATE TABLE commits (
    seq INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL             -- a protobuf Commit
);
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;
INSERT INTO marks VALUES
    ('source', lower(hex(randomblob(16)))), -- tells this file from all others
    ('last_event', 0),                      -- the last sequence when rows were trimmed, which may be all
    ('last_commit', 0),
    ('checked', 0);                         -- counts checks
";

/// Gives the file a new identity.
pub(super) const RENAME: &str = "UPDATE marks SET value = lower(hex(randomblob(16))) WHERE name = 'source'";

/// Opens the file for its one writer, and creates the tables if it is new.
pub(super) fn open(file: &Path) -> Result<Connection, Error> {
    let mut connection = sqlite::open(file)?;
    // The checkpointer does this.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    match version {
        0 => {
            if connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| row.get(0))? {
                return Err(Error::new("bus.db is some other program's database"));
            }
            let transaction = connection.transaction()?;
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        VERSION => {}
        1 => {
            return Err(Error::new(format_args!(
                "bus.db has a layout from before the first release (schema 1, this Talaria knows {VERSION}), which cannot \
                 be converted: move the data directory away and start again"
            )));
        }
        newer => {
            return Err(Error::new(format_args!(
                "bus.db was written by a newer Talaria (schema {newer}, this one knows {VERSION}): start that version, or \
                 move the data directory away"
            )));
        }
    }
    Ok(connection)
}
