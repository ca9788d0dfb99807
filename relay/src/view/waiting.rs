//! What waits, per route, and since when: cheap enough to be asked every few seconds.

use super::{
    query::{LaneRow, lanes},
    recall,
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};
use talaria_bus::{sqlite::message, time::from_proto};
use talaria_proto::v1::{Delivery, DeliveryState};

/// A route that anything was ever planned for, or that was paused.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The tenant.
    pub tenant: String,
    /// The route.
    pub route: String,
    /// How many deliveries wait.
    pub count: u64,
    /// When the callback of the oldest of them was received.
    pub oldest: Option<Timestamp>,
    /// Whether the breaker holds it shut.
    pub shut: bool,
}

/// What waits for each route.
pub fn waiting(connection: &Connection) -> rusqlite::Result<Vec<Waiting>> {
    lanes(connection, None, None)?.into_iter().map(|lane| of_lane(connection, lane)).collect()
}

fn of_lane(connection: &Connection, lane: LaneRow) -> rusqlite::Result<Waiting> {
    let waiting = i32::from(DeliveryState::Waiting);
    // The counts are kept while rows come and go, and the index has the oldest first: neither looks at the backlog.
    let count: Option<u64> = connection
        .prepare_cached("SELECT max(count, 0) FROM delivery_counts WHERE lane = ? AND state = ?")?
        .query_row((lane.number, waiting), |row| row.get(0))
        .optional()?;
    let oldest: Option<Delivery> = connection
        .prepare_cached(
            "SELECT delivery FROM deliveries WHERE lane = ? AND state = ? ORDER BY event_seq, route LIMIT 1",
        )?
        .query_row((lane.number, waiting), |row| message(row, 0))
        .optional()?;
    Ok(Waiting {
        count: count.unwrap_or_default(),
        oldest: oldest.map(|delivery| from_proto(delivery.received_at.as_ref())),
        shut: recall::shut(&lane).is_some(),
        tenant: lane.tenant,
        route: lane.route,
    })
}
