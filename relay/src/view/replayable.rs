//! The deliveries that a replay means, oldest events first.

use super::query::{DeliveryFilter, Place, deliveries_of_job, lanes, take_matching};
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::BTreeMap;
use talaria_bus::sqlite::message;
use talaria_core::{config::EventPattern, id::DeliveryId};
use talaria_proto::v1::Delivery;

/// Before every place.
pub const BOTTOM: Place = (0, i64::MIN);

/// Which deliveries.
#[derive(Clone, Debug)]
pub struct ReplayFilter {
    /// As in lists; with states.
    pub deliveries: DeliveryFilter,
    /// Of these types; any where there is none.
    pub event_type: Option<EventPattern>,
}

impl ReplayFilter {
    fn matches(&self, delivery: &Delivery) -> bool {
        self.event_type.as_ref().is_none_or(|pattern| pattern.matches(&delivery.event_type))
            && self.deliveries.matches(delivery)
    }
}

/// The place of the newest event.
pub fn newest_event(connection: &Connection) -> rusqlite::Result<u64> {
    let newest: Option<u64> = connection.query_row("SELECT max(seq) FROM events", (), |row| row.get(0))?;
    Ok(newest.unwrap_or(0))
}

/// Deliveries behind a place and of no later event than `last`, oldest first.
pub fn deliveries(
    connection: &Connection,
    filter: &ReplayFilter,
    behind: Place,
    last: u64,
    max: usize,
) -> rusqlite::Result<Vec<(Place, Delivery)>> {
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    if let Some(job_id) = &filter.deliveries.job_id {
        let mut found = deliveries_of_job(connection, job_id)?;
        found.retain(|(place, delivery)| *place > behind && place.0 <= last && filter.matches(delivery));
        found.sort_by_key(|(place, _)| *place);
        found.truncate(max);
        return Ok(found);
    }
    // Each route and state has its oldest in an index; the oldest of all are among the oldest of each.
    let select = "SELECT event_seq, route, delivery FROM deliveries
                  WHERE lane = ? AND state = ? AND (event_seq, route) > (?, ?) AND event_seq BETWEEN ? AND ?
                  ORDER BY event_seq, route";
    let mut statement = connection.prepare_cached(select)?;
    let mut found: BTreeMap<Place, Delivery> = BTreeMap::new();
    let DeliveryFilter { tenant, route, states, .. } = &filter.deliveries;
    for lane in lanes(connection, tenant.as_deref(), route.as_deref())? {
        for state in states {
            // Nothing behind the last of those that were found is wanted, if there are enough.
            let last =
                found.last_key_value().filter(|_| found.len() >= max).map_or(last, |(place, _)| place.0);
            let bounds = (lane.number, i32::from(*state), behind.0, behind.1, behind.0, last);
            found.extend(take_matching(
                &mut statement.query(bounds)?,
                |delivery| filter.matches(delivery),
                max,
            )?);
            while found.len() > max {
                found.pop_last();
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The places of the events that have such deliveries, by tenant and route.
pub fn events(
    connection: &Connection,
    filter: &ReplayFilter,
    last: u64,
) -> rusqlite::Result<BTreeMap<(String, String), Vec<u64>>> {
    let mut found: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    let DeliveryFilter { tenant, route, states, job_id, .. } = &filter.deliveries;
    if job_id.is_some() {
        for ((seq, _), delivery) in deliveries(connection, filter, BOTTOM, last, usize::MAX)? {
            found.entry((delivery.tenant, delivery.route)).or_default().push(seq.cast_unsigned());
        }
        return Ok(found);
    }
    let select = "SELECT event_seq, delivery FROM deliveries WHERE lane = ? AND state = ? AND event_seq <= ?";
    let mut statement = connection.prepare_cached(select)?;
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    for lane in lanes(connection, tenant.as_deref(), route.as_deref())? {
        let events = found.entry((lane.tenant, lane.route)).or_default();
        for state in states {
            let mut rows = statement.query((lane.number, i32::from(*state), last))?;
            while let Some(row) = rows.next()? {
                if filter.matches(&message(row, 1)?) {
                    events.push(row.get(0)?);
                }
            }
        }
    }
    Ok(found)
}

/// A delivery with its event's place and its step.
pub fn delivery(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Option<(u64, u32, Delivery)>> {
    let select = "SELECT event_seq, step, delivery FROM deliveries
                  WHERE event_seq = (SELECT seq FROM events WHERE id = ?) AND route = ?";
    let mut statement = connection.prepare_cached(select)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, message(row, 2)?));
    statement.query_row((id.event.as_bytes(), id.route.to_i64()), read).optional()
}

/// The step of the delivery at a place.
pub fn step(connection: &Connection, place: Place) -> rusqlite::Result<u32> {
    let select = "SELECT step FROM deliveries WHERE event_seq = ? AND route = ?";
    connection.prepare_cached(select)?.query_row(place, |row| row.get(0))
}
