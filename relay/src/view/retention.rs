//! What is old goes: events with all that belongs to them, once none of their deliveries waits, quarantined callbacks, and
//! what operators did, unless it still holds or goes on.

use super::{View, apply::Counts, recall::KEPT};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction};
use talaria_bus::{sqlite::Error, time::before};
use talaria_proto::v1::DeliveryState;

/// Events that one transaction looks at.
const STEP: i64 = 500;

impl View {
    /// Forgets when attempts began that no pace asks for any more.
    pub async fn forget_starts(&self, now: Timestamp) -> Result<(), Error> {
        let before = before(now, KEPT).as_microsecond();
        self.write(move |connection| {
            connection.execute("DELETE FROM starts WHERE at < ?", [before]).map(drop)
        })
        .await
    }

    /// Removes what was received before. Says how many events went.
    pub async fn expire(&self, before: Timestamp) -> Result<u64, Error> {
        let before = before.as_microsecond();
        let (mut removed, mut after) = (0, Some(0));
        while let Some(from) = after {
            let (went, next) = self.write(move |connection| expire_step(connection, from, before)).await?;
            removed += went;
            after = next;
        }
        self.write(move |connection| {
            for table in [
                "quarantined WHERE received_at < ?",
                "actions WHERE at < ?",
                "replay_jobs WHERE NOT running AND updated_at < ?",
                "pauses WHERE NOT paused AND at < ?",
            ] {
                connection.prepare_cached(&format!("DELETE FROM {table}"))?.execute([before])?;
            }
            Ok(())
        })
        .await?;
        Ok(removed)
    }
}

/// One step through the events, oldest first: how many went, and where to go on.
fn expire_step(connection: &mut Connection, after: i64, before: i64) -> rusqlite::Result<(u64, Option<i64>)> {
    let transaction = connection.transaction()?;
    let select = "SELECT seq, tenant, received_at FROM events WHERE seq > ? ORDER BY seq LIMIT ?";
    let rows: Vec<(i64, String, i64)> = transaction
        .prepare_cached(select)?
        .query_map((after, STEP), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let mut next = rows.last().map(|(seq, ..)| *seq);
    let mut removed = 0;
    let mut counts = Counts::default();
    for (seq, tenant, received_at) in rows {
        if received_at >= before {
            next = None;
            break;
        }
        if let Some(matched) = remove(&transaction, seq, &mut counts)? {
            counts.event(&tenant, matched, -1);
            removed += 1;
        }
    }
    counts.write(&transaction)?;
    transaction.commit()?;
    Ok((removed, next))
}

/// Removes an event unless one of its deliveries waits; says whether it had any.
fn remove(transaction: &Transaction<'_>, seq: i64, counts: &mut Counts) -> rusqlite::Result<Option<bool>> {
    let waits = "SELECT 1 FROM deliveries WHERE event_seq = ? AND state = ?";
    let waiting = i32::from(DeliveryState::Waiting);
    if transaction.prepare_cached(waits)?.query_row((seq, waiting), |_| Ok(())).optional()?.is_some() {
        return Ok(None);
    }
    let mut matched = false;
    let mut statement =
        transaction.prepare_cached("DELETE FROM deliveries WHERE event_seq = ? RETURNING lane, state")?;
    let mut rows = statement.query([seq])?;
    while let Some(row) = rows.next()? {
        counts.delivery(row.get(0)?, row.get(1)?, -1);
        matched = true;
    }
    for table in ["attempts", "conflicts"] {
        transaction.prepare_cached(&format!("DELETE FROM {table} WHERE event_seq = ?"))?.execute([seq])?;
    }
    // What was asked for by hand is listed for as long as it is young.
    transaction.prepare_cached("DELETE FROM actions WHERE event_seq = ? AND NOT listed")?.execute([seq])?;
    transaction.prepare_cached("DELETE FROM events WHERE seq = ?")?.execute([seq])?;
    Ok(Some(matched))
}
