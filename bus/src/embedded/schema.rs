//! The tables. Times are microseconds since 1970; messages are protobuf.

use crate::{
    Error, queue,
    sqlite::{self, Durability},
};
use rusqlite::Connection;
use std::path::Path;

/// Written into the file; a file of a newer version is refused.
const VERSION: i64 = 1;

const TABLES: &str = "
-- One row an event, in the order of storing.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,
    event BLOB NOT NULL
);
-- The events' ids, apart from them so that all can be read at the start.
CREATE TABLE event_ids (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL
);
-- One row a fact.
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    event_seq INTEGER NOT NULL,
    fact BLOB NOT NULL
);
-- Numbers that must outlive the rows that they were read off.
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO marks VALUES ('planned', 0), ('touched', 0);
";

/// Opens the file, and makes the tables if it is new.
pub(super) fn open(file: &Path) -> Result<Connection, Error> {
    let mut connection = sqlite::open(file, Durability::Full)?;
    // The checkpointer does it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    match version {
        0 => {
            if connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| row.get(0))? {
                return Err(Error::new("bus.db is some other program's database"));
            }
            let transaction = connection.transaction()?;
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(queue::TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        VERSION => {}
        newer => {
            let message =
                format!("it was written by a newer Talaria (schema {newer}, this one knows {VERSION})");
            return Err(Error::new(message));
        }
    }
    Ok(connection)
}
