//! Sums per tenant and route.

use super::{
    blocks, control,
    lanes::{Between, LaneRow, Order, each, lanes, latencies},
    query::TOP,
    replayable::BOTTOM,
};
use crate::view::schema::message;
use jiff::Timestamp;
use rusqlite::{Connection, Row};
use std::{collections::BTreeMap, time::Duration};
use talaria_proto::{
    time::{duration_to_proto, to_proto},
    v1::{
        BreakerCause, BreakerState, Delivery, DeliveryState, Latency, RouteSummary, StateCount, TenantSummary,
    },
};

/// The number of latest deliveries for the percentiles.
const LATENCY_SAMPLES: usize = 1000;

pub(crate) fn route_summaries(
    connection: &Connection,
    tenant: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<Vec<RouteSummary>> {
    let pauses = control::paused(connection)?;
    let pause = |tenant: &str, route: &str| pauses.get(&(tenant.to_owned(), route.to_owned())).cloned();
    let summary = |lane: LaneRow| {
        let pause = pause(&lane.tenant, &lane.route).or_else(|| pause(&lane.tenant, ""));
        Ok(RouteSummary { pause, ..route_summary(connection, lane, now)? })
    };
    lanes(connection, tenant, None)?.into_iter().map(summary).collect()
}

fn route_summary(connection: &Connection, lane: LaneRow, now: Timestamp) -> rusqlite::Result<RouteSummary> {
    let mut statement = connection.prepare_cached(
        "SELECT state, count FROM delivery_counts WHERE lane = ? AND count > 0 ORDER BY state",
    )?;
    let counts: Vec<StateCount> = statement
        .query_map([lane.number], |row| Ok(StateCount { state: row.get(0)?, count: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    let count = |state: DeliveryState| {
        counts.iter().find(|counted| counted.state() == state).map_or(0, |counted| counted.count)
    };
    let delivered = count(DeliveryState::Delivered);
    let decided = delivered + count(DeliveryState::Parked) + count(DeliveryState::Ambiguous);
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    let success_share = (decided > 0).then(|| delivered as f64 / decided as f64);
    let (mut oldest, everything) = (None, Between { above: BOTTOM, below: TOP });
    let waiting = DeliveryState::Waiting;
    each(connection, lane.number, waiting, everything, Order::OldestFirst, |row| {
        oldest = Some(message::<Delivery>(row, 2)?);
        Ok(false)
    })?;
    let (breaker, breaker_cause) = match blocks::shut(&lane) {
        None => (BreakerState::Admitting, BreakerCause::Unspecified),
        Some(shut) => {
            let state = if shut.until <= now { BreakerState::Probing } else { BreakerState::Shut };
            (state, shut.cause.into())
        }
    };
    Ok(RouteSummary {
        breaker: breaker.into(),
        breaker_cause: breaker_cause.into(),
        backlog: count(DeliveryState::Waiting),
        oldest_waiting_received_at: oldest.and_then(|delivery: Delivery| delivery.received_at),
        success_share,
        delivery_latency: if delivered > 0 { latency(connection, lane.number)? } else { None },
        held_because: lane.held_because,
        held_until: lane.held_until.and_then(|until| Timestamp::from_microsecond(until).ok()).map(to_proto),
        // Added by the caller.
        pause: None,
        pace: None,
        not_configured: false,
        down_because: String::new(),
        tenant: lane.tenant,
        route: lane.route,
        counts,
    })
}

fn latency(connection: &Connection, lane: i64) -> rusqlite::Result<Option<Latency>> {
    let mut samples = latencies(connection, lane, LATENCY_SAMPLES)?;
    samples.sort_unstable();
    let percentile = |percent: usize| {
        // Nearest rank: the smallest sample with at least this percentage at or below it.
        let rank = (samples.len() * percent).div_ceil(100).max(1);
        let micros = samples.get(rank - 1).copied().unwrap_or_default();
        Some(duration_to_proto(Duration::from_micros(micros.unsigned_abs())))
    };
    Ok((!samples.is_empty()).then(|| Latency {
        samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        p50: percentile(50),
        p90: percentile(90),
        p99: percentile(99),
    }))
}

pub(crate) fn tenant_summaries(
    connection: &Connection,
    tenant: Option<&str>,
) -> rusqlite::Result<Vec<TenantSummary>> {
    let mut tenants: BTreeMap<String, TenantSummary> = BTreeMap::new();
    let mut add = |query: &str, put: fn(&mut TenantSummary, &Row<'_>) -> rusqlite::Result<()>| {
        let mut statement = connection.prepare_cached(query)?;
        let mut rows = statement.query([tenant])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let summary = tenants.entry(name.clone()).or_default();
            summary.tenant = name;
            put(summary, row)?;
        }
        Ok::<_, rusqlite::Error>(())
    };
    add(
        "SELECT tenant, events, unmatched FROM event_counts WHERE ?1 IS NULL OR tenant = ?1",
        |summary, row| {
            (summary.events, summary.unmatched_events) = (row.get(1)?, row.get(2)?);
            Ok(())
        },
    )?;
    add(
        "SELECT tenant, count(*) FROM conflicts JOIN events ON event_seq = seq
         WHERE ?1 IS NULL OR tenant = ?1 GROUP BY tenant",
        |summary, row| {
            summary.conflicts = row.get(1)?;
            Ok(())
        },
    )?;
    add(
        "SELECT tenant, count(*) FROM quarantined WHERE ?1 IS NULL OR tenant = ?1 GROUP BY tenant",
        |summary, row| {
            summary.quarantined = row.get(1)?;
            Ok(())
        },
    )?;
    for ((name, route), pause) in control::paused(connection)? {
        if route.is_empty() && tenant.is_none_or(|tenant| tenant == name) {
            let summary = tenants.entry(name.clone()).or_default();
            summary.tenant = name;
            summary.pause = Some(pause);
        }
    }
    tenants.retain(|_, summary| summary.events > 0 || summary.quarantined > 0 || summary.pause.is_some());
    Ok(tenants.into_values().collect())
}
