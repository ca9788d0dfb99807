//! The counts of rows.

use crate::view::schema::day;
use rusqlite::Connection;
use std::collections::HashMap;
use talaria_proto::{time::from_proto, v1::Event};

/// The changes of the counts by a batch.
#[derive(Default)]
pub(in crate::view) struct Counts {
    /// By lane and state.
    deliveries: HashMap<(i64, i32), i64>,
    /// By tenant: events, and those without a route.
    events: HashMap<String, (i64, i64)>,
    costs: HashMap<CostKey, Cost>,
}

/// The day, the tenant, the model and the routes.
type CostKey = (i64, String, String, String);

#[derive(Default)]
struct Cost {
    partition: u16,
    events: i64,
    /// Those that did not say their cost.
    unknown: i64,
    micros: i64,
}

impl Counts {
    pub(in crate::view) fn delivery(&mut self, lane: i64, state: i32, by: i64) {
        *self.deliveries.entry((lane, state)).or_default() += by;
    }

    pub(in crate::view) fn event(&mut self, tenant: &str, matched: bool, by: i64) {
        let unmatched_by = if matched { 0 } else { by };
        if let Some((events, unmatched)) = self.events.get_mut(tenant) {
            *events += by;
            *unmatched += unmatched_by;
        } else {
            self.events.insert(tenant.to_owned(), (by, unmatched_by));
        }
    }

    /// An event without a route has one now.
    pub(in crate::view) fn matched(&mut self, tenant: &str) {
        self.events.entry(tenant.to_owned()).or_default().1 -= 1;
    }

    /// An event of a job that ended well, or that cost something.
    pub(in crate::view) fn cost(&mut self, partition: u16, event: &Event, routes: &[String]) {
        if event.cost_micros.is_none() && event.status != "completed" {
            return;
        }
        let model = event.model.clone().unwrap_or_default();
        let mut routes = routes.to_vec();
        routes.sort_unstable();
        let day = day(from_proto(event.received_at.as_ref()).as_microsecond());
        let cost = self.costs.entry((day, event.tenant.clone(), model, routes.join(", "))).or_default();
        cost.partition = partition;
        cost.events += 1;
        cost.unknown += i64::from(event.cost_micros.is_none());
        cost.micros = cost.micros.saturating_add(event.cost_micros.unwrap_or(0));
    }

    pub(in crate::view) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            "INSERT INTO delivery_counts VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET count = count + excluded.count",
        )?;
        for ((lane, state), by) in self.deliveries {
            if by != 0 {
                statement.execute((lane, state, by))?;
            }
        }
        let mut statement = connection.prepare_cached(
            "INSERT INTO event_counts VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET events = events + excluded.events, unmatched = unmatched + excluded.unmatched",
        )?;
        for (tenant, (events, unmatched)) in self.events {
            statement.execute((tenant, events, unmatched))?;
        }
        let mut statement = connection.prepare_cached(
            "INSERT INTO costs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET events = events + excluded.events,
                 without_cost = without_cost + excluded.without_cost, micros = micros + excluded.micros",
        )?;
        for ((day, tenant, model, routes), cost) in self.costs {
            let Cost { partition, events, unknown, micros } = cost;
            statement.execute((day, tenant, model, routes, partition, events, unknown, micros))?;
        }
        Ok(())
    }
}
