//! Deliveries by lane: here that is a tenant's route with all its deliveries, and not only with the waiting ones.
//!
//! Most deliveries are DELIVERED. These are indexed by chunks of the events' sequences, so that a new row changes a page that
//! others of its batch change too, even with many routes. A query seeks in each chunk. The index of all other states is by route
//! alone.

use super::{query::DeliveryPosition, schema::CHUNK_BITS};
use crate::view::schema::message;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::{BTreeMap, HashSet};
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
}

/// The first matching deliveries of lanes, at most `max`, in one of these states, or in any.
pub(super) fn first(
    connection: &Connection,
    lanes: &[LaneRow],
    states: &[DeliveryState],
    mut between: Between,
    order: Order,
    max: usize,
    matches: impl Fn(&Delivery) -> bool,
) -> rusqlite::Result<Vec<(DeliveryPosition, Delivery)>> {
    let states = if states.is_empty() { &DeliveryState::ALL } else { states };
    let select = "SELECT lane, state FROM delivery_counts WHERE count > 0";
    let mut statement = connection.prepare_cached(select)?;
    let present: HashSet<(i64, i32)> =
        statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut found: BTreeMap<DeliveryPosition, Delivery> = BTreeMap::new();
    for lane in lanes {
        for state in states.iter().filter(|state| present.contains(&(lane.number, i32::from(**state)))) {
            let mut count = 0;
            each(connection, lane.number, *state, between, order, |position, delivery| {
                if matches(&delivery) {
                    found.insert(position, delivery);
                    count += 1;
                }
                count < max
            })?;
            while found.len() > max {
                match order {
                    Order::NewestFirst => found.pop_first(),
                    Order::OldestFirst => found.pop_last(),
                };
            }
            if found.len() == max {
                let last = match order {
                    Order::NewestFirst => found.first_key_value(),
                    Order::OldestFirst => found.last_key_value(),
                };
                between = last.map_or(between, |(position, _)| between.up_to(*position, order));
            }
        }
    }
    let found = found.into_iter();
    Ok(if order == Order::NewestFirst { found.rev().collect() } else { found.collect() })
}

/// The deliveries of a lane in a state, until `visit` wants no more.
pub(super) fn each(
    connection: &Connection,
    lane: i64,
    state: DeliveryState,
    between: Between,
    order: Order,
    mut visit: impl FnMut(DeliveryPosition, Delivery) -> bool,
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
            "SELECT event_seq, route, delivery FROM deliveries INDEXED BY deliveries_lane
             WHERE lane = ?1 AND state = ?2 AND state != 2 AND {bounds} {by}"
        );
        let mut statement = connection.prepare_cached(&select)?;
        let mut rows = statement.query((lane, i32::from(state), above.0, above.1, below.0, below.1))?;
        while let Some(row) = rows.next()? {
            if !visit((row.get(0)?, row.get(1)?), message(row, 2)?) {
                break;
            }
        }
        return Ok(());
    }
    let select = format!(
        "SELECT event_seq, route, delivery FROM deliveries INDEXED BY deliveries_delivered
         WHERE event_seq >> {CHUNK_BITS} = ?2 AND lane = ?1 AND state = 2 AND {bounds} {by}"
    );
    let mut statement = connection.prepare_cached(&select)?;
    for chunk in Chunks::of(connection, "deliveries", "event_seq", between.seqs(), order)? {
        let mut rows = statement.query((lane, chunk?, above.0, above.1, below.0, below.1))?;
        while let Some(row) = rows.next()? {
            if !visit((row.get(0)?, row.get(1)?), message(row, 2)?) {
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
