//! Records to rows. Applying a record again, or in another order, gives the same rows.
//!
//! What operators did last is told by the record's place in the journal and not by anybody's clock: of two who pause and
//! resume at once, at two relays, all agree on who came last.

use super::control;
use crate::{decisions::fold::{self, Folded}, decisions::pause::Pauses};
use jiff::Timestamp;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction};
use std::collections::HashMap;
use talaria_bus::{
    Records,
    sqlite::message,
    time::{from_proto, since},
};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::v1::{
    Attempt, ControlAction, DeliveryRef, DeliveryState, EventConflict, EventPlanned, Record, PauseChanged,
    QuarantinedCallback, ReplayJob, ReplayJobState, RouteChanged, DeliveryStatus, record::What,
};

/// What operators changed, as it is now; `None` where they changed nothing.
#[derive(Default)]
pub(super) struct Changed {
    pub pauses: Option<Pauses>,
    pub jobs: Option<Vec<ReplayJob>>,
}

/// All of the records, or none, together with the place up to which they go.
pub(super) fn apply(connection: &mut Connection, records: &Records) -> rusqlite::Result<Changed> {
    let transaction = connection.transaction()?;
    let (lanes, counts) = (HashMap::new(), Counts::default());
    let mut batch = Batch { transaction: &transaction, lanes, counts, pauses: false, jobs: false };
    for (place, record) in &records.records {
        batch.record(*place, record)?;
    }
    let Batch { counts, pauses, jobs, .. } = batch;
    counts.write(&transaction)?;
    transaction.prepare_cached("UPDATE position SET seq = ?")?.execute([records.through])?;
    let changed = Changed {
        pauses: pauses.then(|| control::pauses(&transaction)).transpose()?,
        jobs: jobs.then(|| control::running_jobs(&transaction)).transpose()?,
    };
    transaction.commit()?;
    Ok(changed)
}

struct Batch<'a> {
    transaction: &'a Transaction<'a>,
    /// Numbers of lanes that were looked up.
    lanes: HashMap<(String, String), i64>,
    counts: Counts,
    /// Whether something was paused or resumed.
    pauses: bool,
    /// Whether a replay job changed.
    jobs: bool,
}

/// What the batch adds to the counts.
#[derive(Default)]
pub(super) struct Counts {
    /// By lane and state.
    deliveries: HashMap<(i64, i32), i64>,
    /// By tenant: events, and those without a route.
    events: HashMap<String, (i64, i64)>,
}

impl Counts {
    pub(super) fn delivery(&mut self, lane: i64, state: i32, by: i64) {
        *self.deliveries.entry((lane, state)).or_default() += by;
    }

    pub(super) fn event(&mut self, tenant: &str, matched: bool, by: i64) {
        let (events, unmatched) = self.events.entry(tenant.to_owned()).or_default();
        *events += by;
        *unmatched += if matched { 0 } else { by };
    }

    pub(super) fn write(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO delivery_counts VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET count = count + excluded.count",
        )?;
        for ((lane, state), by) in self.deliveries {
            statement.execute((lane, state, by))?;
        }
        let mut statement = transaction.prepare_cached(
            "INSERT INTO event_counts VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET events = events + excluded.events, unmatched = unmatched + excluded.unmatched",
        )?;
        for (tenant, (events, unmatched)) in self.events {
            statement.execute((tenant, events, unmatched))?;
        }
        Ok(())
    }
}

impl Batch<'_> {
    fn record(&mut self, place: u64, record: &Record) -> rusqlite::Result<()> {
        let at = from_proto(record.at.as_ref());
        let seq = record.event_seq;
        match &record.what {
            Some(What::EventPlanned(planned)) => self.planned(seq, planned, at),
            Some(What::AttemptFinished(finished)) => {
                let (Some(delivery), Some(status)) = (&finished.delivery, &finished.status) else {
                    return Ok(());
                };
                self.stands(seq, delivery, status, at)?;
                finished.attempt.iter().try_for_each(|attempt| self.attempted(seq, delivery, attempt))
            }
            Some(What::DeliveryMoved(moved)) => {
                let (Some(delivery), Some(status)) = (&moved.delivery, &moved.status) else {
                    return Ok(());
                };
                self.stands(seq, delivery, status, at)?;
                moved.action.iter().try_for_each(|action| self.acted(place, seq, action, at))
            }
            Some(What::EventConflict(conflict)) => self.conflict(seq, conflict),
            Some(What::CallbackQuarantined(callback)) => self.quarantined(callback),
            Some(What::RouteChanged(changed)) => self.route_changed(changed, at),
            Some(What::PauseChanged(changed)) => self.pause_changed(place, changed, at),
            Some(What::Acted(action)) => self.acted(place, seq, action, at),
            Some(What::ReplayJob(job)) => self.replay_job(place, job),
            // Written by a newer version: the view will be made anew when this one is updated.
            None => Ok(()),
        }
    }

    fn planned(&mut self, seq: u64, planned: &EventPlanned, at: Timestamp) -> rusqlite::Result<()> {
        let Some(event) = &planned.event else { return Ok(()) };
        let Ok(id) = event.id.parse::<EventId>() else { return Ok(()) };
        let received_at = from_proto(event.received_at.as_ref()).as_microsecond();
        let insert = "INSERT INTO events VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
        let row = (seq, id.as_bytes(), &event.tenant, received_at, event.encode_to_vec());
        if self.transaction.prepare_cached(insert)?.execute(row)? > 0 {
            self.counts.event(&event.tenant, !planned.routes.is_empty(), 1);
        }
        for route in &planned.routes {
            let delivery = DeliveryRef {
                id: DeliveryId::new(id, route).to_string(),
                tenant: event.tenant.clone(),
                route: route.clone(),
            };
            self.fold(seq, &delivery, |folded| folded.plan(event, at))?;
        }
        Ok(())
    }

    fn stands(
        &mut self,
        seq: u64,
        delivery: &DeliveryRef,
        status: &DeliveryStatus,
        at: Timestamp,
    ) -> rusqlite::Result<()> {
        self.fold(seq, delivery, |folded| folded.stand(status, at))
    }

    fn fold(
        &mut self,
        seq: u64,
        named: &DeliveryRef,
        change: impl FnOnce(&mut Folded),
    ) -> rusqlite::Result<()> {
        let Ok(id) = named.id.parse::<DeliveryId>() else { return Ok(()) };
        let route = id.route.to_i64();
        let lane = self.lane(&named.tenant, &named.route)?;
        let select = "SELECT step, delivery FROM deliveries WHERE event_seq = ? AND route = ?";
        let known = self
            .transaction
            .prepare_cached(select)?
            .query_row((seq, route), |row| Ok(Folded { step: row.get(0)?, delivery: message(row, 1)? }))
            .optional()?;
        let mut folded = known.clone().unwrap_or_else(|| Folded::new(named));
        change(&mut folded);
        if known.as_ref() == Some(&folded) {
            return Ok(());
        }
        if let Some(known) = &known {
            self.counts.delivery(lane, known.delivery.state, -1);
        }
        self.counts.delivery(lane, folded.delivery.state, 1);
        let row = (
            seq,
            route,
            lane,
            folded.delivery.state,
            folded.step,
            latency(&folded),
            folded.delivery.encode_to_vec(),
        );
        let write = match known {
            None => "INSERT INTO deliveries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            Some(_) => {
                "UPDATE deliveries SET lane = ?3, state = ?4, step = ?5, latency = ?6, delivery = ?7
                 WHERE event_seq = ?1 AND route = ?2"
            }
        };
        self.transaction.prepare_cached(write)?.execute(row).map(drop)
    }

    fn attempted(&mut self, seq: u64, delivery: &DeliveryRef, attempt: &Attempt) -> rusqlite::Result<()> {
        let Ok(id) = delivery.id.parse::<DeliveryId>() else { return Ok(()) };
        let key = (seq, id.route.to_i64(), attempt.number);
        let select = "SELECT attempt FROM attempts WHERE event_seq = ? AND route = ? AND number = ?";
        let known =
            self.transaction.prepare_cached(select)?.query_row(key, |row| message(row, 0)).optional()?;
        let kept = fold::attempt(known, attempt.clone());
        let insert = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?)";
        self.transaction.prepare_cached(insert)?.execute((key.0, key.1, key.2, kept.encode_to_vec()))?;
        let lane = self.lane(&delivery.tenant, &delivery.route)?;
        let started_at = from_proto(attempt.started_at.as_ref()).as_microsecond();
        let insert = "INSERT INTO starts VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
        self.transaction.prepare_cached(insert)?.execute((lane, started_at, key.0, key.1)).map(drop)
    }

    fn conflict(&self, seq: u64, conflict: &EventConflict) -> rusqlite::Result<()> {
        // The same body may come again: the first time counts.
        let insert = "INSERT INTO conflicts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
                      SET received_at = excluded.received_at, conflict = excluded.conflict
                      WHERE excluded.received_at < received_at";
        let received_at = from_proto(conflict.received_at.as_ref()).as_microsecond();
        let row = (seq, conflict.payload_sha256.as_ref(), received_at, conflict.encode_to_vec());
        self.transaction.prepare_cached(insert)?.execute(row).map(drop)
    }

    fn quarantined(&self, callback: &QuarantinedCallback) -> rusqlite::Result<()> {
        let insert = "INSERT INTO quarantined VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
                      SET received_at = excluded.received_at, callback = excluded.callback
                      WHERE excluded.received_at < received_at";
        let received_at = from_proto(callback.received_at.as_ref()).as_microsecond();
        let row = (&callback.id, &callback.tenant, received_at, callback.encode_to_vec());
        self.transaction.prepare_cached(insert)?.execute(row).map(drop)
    }

    fn route_changed(&mut self, changed: &RouteChanged, at: Timestamp) -> rusqlite::Result<()> {
        let lane = self.lane(&changed.tenant, &changed.route)?;
        let until = changed.held_until.as_ref().map(|until| from_proto(Some(until)).as_microsecond());
        let update =
            "UPDATE lanes SET changed_at = ?2, held_because = ?3, held_until = ?4, cause = ?5, tries = ?6
                      WHERE lane = ?1 AND (changed_at, held_because) < (?2, ?3)";
        let (cause, tries) = (changed.cause, changed.tries);
        let row = (lane, at.as_microsecond(), &changed.held_because, until, cause, tries);
        self.transaction.prepare_cached(update)?.execute(row).map(drop)
    }

    fn pause_changed(&mut self, place: u64, changed: &PauseChanged, at: Timestamp) -> rusqlite::Result<()> {
        let Some(pause) = &changed.pause else { return Ok(()) };
        // So that it is shown though nothing was ever sent there.
        if !pause.route.is_empty() {
            self.lane(&pause.tenant, &pause.route)?;
        }
        let insert = "INSERT INTO pauses VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE
                      SET place = ?3, at = ?4, paused = ?5, pause = ?6 WHERE place < ?3";
        let row =
            (&pause.tenant, &pause.route, place, at.as_microsecond(), changed.paused, pause.encode_to_vec());
        self.pauses |= self.transaction.prepare_cached(insert)?.execute(row)? > 0;
        Ok(())
    }

    fn acted(&self, place: u64, seq: u64, action: &ControlAction, at: Timestamp) -> rusqlite::Result<()> {
        let delivery: Option<DeliveryId> = action.delivery_id.parse().ok();
        let listed = delivery.is_none() || action.replay_job_id.is_empty();
        let route = delivery.map_or(0, |id| id.route.to_i64());
        let insert = "INSERT INTO actions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
        let row = (place, at.as_microsecond(), &action.tenant, seq, route, listed, action.encode_to_vec());
        self.transaction.prepare_cached(insert)?.execute(row).map(drop)
    }

    fn replay_job(&mut self, place: u64, job: &ReplayJob) -> rusqlite::Result<()> {
        let insert = "INSERT INTO replay_jobs VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE
                      SET place = ?2, started_at = ?3, updated_at = ?4, running = ?5, job = ?6 WHERE place < ?2";
        let row = (
            &job.id,
            place,
            from_proto(job.started_at.as_ref()).as_microsecond(),
            from_proto(job.updated_at.as_ref()).as_microsecond(),
            job.state() == ReplayJobState::Running,
            job.encode_to_vec(),
        );
        self.jobs |= self.transaction.prepare_cached(insert)?.execute(row)? > 0;
        Ok(())
    }

    fn lane(&mut self, tenant: &str, route: &str) -> rusqlite::Result<i64> {
        let name = (tenant.to_owned(), route.to_owned());
        if let Some(lane) = self.lanes.get(&name) {
            return Ok(*lane);
        }
        let insert = "INSERT INTO lanes (tenant, route) VALUES (?, ?) ON CONFLICT DO UPDATE SET tenant = tenant RETURNING lane";
        let lane = self.transaction.prepare_cached(insert)?.query_row((tenant, route), |row| row.get(0))?;
        self.lanes.insert(name, lane);
        Ok(lane)
    }
}

/// From the callback to its delivery, in microseconds.
fn latency(folded: &Folded) -> Option<i64> {
    let delivery = &folded.delivery;
    let received_at = delivery.received_at.as_ref()?;
    (delivery.state() == DeliveryState::Delivered).then(|| {
        let took = since(from_proto(delivery.updated_at.as_ref()), from_proto(Some(received_at)));
        i64::try_from(took.as_micros()).unwrap_or(i64::MAX)
    })
}
