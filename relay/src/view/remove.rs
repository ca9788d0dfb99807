//! Removes rows: of forgotten events, of partitions that are not owned any more, and older than the retention. Large numbers of
//! rows are removed in steps, so that other writes are not delayed.

use super::{
    apply::Counts,
    schema::day,
    series::{HOUR, MINUTE, merge},
};
use rusqlite::{Connection, Transaction};

/// The most rows in one step.
const STEP: usize = 500;

/// Removes some of the forgotten events. Whether those were all.
pub(super) fn forgotten(connection: &mut Connection, partition: u16) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let select = "SELECT seq, tenant FROM events
                  WHERE partition = ?1 AND base < (SELECT forgotten FROM cursors WHERE partition = ?1) LIMIT ?2";
    let found = find(&transaction, select, partition)?;
    // Listed actions stay until they are older than the retention.
    events(&transaction, &found, "DELETE FROM actions WHERE event_seq = ? AND NOT listed")?;
    transaction.commit()?;
    Ok(found.len() < STEP)
}

/// Removes some of a partition's rows. Whether those were all.
pub(super) fn partition(connection: &mut Connection, partition: u16) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    // From here on, nothing may be folded into the rows.
    let mark = "UPDATE cursors SET seq = NULL WHERE partition = ? AND seq IS NOT NULL";
    transaction.prepare_cached(mark)?.execute([partition])?;
    let found = find(&transaction, "SELECT seq, tenant FROM events WHERE partition = ? LIMIT ?", partition)?;
    events(&transaction, &found, "DELETE FROM actions WHERE event_seq = ?")?;
    let mut is_all = found.len() < STEP;
    if is_all {
        let delete =
            "DELETE FROM quarantined WHERE id IN (SELECT id FROM quarantined WHERE partition = ? LIMIT ?)";
        is_all = transaction.prepare_cached(delete)?.execute((partition, STEP))? < STEP;
    }
    if is_all {
        merge(&transaction)?;
        let minutes = buckets(&transaction, partition, MINUTE, i64::MAX, STEP)?;
        is_all = minutes + buckets(&transaction, partition, HOUR, i64::MAX, STEP - minutes)? < STEP;
    }
    if is_all {
        for delete in [
            "actions WHERE partition = ?",
            "replay_jobs WHERE partition = ?",
            "jobs WHERE partition = ?",
            "costs WHERE partition = ?",
            "pauses WHERE partition = ?",
            "delivery_counts WHERE lane IN (SELECT lane FROM lanes WHERE partition = ?)",
            "lanes WHERE partition = ?",
            "cursors WHERE partition = ?",
        ] {
            transaction.execute(&format!("DELETE FROM {delete}"), [partition])?;
        }
        transaction.execute("DELETE FROM event_counts WHERE events = 0", ())?;
    }
    transaction.commit()?;
    Ok(is_all)
}

/// Removes conflicts, and rows that belong to no event, that are unchanged since `before`.
pub(super) fn expired(connection: &mut Connection, before: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for delete in [
        "quarantined WHERE touched_at < ?",
        "conflicts WHERE touched_at < ?",
        // Actions on a delivery stay as long as the delivery.
        "actions WHERE at < ? AND event_seq NOT IN (SELECT seq FROM events)",
        // All parts of a job, or none.
        "replay_jobs WHERE id NOT IN (SELECT id FROM replay_jobs WHERE running OR updated_at >= ?)",
    ] {
        transaction.prepare_cached(&format!("DELETE FROM {delete}"))?.execute([before])?;
    }
    transaction.prepare_cached("DELETE FROM costs WHERE day < ?")?.execute([day(before)])?;
    let delete = "DELETE FROM spans WHERE high < (SELECT coalesce(min(seq), high + 1) FROM events)";
    transaction.prepare_cached(delete)?.execute(())?;
    transaction.commit()
}

/// Removes some of the minutes and hours that ended by these times, in seconds. Whether those were all.
pub(super) fn expired_series(
    connection: &mut Connection,
    (minutes, hours): (i64, i64),
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    merge(&transaction)?;
    let mut left = STEP;
    for partition in partitions(&transaction)? {
        left -= buckets(&transaction, partition, MINUTE, minutes.saturating_sub(MINUTE), left)?;
        left -= buckets(&transaction, partition, HOUR, hours.saturating_sub(HOUR), left)?;
    }
    transaction.commit()?;
    Ok(left > 0)
}

fn partitions(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<u16>> {
    let mut statement = transaction.prepare_cached("SELECT partition FROM cursors")?;
    statement.query_map((), |row| row.get(0))?.collect()
}

/// Removes at most `most` of a partition's buckets, up to this start. Gives their number.
fn buckets(
    transaction: &Transaction<'_>,
    partition: u16,
    width: i64,
    last: i64,
    most: usize,
) -> rusqlite::Result<usize> {
    let delete = "DELETE FROM series WHERE (partition, width, start, tenant, route) IN (
                      SELECT partition, width, start, tenant, route FROM series
                      WHERE partition = ? AND width = ? AND start <= ? LIMIT ?)";
    transaction.prepare_cached(delete)?.execute((partition, width, last, most))
}

fn find(transaction: &Transaction<'_>, select: &str, partition: u16) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement = transaction.prepare_cached(select)?;
    statement.query_map((partition, STEP), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Removes events with all that belongs to them.
fn events(transaction: &Transaction<'_>, found: &[(i64, String)], actions: &str) -> rusqlite::Result<()> {
    let mut deliveries =
        transaction.prepare_cached("DELETE FROM deliveries WHERE event_seq = ? RETURNING lane, state")?;
    let mut conflicts = transaction.prepare_cached("DELETE FROM conflicts WHERE event_seq = ?")?;
    let mut actions = transaction.prepare_cached(actions)?;
    let mut events = transaction.prepare_cached("DELETE FROM events WHERE seq = ?")?;
    let mut counts = Counts::default();
    for (seq, tenant) in found {
        let mut matched = false;
        let mut rows = deliveries.query([seq])?;
        while let Some(row) = rows.next()? {
            counts.delivery(row.get(0)?, row.get(1)?, -1);
            matched = true;
        }
        conflicts.execute([seq])?;
        actions.execute([seq])?;
        events.execute([seq])?;
        counts.event(tenant, matched, -1);
    }
    counts.write(transaction)
}
