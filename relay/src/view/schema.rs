//! The view's tables. Times are microseconds since 1970; messages are protobuf.
//!
//! Rows are in the order of their events, newest last, so that lists read backwards, and new rows go to the pages of the last
//! ones. An index in another order would change another page with each row; indexes with a row for every event are in the order
//! of their events, too, in chunks.

use rusqlite::{Row, types::Type};
use talaria_proto::v1::Attempt;

/// A file of another version is rebuilt.
pub(super) const VERSION: i64 = 10;

pub(super) const TABLES: &str = "
-- The journal that was folded, and the boot of the machine in which the file is in use.
CREATE TABLE file (source TEXT NOT NULL, boot TEXT NOT NULL);
-- The last folded commit of each partition. A partition without a cursor has no rows.
CREATE TABLE cursors (
    partition INTEGER PRIMARY KEY,
    -- NULL from when on the partition's rows are removed.
    seq INTEGER,
    -- Events whose base is before this commit were forgotten, and are removed.
    forgotten INTEGER NOT NULL
);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    -- The commit that planned it, or that carried it last.
    base INTEGER NOT NULL,
    -- See `job_key`.
    job INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    event BLOB NOT NULL,
    -- Whether no route took it.
    unmatched INTEGER NOT NULL
);
CREATE INDEX events_unmatched ON events (seq) WHERE unmatched;
CREATE INDEX events_base ON events (partition, base);
CREATE INDEX events_job ON events (seq >> 13, job);
-- The lowest and the highest event that was received in each ten seconds: see `span`.
CREATE TABLE spans (
    span INTEGER PRIMARY KEY,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL
);
-- Each route that has had a delivery or a pause, with its breaker.
CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    route TEXT NOT NULL,
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
    -- From the event's receipt to its delivery.
    latency INTEGER,
    -- The attempt under way, and when it was started.
    started INTEGER,
    started_at INTEGER,
    delivery BLOB NOT NULL,
    -- See `Attempts`.
    attempts BLOB NOT NULL,
    PRIMARY KEY (event_seq, route)
) WITHOUT ROWID;
-- State 2 is DELIVERED.
CREATE INDEX deliveries_delivered ON deliveries (event_seq >> 13, lane, event_seq, route, latency) WHERE state = 2;
CREATE INDEX deliveries_lane ON deliveries (lane, state, event_seq, route) WHERE state != 2;
CREATE TABLE conflicts (
    event_seq INTEGER NOT NULL,
    digest BLOB NOT NULL,
    -- When the same body was last received.
    touched_at INTEGER NOT NULL,
    conflict BLOB NOT NULL,
    PRIMARY KEY (event_seq, digest)
) WITHOUT ROWID;
CREATE TABLE quarantined (
    id TEXT PRIMARY KEY,
    partition INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    -- When the same callback was last received.
    touched_at INTEGER NOT NULL,
    callback BLOB NOT NULL
);
CREATE INDEX quarantined_received ON quarantined (received_at, id);
-- The pauses of routes and, with an empty name, of tenants.
CREATE TABLE pauses (
    tenant TEXT NOT NULL,
    route TEXT NOT NULL,
    partition INTEGER NOT NULL,
    pause BLOB NOT NULL,
    PRIMARY KEY (tenant, route)
) WITHOUT ROWID;
-- Operators' actions, by `action_position`; actions of replay jobs on deliveries are not listed.
CREATE TABLE actions (
    place INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    at INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    event_seq INTEGER NOT NULL,
    route INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    action BLOB NOT NULL
);
CREATE INDEX actions_listed ON actions (place) WHERE listed;
CREATE INDEX actions_delivery ON actions (event_seq, route);
-- Replay jobs: each partition's part of them.
CREATE TABLE replay_jobs (
    id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    running INTEGER NOT NULL,
    job BLOB NOT NULL,
    PRIMARY KEY (id, partition)
) WITHOUT ROWID;
-- Jobs at OpenRouter.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    partition INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    openrouter_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    job BLOB NOT NULL
);
CREATE INDEX jobs_created ON jobs (created_at, id);
CREATE INDEX jobs_openrouter_id ON jobs (openrouter_id) WHERE openrouter_id != '';
-- What the events of a day cost, by the day of their receipt in UTC (days since 1970).
CREATE TABLE costs (
    day INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    model TEXT NOT NULL,
    routes TEXT NOT NULL,
    partition INTEGER NOT NULL,
    events INTEGER NOT NULL,
    without_cost INTEGER NOT NULL,
    micros INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, model, routes)
) WITHOUT ROWID;
-- Buckets: see the module `series`. In the order of time, because batches change the last ones of all routes.
CREATE TABLE series (
    partition INTEGER NOT NULL,
    -- Both in seconds.
    width INTEGER NOT NULL,
    start INTEGER NOT NULL,
    -- Empty for the whole partition.
    tenant TEXT NOT NULL,
    -- Empty for the whole tenant.
    route TEXT NOT NULL,
    counts BLOB NOT NULL,
    PRIMARY KEY (partition, width, start, tenant, route)
) WITHOUT ROWID;
-- The minutes of the last batches, which are not in the buckets yet: a row for each batch.
CREATE TABLE series_added (
    id INTEGER PRIMARY KEY,
    -- How many there are.
    count INTEGER NOT NULL,
    minutes BLOB NOT NULL
);
-- Updated with the rows, because counting a million of them is slow.
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

/// Sequences of one chunk differ only in these lowest bits. As in two indexes of `TABLES`: a chunk is so small that the rows of a
/// batch change the same pages, and so large that there are few of them to seek in.
pub(super) const CHUNK_BITS: u32 = 13;

/// The length of a span of time, in microseconds.
const SPAN: i64 = 10_000_000;

/// The attempts in a delivery's row. Encodings can be concatenated.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Attempts {
    /// Oldest first.
    #[prost(message, repeated, tag = "1")]
    pub attempts: Vec<Attempt>,
}

impl Attempts {
    /// Adds an attempt to an encoding.
    pub(super) fn push(encoded: &mut Vec<u8>, attempt: &Attempt) {
        prost::encoding::message::encode(1, attempt, encoded);
    }
}

/// A column that holds a protobuf message.
pub(crate) fn message<M: prost::Message + Default>(row: &Row<'_>, column: usize) -> rusqlite::Result<M> {
    let bytes = row.get_ref(column)?.as_blob()?;
    M::decode(bytes)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error)))
}

/// The span in which a time lies.
pub(super) fn span(micros: i64) -> i64 {
    micros.div_euclid(SPAN)
}

/// The first bytes of an event's id, which are its job's: a number of 48 bits, because SQLite stores one with a sign in
/// six bytes.
pub(super) fn job_key(prefix: &[u8]) -> i64 {
    prefix.iter().take(6).fold(0, |key, byte| key << 8 | i64::from(*byte)) - (1 << 47)
}

/// The day of a time in UTC: days since 1970.
pub(crate) fn day(micros: i64) -> i64 {
    micros.div_euclid(86_400_000_000)
}

/// The position of an action in lists: its commit, and its index within it. Positions rise with the journal, over all
/// partitions.
pub(super) fn action_position(seq: u64, index: u16) -> i64 {
    seq.cast_signed() << 16 | i64::from(index)
}
