//! The writer's state: the connection, and the first and last sequences of both streams.
//!
//!  1. Sequences have no gaps: a stream's next entry has the last sequence plus one. A failed transaction uses none.
//!  2. A trim stores the last sequences in the same transaction, so they are known when no rows are left.

use super::{
    schema,
    writer::{LARGEST_GROUP, Trimmed, Write},
};
use crate::{AppendError, Error};
use rusqlite::Connection;
use std::path::Path;
use talaria_telemetry::LogLimiter;

static FAILED: LogLimiter = LogLimiter::new();

/// Limits of one step of trimming, so that queued writes do not wait long. Bytes count because SQLite reads all pages of a
/// row that it deletes.
const STEP_ROWS: u64 = 500;
const STEP_BYTES: u64 = 1 << 20;

pub(super) struct Store {
    pub(super) connection: Connection,
    /// After a transaction: the committed sequences.
    pub(super) events: Reach,
    pub(super) commits: Reach,
    /// Set after a failed transaction: `events` and `commits` have to be read again.
    stale: bool,
}

/// The sequences of a stream: `last + 1 == first` when it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// The statements for one of the two streams.
#[derive(Clone, Copy)]
struct Table {
    reach: &'static str,
    sizes: &'static str,
    delete: &'static str,
    set_last: &'static str,
}

const EVENTS: Table = Table {
    reach: "SELECT min(seq), max(seq), (SELECT value FROM marks WHERE name = 'last_event') FROM events",
    sizes: "SELECT seq, length(bytes) FROM events WHERE seq < ? ORDER BY seq LIMIT ?",
    delete: "DELETE FROM events WHERE seq <= ?",
    set_last: "UPDATE marks SET value = ? WHERE name = 'last_event'",
};

const COMMITS: Table = Table {
    reach: "SELECT min(seq), max(seq), (SELECT value FROM marks WHERE name = 'last_commit') FROM commits",
    sizes: "SELECT seq, length(bytes) FROM commits WHERE seq < ? ORDER BY seq LIMIT ?",
    delete: "DELETE FROM commits WHERE seq <= ?",
    set_last: "UPDATE marks SET value = ? WHERE name = 'last_commit'",
};

/// The sequences of the events and of the commits.
pub(super) fn reaches(connection: &Connection) -> rusqlite::Result<(Reach, Reach)> {
    Ok((EVENTS.reach(connection)?, COMMITS.reach(connection)?))
}

impl Store {
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        let connection = schema::open(file)?;
        let (events, commits) = reaches(&connection)?;
        Ok(Self { connection, events, commits, stale: false })
    }

    /// The file's identity.
    pub(super) fn source(&self) -> Result<String, Error> {
        let select = "SELECT value FROM marks WHERE name = 'source'";
        Ok(self.connection.query_row(select, (), |row| row.get(0))?)
    }

    /// Applies the writes of the group, and those that `more` adds to it, in one transaction. On an error none was applied.
    pub(super) fn write(
        &mut self,
        group: &mut Vec<Write>,
        more: impl FnMut() -> Option<Write>,
    ) -> Result<(), Error> {
        self.transact(group, more).map_err(|error| {
            self.roll_back();
            error.into()
        })
    }

    fn transact(
        &mut self,
        group: &mut Vec<Write>,
        mut more: impl FnMut() -> Option<Write>,
    ) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        if self.stale {
            (self.events, self.commits) = reaches(&self.connection)?;
            self.stale = false;
        }
        let mut done = 0;
        while let Some(write) = group.get_mut(done) {
            self.apply(write)?;
            done += 1;
            if done == group.len() && done < LARGEST_GROUP {
                group.extend(more());
            }
        }
        self.connection.prepare_cached("COMMIT")?.execute(()).map(drop)
    }

    fn apply(&mut self, write: &mut Write) -> rusqlite::Result<()> {
        let connection = &self.connection;
        match write {
            Write::Store { kind, received_at, bytes, seq, .. } => {
                *seq = self.events.last + 1;
                let insert = "INSERT INTO events VALUES (?, ?, ?, ?)";
                let row = (*seq, *kind as i64, *received_at, &bytes[..]);
                connection.prepare_cached(insert)?.execute(row)?;
                self.events.last = *seq;
            }
            Write::Append { bytes, expected, outcome, .. } => {
                let refusal = refusal(self.commits.last, *expected);
                if refusal.is_none() {
                    let seq = self.commits.last + 1;
                    let insert = "INSERT INTO commits VALUES (?, ?)";
                    connection.prepare_cached(insert)?.execute((seq, &bytes[..]))?;
                    self.commits.last = seq;
                }
                *outcome = Some(refusal.map_or(Ok(self.commits.last), Err));
            }
            Write::Trim { floors, outcome, .. } => {
                let (events, more_events) = EVENTS.trim(connection, &mut self.events, floors.events)?;
                let (commits, more_commits) = COMMITS.trim(connection, &mut self.commits, floors.journal)?;
                *outcome = Trimmed { events, commits, more: more_events || more_commits };
            }
            Write::Check { .. } => {
                let update = "UPDATE marks SET value = value + 1 WHERE name = 'checked'";
                connection.prepare_cached(update)?.execute(())?;
            }
            #[cfg(test)]
            Write::Inspect { look, .. } => {
                if let Some(look) = look.take() {
                    look(&mut self.connection)?;
                }
            }
        }
        Ok(())
    }

    fn roll_back(&mut self) {
        self.stale = true;
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
            && let Some(left_out) = FAILED.admit()
        {
            tracing::error!(%error, left_out, "rollback failed");
        }
    }
}

/// Why a commit that expects `expected` to be the last one is refused.
fn refusal(last: u64, expected: u64) -> Option<AppendError> {
    (expected < last)
        .then_some(AppendError::Overtaken)
        .or_else(|| (expected > last).then_some(AppendError::LostEnd { last, acknowledged: expected }))
}

impl Table {
    fn reach(self, connection: &Connection) -> rusqlite::Result<Reach> {
        connection.query_row(self.reach, (), |row| {
            let (first, last): (Option<u64>, Option<u64>) = (row.get(0)?, row.get(1)?);
            let last = last.unwrap_or_default().max(row.get(2)?);
            Ok(Reach { first: first.unwrap_or(last + 1), last })
        })
    }

    /// Removes the oldest rows before `floor`, within the limits of one step. Returns their number and whether there are more.
    fn trim(self, connection: &Connection, reach: &mut Reach, floor: u64) -> rusqlite::Result<(u64, bool)> {
        let floor = floor.min(reach.last + 1);
        if reach.first >= floor {
            return Ok((0, false));
        }
        let (mut end, mut bytes) = (None, 0);
        let mut sizes = connection.prepare_cached(self.sizes)?;
        let mut rows = sizes.query((floor, STEP_ROWS))?;
        while bytes < STEP_BYTES
            && let Some(row) = rows.next()?
        {
            end = Some(row.get(0)?);
            bytes += row.get::<_, u64>(1)?;
        }
        drop(rows);
        let end = end.unwrap_or(floor - 1);
        let removed = connection.prepare_cached(self.delete)?.execute([end])?;
        connection.prepare_cached(self.set_last)?.execute([reach.last])?;
        reach.first = end + 1;
        Ok((u64::try_from(removed).unwrap_or_default(), reach.first < floor))
    }
}
