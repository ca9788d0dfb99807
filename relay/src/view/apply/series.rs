//! What a batch adds to the buckets. Each bucket is written once in a batch.

use crate::view::{
    schema::message,
    series::{HOUR, MINUTE, add, bin, start},
};
use jiff::Timestamp;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::{BTreeMap, HashMap};
use talaria_core::time::after;
use talaria_proto::{
    time::{duration_from_proto, from_proto},
    v1::{Attempt, AttemptOutcome, DeliveryState, SeriesCounts},
};

/// A partition, and a tenant and a route in it. Without a route it is the whole tenant, and without a tenant the whole partition.
type Of<'a> = (u16, &'a str, &'a str);

/// By the start of the minute.
#[derive(Default)]
pub(super) struct Series<'a>(HashMap<(Of<'a>, i64), SeriesCounts>);

impl<'a> Series<'a> {
    fn at(&mut self, of: Of<'a>, at: Timestamp) -> &mut SeriesCounts {
        self.0.entry((of, start(at.as_second(), MINUTE))).or_default()
    }

    pub(super) fn event(
        &mut self,
        (partition, tenant): (u16, &'a str),
        received_at: Timestamp,
        matched: bool,
    ) {
        let counts = self.at((partition, tenant, ""), received_at);
        counts.events += 1;
        counts.unmatched += u64::from(!matched);
    }

    /// A route took an event.
    pub(super) fn took(&mut self, of: Of<'a>, received_at: Timestamp) {
        self.at(of, received_at).events += 1;
    }

    /// A delivery got another state. `latency` is in microseconds.
    pub(super) fn moved(&mut self, of: Of<'a>, at: Timestamp, state: DeliveryState, latency: Option<i64>) {
        if !state.is_final() {
            return;
        }
        let counts = self.at(of, at);
        match state {
            DeliveryState::Delivered => {
                counts.delivered += 1;
                if let Some(micros) = latency {
                    *counts.latencies.entry(bin(micros.unsigned_abs())).or_default() += 1;
                }
            }
            DeliveryState::Ignored => counts.ignored += 1,
            DeliveryState::Parked => counts.parked += 1,
            DeliveryState::Ambiguous => counts.ambiguous += 1,
            DeliveryState::Cancelled => counts.cancelled += 1,
            DeliveryState::Unspecified | DeliveryState::Waiting => {}
        }
    }

    /// An attempt ended.
    pub(super) fn attempt(&mut self, of: Of<'a>, at: Timestamp, attempt: &Attempt) {
        use AttemptOutcome::{AnswerLost, Failed, Interrupted, RouteFault};
        if matches!(attempt.outcome(), Failed | AnswerLost | Interrupted | RouteFault) {
            self.at(of, at).failed_attempts += 1;
        }
    }

    /// Attempts of a carried delivery, whose records are gone.
    pub(super) fn carried_attempts(&mut self, of: Of<'a>, attempts: &[Attempt]) {
        for attempt in attempts {
            let took = duration_from_proto(attempt.duration.as_ref());
            self.attempt(of, after(from_proto(attempt.started_at.as_ref()), took), attempt);
        }
    }

    pub(super) fn write(self, connection: &Connection, buffer: &mut Vec<u8>) -> rusqlite::Result<()> {
        let mut select = connection.prepare_cached(
            "SELECT counts FROM series WHERE partition = ? AND width = ? AND start = ? AND tenant = ? AND route = ?",
        )?;
        let mut insert =
            connection.prepare_cached("INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?, ?)")?;
        for ((partition, width, start, tenant, route), more) in self.buckets() {
            let stored = select.query_row((partition, width, start, tenant, route), |row| message(row, 0));
            let mut counts: SeriesCounts = stored.optional()?.unwrap_or_default();
            add(&mut counts, &more);
            buffer.clear();
            counts.encode_raw(buffer);
            insert.execute((partition, width, start, tenant, route, &*buffer))?;
        }
        Ok(())
    }

    /// Of routes, tenants and partitions, in the order of the table.
    fn buckets(self) -> BTreeMap<(u16, i64, i64, &'a str, &'a str), SeriesCounts> {
        let mut buckets: BTreeMap<_, SeriesCounts> = BTreeMap::new();
        for (((partition, tenant, route), minute), mut counts) in self.0 {
            let mut add_to = |tenant, route, counts: &SeriesCounts| {
                for width in [MINUTE, HOUR] {
                    let key = (partition, width, start(minute, width), tenant, route);
                    add(buckets.entry(key).or_default(), counts);
                }
            };
            if !route.is_empty() {
                add_to(tenant, route, &counts);
                // An event counts once, and may have several routes.
                counts.events = 0;
            }
            if counts != SeriesCounts::default() {
                add_to(tenant, "", &counts);
                add_to("", "", &counts);
            }
        }
        buckets
    }
}
