//! What is old goes; what waits stays.

use super::{
    Embedded,
    store::{Store, event_id},
};
use crate::{Error, Expired};
use jiff::Timestamp;

/// Rows that one transaction looks at: small enough that nobody behind it waits long.
const STEP: i64 = 500;

/// A table whose rows expire.
#[derive(Clone, Copy)]
enum Table {
    Events,
    Journal,
}

/// How far a walk through a table has come.
struct Step {
    removed: u64,
    /// Where to go on; `None` at the end.
    after: Option<i64>,
}

impl Embedded {
    pub(crate) async fn expire(&self, before: Timestamp) -> Result<Expired, Error> {
        let events = self.expire_from(Table::Events, before).await?;
        let facts = self.expire_from(Table::Journal, before).await?;
        if events > 0 {
            self.inner.signals.newest_events.clear();
        }
        if facts > 0 {
            self.inner.signals.newest_facts.clear();
        }
        Ok(Expired { events, facts })
    }

    async fn expire_from(&self, table: Table, before: Timestamp) -> Result<u64, Error> {
        let before = before.as_microsecond();
        let (mut removed, mut after) = (0, Some(0));
        while let Some(from) = after {
            let step = self.write(move |store| store.expire_step(table, from, before)).await?;
            removed += step.removed;
            after = step.after;
        }
        Ok(removed)
    }
}

impl Store {
    /// Rows are in the order of their times, so the walk ends at the first one that is young enough.
    fn expire_step(&mut self, table: Table, after: i64, before: i64) -> rusqlite::Result<Step> {
        // An event that is not planned has no deliveries yet; the newest fact tells the place of the next one.
        let (select, delete, end) = match table {
            Table::Events => (
                "SELECT seq, received_at, seq FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                "DELETE FROM events WHERE seq = ?",
                self.last_planned,
            ),
            Table::Journal => (
                "SELECT seq, at, event_seq FROM journal WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?",
                "DELETE FROM journal WHERE seq = ?",
                self.last_fact,
            ),
        };
        let rows: Vec<(i64, i64, i64)> = self
            .connection
            .prepare_cached(select)?
            .query_map((after, end, STEP), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let mut step = Step { removed: 0, after: rows.last().map(|(seq, ..)| *seq) };
        let mut waits =
            self.connection.prepare_cached("SELECT 1 FROM deliveries WHERE event_seq = ? LIMIT 1")?;
        let mut delete = self.connection.prepare_cached(delete)?;
        for (seq, at, event_seq) in rows {
            if at >= before {
                step.after = None;
                break;
            }
            if !waits.exists([event_seq])? {
                delete.execute([seq])?;
                if matches!(table, Table::Events) {
                    let mut delete =
                        self.connection.prepare_cached("DELETE FROM event_ids WHERE seq = ? RETURNING id")?;
                    self.ids.remove(delete.query_row([seq], event_id)?);
                }
                step.removed += 1;
            }
        }
        Ok(step)
    }
}
