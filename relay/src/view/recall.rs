//! What whoever takes a route over has to know of it.

use super::{
    control,
    query::{LaneRow, lanes},
};
use crate::{decisions::route_block::RouteBlock, decisions::breaker::{Cause, Shut}};
use jiff::Timestamp;
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use talaria_bus::time::{from_proto, to_proto};
use talaria_proto::v1::{BreakerCause, Delivery, DeliveryState};

/// How long the starts of attempts are kept: as long as the longest window of a pace, and a while.
pub(super) const KEPT: std::time::Duration = std::time::Duration::from_secs(2 * 3_600);

/// What the journal says of a route.
#[derive(Clone, Debug, Default)]
pub struct Recalled {
    /// When its latest requests went out.
    pub sent: Vec<Timestamp>,
    /// Whether it is shut.
    pub shut: Option<Shut>,
}

/// What the journal says of a route, with requests since then.
pub fn recall(
    connection: &Connection,
    tenant: &str,
    route: &str,
    since: Timestamp,
) -> rusqlite::Result<Recalled> {
    let Some(lane) = lanes(connection, Some(tenant), Some(route))?.pop() else {
        return Ok(Recalled::default());
    };
    let select = "SELECT at FROM starts WHERE lane = ? AND at > ? ORDER BY at";
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_map((lane.number, since.as_microsecond()), |row| row.get(0))?;
    let starts: Vec<i64> = rows.collect::<Result<_, _>>()?;
    let sent = starts.into_iter().filter_map(|at| Timestamp::from_microsecond(at).ok()).collect();
    Ok(Recalled { sent, shut: shut(&lane) })
}

/// How a route is shut, if it is.
pub(super) fn shut(lane: &LaneRow) -> Option<Shut> {
    let cause = match BreakerCause::try_from(lane.cause).ok()? {
        _ if lane.held_because.is_empty() => return None,
        BreakerCause::Failures => Cause::Failures,
        BreakerCause::Configuration | BreakerCause::Unspecified => Cause::Configuration,
    };
    let until = Timestamp::from_microsecond(lane.held_until.unwrap_or_default()).unwrap_or_default();
    Some(Shut { until, cause, tries: lane.tries.max(1), why: lane.held_because.clone() })
}

/// What stands before the deliveries of a tenant's routes, by route.
pub fn blocks(connection: &Connection, tenant: &str) -> rusqlite::Result<BTreeMap<String, RouteBlock>> {
    let pauses = control::paused(connection)?;
    let pause = |route: &str| pauses.get(&(tenant.to_owned(), route.to_owned())).cloned();
    let block = |lane: LaneRow| {
        let pause = pause(&lane.route).or_else(|| pause("")).map(RouteBlock::Paused);
        let block = pause.or_else(|| shut(&lane).map(RouteBlock::Shut))?;
        Some((lane.route, block))
    };
    Ok(lanes(connection, Some(tenant), None)?.into_iter().filter_map(block).collect())
}

/// Says of deliveries that wait behind a block what they wait for; nothing is journalled of each of them.
pub fn explain_waiting(connection: &Connection, deliveries: &mut [Delivery]) -> rusqlite::Result<()> {
    let mut known = HashMap::new();
    for delivery in deliveries.iter_mut().filter(|delivery| delivery.state() == DeliveryState::Waiting) {
        if !known.contains_key(&delivery.tenant) {
            known.insert(delivery.tenant.clone(), blocks(connection, &delivery.tenant)?);
        }
        let blocks = known.get(&delivery.tenant);
        if let Some(block) = blocks.and_then(|blocks| blocks.get(&delivery.route)) {
            delivery.reason = block.because();
            let next = from_proto(delivery.next_attempt_at.as_ref());
            delivery.next_attempt_at = block.until().map(|until| to_proto(until.max(next)));
        }
    }
    Ok(())
}
