//! Queries of events, deliveries and quarantined callbacks. A lane here is a tenant's route with all its deliveries.

use super::{
    lanes::{Between, Chunks, Order, first, lanes},
    schema::{Attempts, CHUNK_BITS, job_key, span},
};
use crate::partition_set::PartitionSet;
use crate::view::schema::message;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};
use talaria_bus::sqlite::limit;
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::{
    time::from_proto,
    v1::{Attempt, Delivery, DeliveryState, Event, EventConflict, QuarantinedCallback},
};

/// A range of times at which events were received. `until` is excluded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Period {
    fn contains(&self, time: Option<&prost_types::Timestamp>) -> bool {
        let time = from_proto(time);
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }

    /// The first and the last sequence that an event of the period can have. Coarse, because the table `spans` has the sequences
    /// of ten seconds in a row: each event is checked by `contains`, too.
    fn bounds(&self, connection: &Connection) -> rusqlite::Result<(i64, i64)> {
        let bound = |query: &str, time: Timestamp, none: i64| {
            let bound: Option<i64> = connection
                .prepare_cached(query)?
                .query_row([span(time.as_microsecond())], |row| row.get(0))?;
            // No event was received then: an empty range.
            Ok::<_, rusqlite::Error>(bound.unwrap_or(none))
        };
        let low = match self.since {
            Some(since) => bound("SELECT min(low) FROM spans WHERE span >= ?", since, i64::MAX)?,
            None => 0,
        };
        let high = match self.until {
            Some(until) => bound("SELECT max(high) FROM spans WHERE span <= ?", until, 0)?,
            None => i64::MAX,
        };
        Ok((low, high))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct EventFilter {
    pub tenant: Option<String>,
    pub selection: Selection,
    /// Of the event's receipt.
    pub period: Period,
}

#[derive(Clone, Debug)]
pub(crate) enum Selection {
    All,
    OfJob(String),
    /// Events that no route took.
    Unmatched,
}

#[derive(Clone, Debug)]
pub(crate) struct DeliveryFilter {
    pub tenant: Option<String>,
    pub route: Option<String>,
    pub job_id: Option<String>,
    /// Any if it is empty.
    pub states: Vec<DeliveryState>,
    /// Of the event's receipt.
    pub period: Period,
}

impl DeliveryFilter {
    pub(crate) fn matches(&self, delivery: &Delivery) -> bool {
        allows(self.tenant.as_deref(), &delivery.tenant)
            && allows(self.route.as_deref(), &delivery.route)
            && allows(self.job_id.as_deref(), &delivery.job_id)
            && (self.states.is_empty() || self.states.contains(&delivery.state()))
            && self.period.contains(delivery.received_at.as_ref())
    }

    /// Whether the filter includes an event without deliveries: the event has no route and no state.
    pub(crate) fn includes_unmatched(&self, event: &Event) -> bool {
        self.route.is_none()
            && self.states.is_empty()
            && allows(self.tenant.as_deref(), &event.tenant)
            && allows(self.job_id.as_deref(), &event.job_id)
            && self.period.contains(event.received_at.as_ref())
    }
}

/// Whether a part of a filter allows a value.
pub(crate) fn allows(part: Option<&str>, value: &str) -> bool {
    part.is_none_or(|part| part == value)
}

/// The page of at most `max` entries, and whether there are more.
pub(super) fn cut<T>(mut found: Vec<T>, max: usize) -> (Vec<T>, bool) {
    let more = found.len() > max;
    found.truncate(max);
    (found, more)
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

/// Events below a sequence, newest first, and whether there are more.
pub(crate) fn events(
    connection: &Connection,
    filter: &EventFilter,
    below: i64,
    max: usize,
) -> rusqlite::Result<(Vec<(i64, Event)>, bool)> {
    let matches = |event: &Event| {
        allows(filter.tenant.as_deref(), &event.tenant) && filter.period.contains(event.received_at.as_ref())
    };
    let (index, condition) = match &filter.selection {
        Selection::OfJob(job_id) => {
            let mut found = events_of_job(connection, job_id)?;
            found.retain(|(seq, event)| *seq < below && matches(event));
            return Ok(cut(found, max));
        }
        Selection::All => ("", ""),
        Selection::Unmatched => ("INDEXED BY events_unmatched", "unmatched AND"),
    };
    // There is no index by tenant: other tenants' events are skipped.
    let select = format!(
        "SELECT seq, event FROM events {index} WHERE {condition} seq < ? AND seq BETWEEN ? AND ?
         AND (?4 IS NULL OR tenant = ?4) ORDER BY seq DESC"
    );
    let (low, high) = filter.period.bounds(connection)?;
    let mut statement = connection.prepare_cached(&select)?;
    let mut rows = statement.query((below, low, high.min(below), filter.tenant.as_deref()))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()?
        && found.len() <= max
    {
        let event: Event = message(row, 1)?;
        if matches(&event) {
            found.push((row.get(0)?, event));
        }
    }
    Ok(cut(found, max))
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

/// Deliveries below a position, newest first, and whether there are more.
pub(crate) fn deliveries(
    connection: &Connection,
    filter: &DeliveryFilter,
    below: DeliveryPosition,
    max: usize,
) -> rusqlite::Result<(Vec<(DeliveryPosition, Delivery)>, bool)> {
    let one_more = max.saturating_add(1);
    let mut found = if let Some(job_id) = &filter.job_id {
        deliveries_of_job(connection, job_id)?.into_iter().filter(|(position, _)| *position < below).collect()
    } else if filter.tenant.is_none() && filter.route.is_none() && filter.states.is_empty() {
        every_delivery(connection, filter, below, one_more)?
    } else {
        let (low, high) = filter.period.bounds(connection)?;
        let between =
            Between { above: (low.saturating_sub(1), i64::MAX), below: below.min((high, i64::MAX)) };
        let lanes = lanes(connection, filter.tenant.as_deref(), filter.route.as_deref())?;
        let order = Order::NewestFirst;
        first(connection, &lanes, &filter.states, between, order, one_more, |delivery| {
            filter.matches(delivery)
        })?
    };
    found.retain(|(_, delivery)| filter.matches(delivery));
    Ok(cut(found, max))
}

pub(super) fn deliveries_of_job(
    connection: &Connection,
    job_id: &str,
) -> rusqlite::Result<Vec<(DeliveryPosition, Delivery)>> {
    let select = "SELECT event_seq, route, delivery FROM deliveries WHERE event_seq = ? ORDER BY route DESC";
    let mut statement = connection.prepare_cached(select)?;
    let mut found = Vec::new();
    for (seq, _) in events_of_job(connection, job_id)? {
        found.extend(statement.query_map([seq], placed)?.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(found)
}

fn placed(row: &Row<'_>) -> rusqlite::Result<(DeliveryPosition, Delivery)> {
    Ok(((row.get(0)?, row.get(1)?), message(row, 2)?))
}

fn every_delivery(
    connection: &Connection,
    filter: &DeliveryFilter,
    below: DeliveryPosition,
    max: usize,
) -> rusqlite::Result<Vec<(DeliveryPosition, Delivery)>> {
    let (low, high) = filter.period.bounds(connection)?;
    let select = "SELECT event_seq, route, delivery FROM deliveries
                  WHERE (event_seq, route) < (?, ?) AND event_seq BETWEEN ? AND ?
                  ORDER BY event_seq DESC, route DESC";
    let mut statement = connection.prepare_cached(select)?;
    // A bound on `event_seq` alone lets SQLite seek; the comparison of rows does not.
    let mut rows = statement.query((below.0, below.1, low, high.min(below.0)))?;
    let mut found = Vec::new();
    while found.len() < max
        && let Some(row) = rows.next()?
    {
        let (position, delivery) = placed(row)?;
        if filter.matches(&delivery) {
            found.push((position, delivery));
        }
    }
    Ok(found)
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
