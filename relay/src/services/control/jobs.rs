//! Replays of many: counting, beginning, going on, calling off.
//!
//! All that there is of a job is in the journal. Each step is one decision: the deliveries that go into the queue, the
//! records about them, and how far the job has come. So a step is done as a whole or not at all, by one relay, whichever
//! dies when; and whoever leads goes on behind the last one.

use super::{
    operator::{Operator, unavailable},
    request::{self, Asker},
};
use crate::{services::access::Caller, decisions::replay::{self, Wish, record}, view::{
        control,
        query::Place,
        replayable::{self, BOTTOM, ReplayFilter},
    }};
use jiff::Timestamp;
use std::{collections::HashSet, time::Duration};
use talaria_bus::time::to_proto;
use talaria_proto::v1::{
    ControlKind, Delivery, ReplayCursor, ReplayDeliveriesResponse, ReplayJob, ReplayJobState, record::What,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long to wait for a bus that does not work, and how often to look whether this relay leads by now.
const PATIENCE: Duration = Duration::from_secs(1);

impl Operator {
    /// Deliveries behind a place, oldest first, and whether each can be replayed.
    async fn candidates(
        &self,
        filter: &ReplayFilter,
        behind: Place,
        last: u64,
        max: usize,
    ) -> Result<Vec<(Place, Delivery, bool)>, Status> {
        let filter = filter.clone();
        let found = self.ask(move |c| replayable::deliveries(c, &filter, behind, last, max)).await?;
        let kept = self.kept(found.iter().map(|((seq, _), _)| seq.cast_unsigned()).collect()).await?;
        let config = self.config();
        let judged = |(place, delivery): (Place, Delivery)| {
            let is_configured = config.route(&delivery.tenant, &delivery.route).is_some();
            (place, delivery, is_configured && kept.contains(&place.0.cast_unsigned()))
        };
        Ok(found.into_iter().map(judged).collect())
    }

    /// How many match, and how many of them can be replayed.
    pub(super) async fn count(
        &self,
        filter: &ReplayFilter,
        last: u64,
    ) -> Result<ReplayDeliveriesResponse, Status> {
        let filter = filter.clone();
        let found = self.ask(move |connection| replayable::events(connection, &filter, last)).await?;
        let kept = self.kept(found.values().flatten().copied().collect()).await?;
        let config = self.config();
        let mut counts = ReplayDeliveriesResponse::default();
        for ((tenant, route), events) in found {
            let is_configured = config.route(&tenant, &route).is_some();
            for event in events {
                counts.matching += 1;
                match (is_configured, kept.contains(&event)) {
                    (false, _) => counts.route_not_configured += 1,
                    (true, false) => counts.event_not_kept += 1,
                    (true, true) => counts.replayable += 1,
                }
            }
        }
        Ok(counts)
    }

    async fn kept(&self, events: HashSet<u64>) -> Result<HashSet<u64>, Status> {
        if events.is_empty() {
            return Ok(events);
        }
        self.bus.kept(events).await.map_err(unavailable)
    }

    /// Begins a job for what `count` found.
    pub(super) async fn start_job(&self, mut job: ReplayJob, asker: &Asker) -> Result<ReplayJob, Status> {
        loop {
            let turn = self.turn().await?;
            let now = self.clock.now();
            (job.started_at, job.updated_at) = (Some(to_proto(now)), Some(to_proto(now)));
            let records = job_facts(now, &job, ControlKind::ReplayJobStarted, asker);
            if self.bus.decide(turn, records, Vec::new()).await.map_err(unavailable)? {
                tracing::info!(
                    job = job.id,
                    by = asker.by,
                    token = asker.token_name(),
                    matched = job.matched,
                    "a replay has begun"
                );
                self.shown().await?;
                return self.job(&job.id).await;
            }
        }
    }

    /// Calls a job off.
    pub(super) async fn cancel_job(&self, id: &str, asker: &Asker) -> Result<ReplayJob, Status> {
        loop {
            let turn = self.turn().await?;
            let mut job = self.job_for(&asker.caller, id).await?;
            if job.state() != ReplayJobState::Running {
                return Err(Status::failed_precondition(format!("{id} has ended already")));
            }
            let now = self.clock.now();
            end(&mut job, ReplayJobState::Cancelled, now);
            let records = job_facts(now, &job, ControlKind::ReplayJobCancelled, asker);
            if self.bus.decide(turn, records, Vec::new()).await.map_err(unavailable)? {
                tracing::info!(
                    job = id,
                    by = asker.by,
                    token = asker.token_name(),
                    "a replay was called off"
                );
                self.shown().await?;
                return Ok(job);
            }
        }
    }

    /// For somebody who asks: one that they may not see is as unknown to them as one that there is not.
    pub(super) async fn job_for(&self, caller: &Caller, id: &str) -> Result<ReplayJob, Status> {
        self.job_if(id, |job| caller.sees_job(job)).await
    }

    async fn job(&self, id: &str) -> Result<ReplayJob, Status> {
        self.job_if(id, |_| true).await
    }

    async fn job_if(&self, id: &str, is_seen: impl Fn(&ReplayJob) -> bool) -> Result<ReplayJob, Status> {
        let asked = id.to_owned();
        let job = self.ask(move |connection| control::job(connection, &asked)).await?;
        job.filter(is_seen).ok_or_else(|| {
            let shown: String = id.chars().take(100).collect();
            Status::not_found(format!("no replay job {shown} is known, or it is not kept any more"))
        })
    }

    /// One step of a job, if it is time for one.
    async fn go_on(&self, id: &str) -> Result<(), Status> {
        let turn = self.turn().await?;
        let (job, now) = (self.job(id).await?, self.clock.now());
        if job.state() != ReplayJobState::Running || replay::next_step(&job, now) > now {
            return Ok(());
        }
        let filter = request::replay_filter(&job.filter.clone().unwrap_or_default())?;
        let behind = job.cursor.map_or(BOTTOM, |cursor| (cursor.event_seq.cast_signed(), cursor.route));
        let (mut size, _) = replay::step(job.rate_per_minute);
        let mut candidates = self.candidates(&filter, behind, job.last_event_seq, size).await?;
        loop {
            let is_last = candidates.len() < size;
            let mut stepped = job.clone();
            let (mut records, mut tasks) = (Vec::new(), Vec::new());
            for ((seq, route), delivery, is_fit) in &candidates {
                stepped.cursor = Some(ReplayCursor { event_seq: seq.cast_unsigned(), route: *route });
                if !is_fit {
                    stepped.skipped += 1;
                    continue;
                }
                let place = (*seq, *route);
                let step = self.ask(move |connection| replayable::step(connection, place)).await?;
                let wish = Wish {
                    now,
                    by: &job.requested_by,
                    token: &job.token_name,
                    reason: &job.reason,
                    job: &job.id,
                };
                let again = replay::again(&replay::ended(delivery, seq.cast_unsigned(), step), wish);
                records.push(again.record);
                tasks.extend(again.task);
                stepped.replayed += 1;
            }
            stepped.updated_at = Some(to_proto(now));
            if is_last {
                end(&mut stepped, ReplayJobState::Done, now);
            }
            records.push(record(now, What::ReplayJob(stepped.clone())));
            match self.bus.decide(turn, records, tasks).await {
                Ok(decided) => {
                    if decided && is_last {
                        let ReplayJob { replayed, skipped, .. } = stepped;
                        tracing::info!(job = id, replayed, skipped, "a replay is done");
                    }
                    // Where somebody else decided first there is nothing to do but to look again.
                    return self.shown().await;
                }
                Err(error) if error.is_too_large() && size > 1 => {
                    size /= 2;
                    candidates.truncate(size);
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
    }
}

fn end(job: &mut ReplayJob, state: ReplayJobState, now: Timestamp) {
    job.set_state(state);
    job.updated_at = Some(to_proto(now));
    job.ended_at = job.updated_at;
}

fn job_facts(
    now: Timestamp,
    job: &ReplayJob,
    kind: ControlKind,
    asker: &Asker,
) -> Vec<talaria_proto::v1::Record> {
    let filter = job.filter.clone().unwrap_or_default();
    let action = asker.wish(now, &job.id).action(kind, &filter.tenant, &filter.route);
    vec![record(now, What::ReplayJob(job.clone())), record(now, What::Acted(action))]
}

/// Goes on with the jobs that have not ended while this relay leads, until it is told to stop.
pub(crate) async fn run(operator: Operator, stop: CancellationToken) {
    let work = async {
        let mut jobs = operator.view.jobs();
        loop {
            let running = jobs.borrow_and_update().clone();
            let now = operator.clock.now();
            let next = running.iter().map(|job| (replay::next_step(job, now), &job.id)).min();
            let Some((at, id)) = next else {
                if jobs.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if !operator.bus.leads() {
                tokio::time::sleep(PATIENCE).await;
                continue;
            }
            if at > now {
                tokio::select! { () = operator.clock.sleep_towards(at) => {}, _ = jobs.changed() => {} }
                continue;
            }
            if let Err(error) = operator.go_on(id).await {
                tracing::error!(error = error.message(), job = id, "a replay cannot go on; trying again");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}
