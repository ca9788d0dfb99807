//! The blocks of routes: pauses, breakers, and faults of the configuration.

use super::{
    control,
    lanes::{LaneRow, lanes},
};
use crate::decisions::{
    breaker::{Cause, Shut},
    route_block::RouteBlock,
    run,
};
use jiff::Timestamp;
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use talaria_core::config::Config;
use talaria_proto::{
    time::{duration_to_proto, from_proto, to_proto},
    v1::{BreakerCause, Delivery, DeliveryState, Pause},
};

pub(super) fn shut(lane: &LaneRow) -> Option<Shut> {
    let cause = match BreakerCause::try_from(lane.cause).ok()? {
        _ if lane.held_because.is_empty() => return None,
        BreakerCause::Failures => Cause::Failures,
        BreakerCause::Configuration | BreakerCause::Unspecified => Cause::Configuration,
    };
    let until = Timestamp::from_microsecond(lane.held_until.unwrap_or_default()).unwrap_or_default();
    Some(Shut { until, cause, tries: lane.tries.max(1), why: lane.held_because.clone() })
}

/// The blocks of a tenant's routes, by route; `config` is the current configuration.
pub(crate) fn blocks(
    connection: &Connection,
    tenant: &str,
    config: &Config,
) -> rusqlite::Result<BTreeMap<String, RouteBlock>> {
    let pauses = control::paused(connection)?;
    let pause = |route: &str| pauses.get(&(tenant.to_owned(), route.to_owned())).cloned();
    let block = |lane: LaneRow| {
        let pauses: Vec<Pause> = [pause(&lane.route), pause("")].into_iter().flatten().collect();
        let paused = (!pauses.is_empty()).then_some(RouteBlock::Paused(pauses));
        let block = paused.or_else(|| shut(&lane).map(RouteBlock::Shut))?;
        Some((lane.route, block))
    };
    let mut blocks: BTreeMap<String, RouteBlock> =
        lanes(connection, Some(tenant), None)?.into_iter().filter_map(block).collect();
    for (name, route) in config.tenants.get(tenant).iter().flat_map(|tenant| &tenant.routes) {
        let is_paused = matches!(blocks.get(name), Some(RouteBlock::Paused(_)));
        if let Some(down) = route.down.as_ref().filter(|_| !is_paused) {
            blocks.insert(name.clone(), RouteBlock::Down(down.what.clone()));
        }
    }
    Ok(blocks)
}

/// Sets a block as the reason of the waiting deliveries behind it, which have no record about it; and whether a run is overdue.
pub(crate) fn explain_all(
    connection: &Connection,
    deliveries: &mut [Delivery],
    config: &Config,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut blocks = Blocks::new(connection, config, now);
    deliveries.iter_mut().try_for_each(|delivery| blocks.explain(delivery))
}

/// The same for one delivery after another.
pub(crate) struct Blocks<'a> {
    connection: &'a Connection,
    config: &'a Config,
    now: Timestamp,
    /// By tenant and route.
    known: HashMap<String, BTreeMap<String, RouteBlock>>,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(connection: &'a Connection, config: &'a Config, now: Timestamp) -> Self {
        Self { connection, config, now, known: HashMap::new() }
    }

    pub(crate) fn explain(&mut self, delivery: &mut Delivery) -> rusqlite::Result<()> {
        if delivery.state() != DeliveryState::Waiting {
            let route = self.config.route(&delivery.tenant, &delivery.route);
            let overdue = run::overdue(delivery, route.map(AsRef::as_ref), self.now);
            delivery.run_overdue = overdue.map(duration_to_proto);
            return Ok(());
        }
        if !self.known.contains_key(&delivery.tenant) {
            let of_tenant = blocks(self.connection, &delivery.tenant, self.config)?;
            self.known.insert(delivery.tenant.clone(), of_tenant);
        }
        let of_tenant = self.known.get(&delivery.tenant);
        if let Some(block) = of_tenant.and_then(|blocks| blocks.get(&delivery.route)) {
            delivery.reason = block.because();
            let next = from_proto(delivery.next_attempt_at.as_ref());
            delivery.next_attempt_at = block.until().map(|until| to_proto(until.max(next)));
        }
        Ok(())
    }
}
