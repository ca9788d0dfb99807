//! Queries of events, deliveries and quarantined callbacks. A lane here is a tenant's route with all its deliveries.

use super::{
    filter::{DeliveryFilter, EventFilter},
    lanes::{Between, Chunks, Order, first, lanes},
    schema::{Attempts, CHUNK_BITS, job_key},
};
use crate::partition_set::PartitionSet;
use crate::view::schema::message;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};
use talaria_bus::sqlite::limit;
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::{
    time::from_proto,
    v1::{Attempt, Delivery, Event, EventConflict, QuarantinedCallback},
};

/// The page of at most `max` entries, and whether there are more.
pub(super) fn cut<T>(mut found: Vec<T>, max: usize) -> (Vec<T>, bool) {
    let more = found.len() > max;
    found.truncate(max);
    (found, more)
}

/// Entries with their positions, and the position up to which there are all, if there are more.
pub(crate) type Found<P, T> = (Vec<(P, T)>, Option<P>);

/// The most entries of a page, and the most rows that are read for it: a filter may match few of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    pub entries: usize,
    pub rows: usize,
}

impl Most {
    /// A page of a list: about 0.3 s where every row is read.
    pub(crate) fn page(entries: usize) -> Self {
        Self { entries, rows: 100_000 }
    }

    /// The page, and the position up to which it is read if there is more. `line` is that of the last row that was read, unless
    /// all were.
    fn cut<P: Clone, T>(self, found: Vec<(P, T)>, line: Option<P>) -> Found<P, T> {
        let (found, more) = cut(found, self.entries);
        let end = if more { found.last().map(|(position, _)| position.clone()) } else { line };
        (found, end)
    }
}

/// A delivery's event sequence and route key. Lists run from the highest position down.
pub(crate) type DeliveryPosition = (i64, i64);

/// Start of a list: above every position.
pub(crate) const TOP: DeliveryPosition = (i64::MAX, i64::MAX);

/// An event with its sequence in the events stream.
pub(crate) fn event(connection: &Connection, id: EventId) -> rusqlite::Result<Option<(u64, Event)>> {
    let text = id.to_string();
    events_by_key(connection, id.as_bytes(), |seq, event| {
        (event.id == text).then_some((seq.cast_unsigned(), event))
    })
}

/// The first result of `take` among the events whose job has this key, newest first.
fn events_by_key<T>(
    connection: &Connection,
    prefix: &[u8],
    mut take: impl FnMut(i64, Event) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let select = format!(
        "SELECT seq, event FROM events INDEXED BY events_job WHERE seq >> {CHUNK_BITS} = ? AND job = ? ORDER BY seq DESC"
    );
    let (mut statement, key) = (connection.prepare_cached(&select)?, job_key(prefix));
    for chunk in Chunks::of(connection, "events", "seq", (0, i64::MAX), Order::NewestFirst)? {
        let mut rows = statement.query((chunk?, key))?;
        while let Some(row) = rows.next()? {
            if let Some(taken) = take(row.get(0)?, message(row, 1)?) {
                return Ok(Some(taken));
            }
        }
    }
    Ok(None)
}

/// An event's sequence in the events stream.
pub(crate) fn event_seq(connection: &Connection, id: EventId) -> rusqlite::Result<Option<u64>> {
    Ok(event(connection, id)?.map(|(seq, _)| seq))
}

/// An event's deliveries without their attempts, by the route's name.
pub(crate) fn deliveries_of(connection: &Connection, event_seq: u64) -> rusqlite::Result<Vec<Delivery>> {
    let mut statement = connection.prepare_cached("SELECT delivery FROM deliveries WHERE event_seq = ?")?;
    let rows = statement.query_map([event_seq], |row| message(row, 0))?;
    let mut deliveries: Vec<Delivery> = rows.collect::<Result<_, _>>()?;
    deliveries.sort_by(|a, b| a.route.cmp(&b.route));
    Ok(deliveries)
}

/// Later callbacks for an event that had another body, oldest first.
pub(crate) fn conflicts_of(connection: &Connection, event_seq: u64) -> rusqlite::Result<Vec<EventConflict>> {
    let select = "SELECT conflict FROM conflicts WHERE event_seq = ?";
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_map([event_seq], |row| message(row, 0))?;
    let mut conflicts: Vec<EventConflict> = rows.collect::<Result<_, _>>()?;
    conflicts.sort_by_key(|conflict| from_proto(conflict.received_at.as_ref()));
    Ok(conflicts)
}

/// An attempt under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnderWay {
    /// Its number within the delivery.
    pub number: u32,
    pub started_at: Timestamp,
}

/// A delivery with its attempts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct History {
    pub delivery: Delivery,
    /// Ended ones, oldest first.
    pub attempts: Vec<Attempt>,
    pub under_way: Option<UnderWay>,
    /// See `DeliveryStatus::step`.
    pub step: u32,
}

const HISTORY: &str =
    "SELECT delivery, attempts, started, started_at, step FROM deliveries WHERE event_seq = ?";

fn history_in(row: &Row<'_>) -> rusqlite::Result<History> {
    let started: Option<u32> = row.get(2)?;
    let under_way = started.zip(row.get(3)?).map(|(number, at)| UnderWay {
        number,
        started_at: Timestamp::from_microsecond(at).unwrap_or_default(),
    });
    let Attempts { attempts } = message(row, 1)?;
    Ok(History { delivery: message(row, 0)?, attempts, under_way, step: row.get(4)? })
}

/// An event's deliveries with their attempts, by the route's name.
pub(crate) fn histories_of(connection: &Connection, event_seq: u64) -> rusqlite::Result<Vec<History>> {
    let mut statement = connection.prepare_cached(HISTORY)?;
    let mut histories: Vec<History> =
        statement.query_map([event_seq], history_in)?.collect::<Result<_, _>>()?;
    histories.sort_by(|a, b| a.delivery.route.cmp(&b.delivery.route));
    Ok(histories)
}

/// A delivery, with its event's sequence.
pub(crate) fn history(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Option<(u64, History)>> {
    let Some(event_seq) = event_seq(connection, id.event)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(&format!("{HISTORY} AND route = ?"))?;
    let found = statement.query_row((event_seq, id.route.to_i64()), history_in).optional()?;
    Ok(found.map(|history| (event_seq, history)))
}

/// A delivery.
#[cfg(test)]
pub(crate) fn delivery(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Option<Delivery>> {
    let Some(event_seq) = event_seq(connection, id.event)? else { return Ok(None) };
    delivery_at(connection, event_seq, id.route.to_i64())
}

/// The delivery of the event of this sequence to the route of this key.
pub(crate) fn delivery_at(
    connection: &Connection,
    event_seq: u64,
    route_key: i64,
) -> rusqlite::Result<Option<Delivery>> {
    let select = "SELECT delivery FROM deliveries WHERE event_seq = ? AND route = ?";
    connection.prepare_cached(select)?.query_row((event_seq, route_key), |row| message(row, 0)).optional()
}

/// A delivery's attempts that ended, oldest first.
#[cfg(test)]
pub(crate) fn attempts(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Vec<Attempt>> {
    Ok(history(connection, id)?.map_or(Vec::new(), |(_, history)| history.attempts))
}

/// Events below a sequence, newest first.
pub(crate) fn events(
    connection: &Connection,
    filter: &EventFilter,
    below: i64,
    most: Most,
) -> rusqlite::Result<Found<i64, Event>> {
    let mut found = Vec::new();
    if let Some(job_id) = &filter.job_id {
        let mut unmatched = connection.prepare_cached("SELECT 1 FROM events WHERE seq = ? AND unmatched")?;
        for (seq, event) in events_of_job(connection, job_id)? {
            if seq < below && filter.matches(&event) && (!filter.unmatched || unmatched.exists([seq])?) {
                found.push((seq, event));
            }
        }
        return Ok(most.cut(found, None));
    }
    let (index, condition) =
        if filter.unmatched { ("INDEXED BY events_unmatched", "unmatched AND") } else { ("", "") };
    // There is no index by tenant: other tenants' events are skipped.
    let select = format!(
        "SELECT seq, event FROM events {index} WHERE {condition} seq < ? AND seq BETWEEN ? AND ?
         AND (?4 IS NULL OR tenant = ?4) ORDER BY seq DESC"
    );
    let (low, high) = filter.period.bounds(connection)?;
    let mut statement = connection.prepare_cached(&select)?;
    let mut rows = statement.query((below, low, high.min(below), filter.tenant.as_deref()))?;
    let (mut left, mut line) = (most.rows, None);
    while found.len() <= most.entries
        && line.is_none()
        && let Some(row) = rows.next()?
    {
        let (seq, event): (i64, Event) = (row.get(0)?, message(row, 1)?);
        if filter.matches(&event) {
            found.push((seq, event));
        }
        left = left.saturating_sub(1);
        line = (left == 0).then_some(seq);
    }
    Ok(most.cut(found, line))
}

/// A job's events, newest first. Other jobs may have the same key.
pub(super) fn events_of_job(connection: &Connection, job_id: &str) -> rusqlite::Result<Vec<(i64, Event)>> {
    let mut events = Vec::new();
    events_by_key(connection, &EventId::job_prefix(job_id), |seq, event| {
        if event.job_id == job_id {
            events.push((seq, event));
        }
        None::<()>
    })?;
    Ok(events)
}

/// Deliveries below a position, newest first. `explain` sets the reason that is shown, before the filter looks at it.
pub(crate) fn deliveries(
    connection: &Connection,
    filter: &DeliveryFilter,
    below: DeliveryPosition,
    most: Most,
    mut explain: impl FnMut(&mut Delivery) -> rusqlite::Result<()>,
) -> rusqlite::Result<Found<DeliveryPosition, Delivery>> {
    let read = |row: &Row<'_>| filter.read(row, &mut explain);
    if let Some(job_id) = &filter.job_id {
        let mut found = deliveries_of_job(connection, job_id, read)?;
        found.retain(|(position, _)| *position < below);
        return Ok(most.cut(found, None));
    }
    let (low, high) = filter.period.bounds(connection)?;
    let one_more = Most { entries: most.entries.saturating_add(1), ..most };
    let (found, line) = if filter.tenant.is_none() && filter.route.is_none() && filter.states.is_empty() {
        every_delivery(connection, below, (low, high), one_more, read)?
    } else {
        let between =
            Between { above: (low.saturating_sub(1), i64::MAX), below: below.min((high, i64::MAX)) };
        let lanes = lanes(connection, filter.tenant.as_deref(), filter.route.as_deref())?;
        first(connection, &lanes, &filter.states, between, Order::NewestFirst, one_more, read)?
    };
    Ok(most.cut(found, line))
}

/// The deliveries of a job that `read` takes, newest first.
pub(super) fn deliveries_of_job(
    connection: &Connection,
    job_id: &str,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<(DeliveryPosition, Delivery)>>,
) -> rusqlite::Result<Vec<(DeliveryPosition, Delivery)>> {
    let select =
        "SELECT event_seq, route, delivery, attempts FROM deliveries WHERE event_seq = ? ORDER BY route DESC";
    let mut statement = connection.prepare_cached(select)?;
    let mut found = Vec::new();
    for (seq, _) in events_of_job(connection, job_id)? {
        let mut rows = statement.query([seq])?;
        while let Some(row) = rows.next()? {
            found.extend(read(row)?);
        }
    }
    Ok(found)
}

/// Deliveries of all lanes; and the position of the last row that was read, unless all were.
fn every_delivery(
    connection: &Connection,
    below: DeliveryPosition,
    (low, high): (i64, i64),
    most: Most,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<(DeliveryPosition, Delivery)>>,
) -> rusqlite::Result<Found<DeliveryPosition, Delivery>> {
    let select = "SELECT event_seq, route, delivery, attempts FROM deliveries
                  WHERE (event_seq, route) < (?, ?) AND event_seq BETWEEN ? AND ?
                  ORDER BY event_seq DESC, route DESC";
    let mut statement = connection.prepare_cached(select)?;
    // A bound on `event_seq` alone lets SQLite seek; the comparison of rows does not.
    let mut rows = statement.query((below.0, below.1, low, high.min(below.0)))?;
    let (mut found, mut left) = (Vec::new(), most.rows);
    while found.len() < most.entries
        && let Some(row) = rows.next()?
    {
        found.extend(read(row)?);
        left = left.saturating_sub(1);
        if left == 0 {
            return Ok((found, Some((row.get(0)?, row.get(1)?))));
        }
    }
    Ok((found, None))
}

/// A page of quarantined callbacks.
pub(crate) struct Quarantined {
    /// Newest first, each with its position.
    pub callbacks: Vec<((i64, String), QuarantinedCallback)>,
    /// Whether there are more.
    pub more: bool,
    /// Total of these partitions.
    pub total: u64,
}

/// Quarantined callbacks below a position (time of receipt, and id), newest first.
pub(crate) fn quarantined(
    connection: &Connection,
    set: &PartitionSet,
    tenant: Option<&str>,
    below: (i64, &str),
    max: usize,
) -> rusqlite::Result<Quarantined> {
    let select = "SELECT received_at, id, callback FROM quarantined
                  WHERE (received_at, id) < (?1, ?2) AND (?3 IS NULL OR tenant = ?3)
                  ORDER BY received_at DESC, id DESC LIMIT ?4";
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_map((below.0, below.1, tenant, limit(max.saturating_add(1))), |row| {
        Ok(((row.get(0)?, row.get(1)?), message(row, 2)?))
    })?;
    let (callbacks, more) = cut(rows.collect::<Result<_, _>>()?, max);
    let count =
        "SELECT partition, count(*) FROM quarantined WHERE ?1 IS NULL OR tenant = ?1 GROUP BY partition";
    let mut statement = connection.prepare_cached(count)?;
    let rows = statement.query_map([tenant], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let counts: Vec<(u16, u64)> = rows.collect::<Result<_, _>>()?;
    let total =
        counts.iter().filter(|(partition, _)| set.has_number(*partition)).map(|(_, count)| count).sum();
    Ok(Quarantined { callbacks, more, total })
}
