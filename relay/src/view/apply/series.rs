//! What a batch adds to the buckets: minutes of routes, and of tenants their events.

use crate::view::series::{MINUTE, append, bin, start};
use jiff::Timestamp;
use prost::Message as _;
use rusqlite::Connection;
use std::collections::HashMap;
use talaria_core::time::after;
use talaria_proto::{
    time::{duration_from_proto, from_proto},
    v1::{Attempt, AttemptOutcome, DeliveryState, SeriesBucket, SeriesCounts, SeriesPart},
};

/// A partition, and a tenant and a route in it; without a route the tenant.
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
        let bucket = |(((partition, tenant, route), start), counts): ((Of<'_>, i64), SeriesCounts)| {
            let (partition, counts) = (partition.into(), Some(counts));
            SeriesBucket { partition, tenant: tenant.to_owned(), route: route.to_owned(), start, counts }
        };
        let part = SeriesPart { buckets: self.0.into_iter().map(bucket).collect() };
        if part.buckets.is_empty() {
            return Ok(());
        }
        buffer.clear();
        part.encode_raw(buffer);
        append(connection, part.buckets.len(), buffer)
    }
}
