//! The counts of rows.

use rusqlite::Connection;
use std::collections::HashMap;

/// The changes of the counts by a batch.
#[derive(Default)]
pub(in crate::view) struct Counts {
    /// By lane and state.
    deliveries: HashMap<(i64, i32), i64>,
    /// By tenant: events, and those without a route.
    events: HashMap<String, (i64, i64)>,
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
        Ok(())
    }
}
