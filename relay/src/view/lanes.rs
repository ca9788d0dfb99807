//! Deliveries by lane: here that is a tenant's route with all its deliveries, and not only with the waiting ones.
//!
//! Most deliveries are DELIVERED. These are indexed by chunks of the events' sequences, so that a new row changes a page that
//! others of its batch change too, even with many routes. A query seeks in each chunk. The index of all other states is by route
//! alone.

use super::{
    query::{DeliveryPosition, Found, Most},
    schema::CHUNK_BITS,
};
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::collections::{BTreeMap, HashMap};
use talaria_proto::v1::{Delivery, DeliveryState};

pub(super) struct LaneRow {
    pub number: i64,
    pub partition: u16,
    pub tenant: String,
    pub route: String,
    pub held_because: String,
    pub held_until: Option<i64>,
    pub cause: i32,
    pub tries: u32,
}

/// The lanes of a tenant, of routes of this name, or all, by tenant and route.
pub(super) fn lanes(
    connection: &Connection,
    tenant: Option<&str>,
    route: Option<&str>,
) -> rusqlite::Result<Vec<LaneRow>> {
    let select = "SELECT lane, partition, tenant, route, held_because, held_until, cause, tries FROM lanes
                  WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR route = ?2) ORDER BY tenant, route";
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_map((tenant, route), |row| {
        Ok(LaneRow {
            number: row.get(0)?,
            partition: row.get(1)?,
            tenant: row.get(2)?,
            route: row.get(3)?,
            held_because: row.get(4)?,
            held_until: row.get(5)?,
            cause: row.get(6)?,
            tries: row.get(7)?,
        })
    })?;
    rows.collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    NewestFirst,
    OldestFirst,
}

/// A range of positions, without its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between {
    pub above: DeliveryPosition,
    pub below: DeliveryPosition,
}

impl Between {
    /// The range of sequences, with its ends.
    fn seqs(self) -> (i64, i64) {
        (self.above.0, self.below.0)
    }

    /// The part before `last` in this order.
    fn up_to(self, last: DeliveryPosition, order: Order) -> Self {
        match order {
            Order::NewestFirst => Self { above: last.max(self.above), ..self },
            Order::OldestFirst => Self { below: last.min(self.below), ..self },
        }
    }

    /// Whether a position comes after the range in this order. Its end does not.
    fn is_behind(self, position: DeliveryPosition, order: Order) -> bool {
        match order {
            Order::NewestFirst => position < self.above,
            Order::OldestFirst => position > self.below,
        }
    }
}

/// The first deliveries of lanes that `read` takes, in one of these states, or in any; and the position behind which there may be
/// more that were not read, because there are too many rows.
pub(super) fn first(
    connection: &Connection,
    lanes: &[LaneRow],
    states: &[DeliveryState],
    mut between: Between,
    order: Order,
    most: Most,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<(DeliveryPosition, Delivery)>>,
) -> rusqlite::Result<Found<DeliveryPosition, Delivery>> {
    let (mut found, mut line) = (BTreeMap::<DeliveryPosition, Delivery>::new(), None);
    let parts = parts(connection, lanes, states)?;
    let mut rows = most.rows;
    for (index, (_, lane, state)) in parts.iter().enumerate() {
        // The smaller parts before this one leave their rest to the larger ones.
        let share = (rows / (parts.len() - index)).max(1);
        let (mut seen, mut taken) = (0, 0);
        each(connection, *lane, *state, between, order, |row| {
            seen += 1;
            if let Some((position, delivery)) = read(row)? {
                found.insert(position, delivery);
                taken += 1;
            }
            if seen == share {
                line = Some((row.get(0)?, row.get(1)?));
            }
            Ok(taken < most.entries && seen < share)
        })?;
        rows = rows.saturating_sub(seen);
        if let Some(line) = line {
            between = between.up_to(line, order);
            found.retain(|position, _| !between.is_behind(*position, order));
        }
        while found.len() > most.entries {
            match order {
                Order::NewestFirst => found.pop_first(),
                Order::OldestFirst => found.pop_last(),
            };
        }
        if found.len() == most.entries {
            let last = match order {
                Order::NewestFirst => found.first_key_value(),
                Order::OldestFirst => found.last_key_value(),
            };
            between = last.map_or(between, |(position, _)| between.up_to(*position, order));
        }
    }
    let found = found.into_iter();
    Ok((if order == Order::NewestFirst { found.rev().collect() } else { found.collect() }, line))
}

/// The lanes and states that have deliveries, with their number, the smallest first.
fn parts(
    connection: &Connection,
    lanes: &[LaneRow],
    states: &[DeliveryState],
) -> rusqlite::Result<Vec<(u64, i64, DeliveryState)>> {
    let states = if states.is_empty() { &DeliveryState::ALL } else { states };
    let select = "SELECT lane, state, count FROM delivery_counts WHERE count > 0";
    let mut statement = connection.prepare_cached(select)?;
    let counts: HashMap<(i64, i32), u64> = statement
        .query_map((), |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let part = |lane: i64, state: DeliveryState| Some((*counts.get(&(lane, state.into()))?, lane, state));
    let parts =
        lanes.iter().flat_map(|lane| states.iter().filter_map(move |state| part(lane.number, *state)));
    let mut parts: Vec<_> = parts.collect();
    parts.sort_unstable();
    Ok(parts)
}

/// The deliveries of a lane in a state, until `visit` wants no more. A row has the event's sequence, the route, the delivery and its
/// attempts.
pub(super) fn each(
    connection: &Connection,
    lane: i64,
    state: DeliveryState,
    between: Between,
    order: Order,
    mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let by = match order {
        Order::NewestFirst => "ORDER BY event_seq DESC, route DESC",
        Order::OldestFirst => "ORDER BY event_seq, route",
    };
    // A bound on `event_seq` alone lets SQLite seek; the comparison of rows does not.
    let bounds =
        "(event_seq, route) > (?3, ?4) AND (event_seq, route) < (?5, ?6) AND event_seq BETWEEN ?3 AND ?5";
    let Between { above, below } = between;
    if state != DeliveryState::Delivered {
        let select = format!(
            "SELECT event_seq, route, delivery, attempts FROM deliveries INDEXED BY deliveries_lane
             WHERE lane = ?1 AND state = ?2 AND state != 2 AND {bounds} {by}"
        );
        let mut statement = connection.prepare_cached(&select)?;
        let mut rows = statement.query((lane, i32::from(state), above.0, above.1, below.0, below.1))?;
        while let Some(row) = rows.next()?
            && visit(row)?
        {}
        return Ok(());
    }
    let select = format!(
        "SELECT event_seq, route, delivery, attempts FROM deliveries INDEXED BY deliveries_delivered
         WHERE event_seq >> {CHUNK_BITS} = ?2 AND lane = ?1 AND state = 2 AND {bounds} {by}"
    );
    let mut statement = connection.prepare_cached(&select)?;
    for chunk in Chunks::of(connection, "deliveries", "event_seq", between.seqs(), order)? {
        let mut rows = statement.query((lane, chunk?, above.0, above.1, below.0, below.1))?;
        while let Some(row) = rows.next()? {
            if !visit(row)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The latencies of the last deliveries of a lane, in microseconds.
pub(super) fn latencies(connection: &Connection, lane: i64, max: usize) -> rusqlite::Result<Vec<i64>> {
    let select = format!(
        "SELECT latency FROM deliveries INDEXED BY deliveries_delivered
         WHERE event_seq >> {CHUNK_BITS} = ?2 AND lane = ?1 AND state = 2 AND latency IS NOT NULL
         ORDER BY event_seq DESC, route DESC"
    );
    let mut statement = connection.prepare_cached(&select)?;
    let mut latencies = Vec::new();
    for chunk in Chunks::of(connection, "deliveries", "event_seq", (0, i64::MAX), Order::NewestFirst)? {
        let mut rows = statement.query((lane, chunk?))?;
        while latencies.len() < max
            && let Some(row) = rows.next()?
        {
            latencies.push(row.get(0)?);
        }
        if latencies.len() == max {
            break;
        }
    }
    Ok(latencies)
}

/// The chunks of sequences with rows in a table.
pub(super) struct Chunks<'a> {
    next: rusqlite::CachedStatement<'a>,
    seqs: (i64, i64),
    order: Order,
}

impl<'a> Chunks<'a> {
    /// The chunks that overlap with these sequences.
    pub(super) fn of(
        connection: &'a Connection,
        table: &str,
        column: &str,
        seqs: (i64, i64),
        order: Order,
    ) -> rusqlite::Result<Self> {
        let by = if order == Order::NewestFirst { "DESC" } else { "ASC" };
        let select = format!(
            "SELECT {column} FROM {table} WHERE {column} BETWEEN ? AND ? ORDER BY {column} {by} LIMIT 1"
        );
        Ok(Self { next: connection.prepare_cached(&select)?, seqs, order })
    }
}

impl Iterator for Chunks<'_> {
    type Item = rusqlite::Result<i64>;

    fn next(&mut self) -> Option<Self::Item> {
        let seq: i64 = match self.next.query_row(self.seqs, |row| row.get(0)).optional() {
            Ok(found) => found?,
            Err(error) => return Some(Err(error)),
        };
        let chunk = seq >> CHUNK_BITS;
        match self.order {
            Order::NewestFirst => self.seqs.1 = (chunk << CHUNK_BITS) - 1,
            Order::OldestFirst => self.seqs.0 = (chunk + 1) << CHUNK_BITS,
        }
        Some(Ok(chunk))
    }
}
