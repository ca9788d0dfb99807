//! Filters of events and deliveries. An empty part does not restrict.

use super::{query::DeliveryPosition, schema::Attempts};
use crate::view::schema::{message, span};
use jiff::Timestamp;
use rusqlite::{Connection, Row};
use std::ops::RangeInclusive;
use talaria_core::config::EventPattern;
use talaria_proto::{
    time::from_proto,
    v1::{Attempt, AttemptOutcome, Delivery, DeliveryState, Event, RunOutcome},
};

/// A range of times at which events were received. `until` is excluded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Period {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Period {
    fn contains(&self, time: Option<&prost_types::Timestamp>) -> bool {
        let time = from_proto(time);
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }

    /// The first and the last sequence that an event of the period can have. Coarse, because the table `spans` has the sequences
    /// of ten seconds in a row: each event is checked by `contains`, too.
    pub(super) fn bounds(&self, connection: &Connection) -> rusqlite::Result<(i64, i64)> {
        let bound = |query: &str, time: Timestamp, none: i64| {
            let bound: Option<i64> = connection
                .prepare_cached(query)?
                .query_row([span(time.as_microsecond())], |row| row.get(0))?;
            // No event was received then: an empty range.
            Ok::<_, rusqlite::Error>(bound.unwrap_or(none))
        };
        let low = match self.since {
            Some(since) => bound("SELECT min(low) FROM spans WHERE span >= ?", since, i64::MAX)?,
            None => 0,
        };
        let high = match self.until {
            Some(until) => bound("SELECT max(high) FROM spans WHERE span <= ?", until, 0)?,
            None => i64::MAX,
        };
        Ok((low, high))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    pub tenant: Option<String>,
    pub job_id: Option<String>,
    pub event_type: Option<EventPattern>,
    pub model: Option<String>,
    /// Only events that no route took.
    pub unmatched: bool,
    /// Of the event's receipt.
    pub period: Period,
}

impl EventFilter {
    /// Whether an event matches, taken by a route or not.
    pub(super) fn matches(&self, event: &Event) -> bool {
        allows(self.tenant.as_deref(), &event.tenant)
            && allows(self.job_id.as_deref(), &event.job_id)
            && allows(self.model.as_deref(), event.model())
            && self.event_type.as_ref().is_none_or(|pattern| pattern.matches(&event.r#type))
            && self.period.contains(event.received_at.as_ref())
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct DeliveryFilter {
    pub tenant: Option<String>,
    pub route: Option<String>,
    pub job_id: Option<String>,
    pub event_type: Option<EventPattern>,
    pub model: Option<String>,
    pub states: Vec<DeliveryState>,
    /// Of the last attempt.
    pub outcomes: Vec<AttemptOutcome>,
    /// HTTP statuses of the last attempt.
    pub http_statuses: Vec<RangeInclusive<u32>>,
    /// A part of the reason, in lower case.
    pub reason: Option<String>,
    /// Of the run under the current generation.
    pub runs: Vec<RunOutcome>,
    /// Of the event's receipt.
    pub period: Period,
}

impl DeliveryFilter {
    pub(crate) fn matches(&self, delivery: &Delivery, last: Option<&Attempt>) -> bool {
        self.matches_before_reason(delivery) && self.allows_attempt(last) && self.allows_reason(delivery)
    }

    /// The delivery of a row of event sequence, route, delivery and attempts, if it matches. `explain` sets the reason that is shown.
    pub(super) fn read(
        &self,
        row: &Row<'_>,
        explain: &mut impl FnMut(&mut Delivery) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<Option<(DeliveryPosition, Delivery)>> {
        let mut delivery: Delivery = message(row, 2)?;
        if !self.matches_before_reason(&delivery) {
            return Ok(None);
        }
        if self.asks_for_attempt() {
            let Attempts { attempts } = message(row, 3)?;
            if !self.allows_attempt(attempts.last()) {
                return Ok(None);
            }
        }
        explain(&mut delivery)?;
        let position = (row.get(0)?, row.get(1)?);
        Ok(self.allows_reason(&delivery).then_some((position, delivery)))
    }

    fn matches_before_reason(&self, delivery: &Delivery) -> bool {
        self.might_match(delivery)
            && allows(self.job_id.as_deref(), &delivery.job_id)
            && allows(self.model.as_deref(), delivery.model())
            && self.event_type.as_ref().is_none_or(|pattern| pattern.matches(&delivery.event_type))
            && self.period.contains(delivery.received_at.as_ref())
            && self.allows_run(delivery)
    }

    fn allows_run(&self, delivery: &Delivery) -> bool {
        let outcome = match delivery.current_run() {
            Some(run) => run.outcome(),
            None if delivery.state() == DeliveryState::Delivered => RunOutcome::None,
            None => RunOutcome::Unspecified,
        };
        self.runs.is_empty() || self.runs.contains(&outcome)
    }

    /// Whether a delivery may match of which only its name and state are known.
    pub(crate) fn might_match(&self, delivery: &Delivery) -> bool {
        allows(self.tenant.as_deref(), &delivery.tenant)
            && allows(self.route.as_deref(), &delivery.route)
            && (self.states.is_empty() || self.states.contains(&delivery.state()))
    }

    fn asks_for_attempt(&self) -> bool {
        !self.outcomes.is_empty() || !self.http_statuses.is_empty()
    }

    fn allows_attempt(&self, last: Option<&Attempt>) -> bool {
        let has_status = |attempt: &Attempt| {
            let status = attempt.http_status;
            status.is_some_and(|status| self.http_statuses.iter().any(|range| range.contains(&status)))
        };
        !self.asks_for_attempt()
            || last.is_some_and(|attempt| {
                (self.outcomes.is_empty() || self.outcomes.contains(&attempt.outcome()))
                    && (self.http_statuses.is_empty() || has_status(attempt))
            })
    }

    fn allows_reason(&self, delivery: &Delivery) -> bool {
        self.reason.as_ref().is_none_or(|part| delivery.reason.to_lowercase().contains(part))
    }

    /// Whether the filter includes an event without deliveries: the event has no route, no state, no attempt, no run and no
    /// reason.
    pub(crate) fn includes_unmatched(&self, event: &Event) -> bool {
        let Self { tenant, route, job_id, event_type, model, states, reason, runs, period, .. } =
            self.clone();
        let of_event = EventFilter { tenant, job_id, event_type, model, unmatched: true, period };
        route.is_none()
            && states.is_empty()
            && reason.is_none()
            && runs.is_empty()
            && !self.asks_for_attempt()
            && of_event.matches(event)
    }
}

/// Whether a part of a filter allows a value.
pub(crate) fn allows(part: Option<&str>, value: &str) -> bool {
    part.is_none_or(|part| part == value)
}
