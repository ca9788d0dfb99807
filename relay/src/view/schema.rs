//! The view's tables. Times are microseconds since 1970; messages are protobuf.
//!
//! Rows stand in the order of their events, newest last, so that lists read backwards and new rows go where the
//! last ones went. Two indexes do not: an event's id, whose first bytes are its job's, and a route's deliveries
//! by state.

use rusqlite::Connection;
use std::path::Path;
use talaria_bus::{
    Bounds,
    derived::{self, Schema},
};

/// Written into the file. A file of another version is thrown away: the view is derived.
const VERSION: i64 = 3;

const TABLES: &str = "
-- Up to which place the journal was followed.
CREATE TABLE position (seq INTEGER NOT NULL);
INSERT INTO position VALUES (0);
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
    cause INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
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
-- When attempts began, of the last hours: what a route's pace has to know.
CREATE TABLE starts (
    lane INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event_seq INTEGER NOT NULL,
    route INTEGER NOT NULL,
    PRIMARY KEY (lane, at, event_seq, route)
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
-- What was done last to each route and, with an empty name, to each tenant: `place` is the record's.
CREATE TABLE pauses (
    tenant TEXT NOT NULL,
    route TEXT NOT NULL,
    place INTEGER NOT NULL,
    at INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    pause BLOB NOT NULL,
    PRIMARY KEY (tenant, route)
) WITHOUT ROWID;
-- What operators did, by the place of the record; what a replay job did to each delivery is not listed.
CREATE TABLE actions (
    place INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    event_seq INTEGER NOT NULL,
    route INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    action BLOB NOT NULL
);
CREATE INDEX actions_listed ON actions (place) WHERE listed;
CREATE INDEX actions_delivery ON actions (event_seq, route);
-- Replay jobs, as of the place of the last record about each.
CREATE TABLE replay_jobs (
    id TEXT PRIMARY KEY,
    place INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    running INTEGER NOT NULL,
    job BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX replay_jobs_started ON replay_jobs (started_at, id);
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

/// Opens the view of a journal with its position, or begins a new one.
pub(super) fn open(file: &Path, journal: &Bounds) -> rusqlite::Result<(Connection, u64)> {
    let schema = Schema { version: VERSION, tables: TABLES, source: &journal.source };
    let connection = derived::open(file, schema, |connection| {
        let position = position(connection)?;
        // Neither ahead of the journal nor so far behind that what comes next is gone.
        Ok(position <= journal.newest && journal.oldest <= position + 1)
    })?;
    let position = position(&connection)?;
    Ok((connection, position))
}

fn position(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT seq FROM position", (), |row| row.get(0))
}
