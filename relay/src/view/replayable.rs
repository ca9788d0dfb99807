//! The deliveries that a replay job selects in one partition, oldest events first.

use super::{
    filter::DeliveryFilter,
    lanes::{Between, LaneRow, Order, each, first, lanes},
    query::{DeliveryPosition, Most, deliveries_of_job, event_seq},
};
use crate::view::schema::message;
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::collections::BTreeMap;
use talaria_bus::Partition;
use talaria_core::id::DeliveryId;
use talaria_proto::v1::Delivery;

/// Below every position.
pub(crate) const BOTTOM: DeliveryPosition = (0, i64::MIN);

/// The sequence of a partition's newest event.
pub(crate) fn newest_event(connection: &Connection, partition: Partition) -> rusqlite::Result<u64> {
    let select = "SELECT max(seq) FROM events WHERE partition = ?";
    let newest: Option<u64> =
        connection.prepare_cached(select)?.query_row([partition.number()], |row| row.get(0))?;
    Ok(newest.unwrap_or(0))
}

/// Deliveries, in at least one state, of a partition above a position and up to the event `last`, oldest first.
pub(crate) fn deliveries(
    connection: &Connection,
    partition: Partition,
    filter: &DeliveryFilter,
    behind: DeliveryPosition,
    last: u64,
    max: usize,
) -> rusqlite::Result<Vec<(DeliveryPosition, Delivery)>> {
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    let lanes = lanes_of(connection, partition, filter)?;
    let read = |row: &Row<'_>| filter.read(row, &mut |_| Ok(()));
    if let Some(job_id) = &filter.job_id {
        let mut found = deliveries_of_job(connection, job_id, read)?;
        found.retain(|(position, delivery)| {
            *position > behind
                && position.0 <= last
                && lanes.iter().any(|lane| lane.tenant == delivery.tenant && lane.route == delivery.route)
        });
        found.sort_by_key(|(position, _)| *position);
        found.truncate(max);
        return Ok(found);
    }
    let between = Between { above: behind, below: (last, i64::MAX) };
    // No client waits for it: as many rows as it takes.
    let most = Most { entries: max, rows: usize::MAX };
    Ok(first(connection, &lanes, &filter.states, between, Order::OldestFirst, most, read)?.0)
}

fn lanes_of(
    connection: &Connection,
    partition: Partition,
    filter: &DeliveryFilter,
) -> rusqlite::Result<Vec<LaneRow>> {
    let DeliveryFilter { tenant, route, .. } = filter;
    let mut lanes = lanes(connection, tenant.as_deref(), route.as_deref())?;
    lanes.retain(|lane| lane.partition == partition.number());
    Ok(lanes)
}

/// The sequences of a partition's events with matching deliveries, by tenant and route.
pub(crate) fn events(
    connection: &Connection,
    partition: Partition,
    filter: &DeliveryFilter,
    last: u64,
) -> rusqlite::Result<BTreeMap<(String, String), Vec<u64>>> {
    let mut found: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    if filter.job_id.is_some() {
        for ((seq, _), delivery) in deliveries(connection, partition, filter, BOTTOM, last, usize::MAX)? {
            found.entry((delivery.tenant, delivery.route)).or_default().push(seq.cast_unsigned());
        }
        return Ok(found);
    }
    let between = Between { above: BOTTOM, below: (i64::try_from(last).unwrap_or(i64::MAX), i64::MAX) };
    for lane in lanes_of(connection, partition, filter)? {
        let events = found.entry((lane.tenant, lane.route)).or_default();
        for state in &filter.states {
            each(connection, lane.number, *state, between, Order::OldestFirst, |row| {
                let found = filter.read(row, &mut |_| Ok(()))?;
                events.extend(found.map(|((seq, _), _)| seq.cast_unsigned()));
                Ok(true)
            })?;
        }
    }
    Ok(found)
}

/// A delivery with its event's sequence and its step.
pub(crate) fn delivery(
    connection: &Connection,
    id: DeliveryId,
) -> rusqlite::Result<Option<(u64, u32, Delivery)>> {
    let Some(event_seq) = event_seq(connection, id.event)? else { return Ok(None) };
    let select = "SELECT step, delivery FROM deliveries WHERE event_seq = ? AND route = ?";
    let mut statement = connection.prepare_cached(select)?;
    let read = |row: &Row<'_>| Ok((event_seq, row.get(0)?, message(row, 1)?));
    statement.query_row((event_seq, id.route.to_i64()), read).optional()
}

/// The step of the delivery at a position.
pub(crate) fn step(connection: &Connection, position: DeliveryPosition) -> rusqlite::Result<u32> {
    let select = "SELECT step FROM deliveries WHERE event_seq = ? AND route = ?";
    connection.prepare_cached(select)?.query_row(position, |row| row.get(0))
}
