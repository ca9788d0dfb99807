//! Replay jobs in the partitions that this relay owns: counting, beginning, cancelling.
//!
//! A job has a part in each partition with a matching delivery. A part is recorded in its partition's journal, and the owner
//! runs it ([`super::runner`]).

use super::{operator::Operator, request};
use crate::{
    decisions::audit::{AuditInfo, record},
    partition::handle::Owner,
    services::{access::Caller, cluster::Page, error::Error, local::Local},
    view::{control, replayable},
};
use jiff::Timestamp;
use talaria_bus::Partition;
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{
        CancelReplay, CancelReplayJobRequest, CancelReplayJobResponse, ControlAction, ControlKind,
        GetReplayJobRequest, GetReplayJobResponse, ListControlActionsRequest, ListReplayJobsRequest,
        PartitionReplayCount, Record, ReplayCount, ReplayDeliveriesRequest, ReplayJob, ReplayJobState,
        ReplayPart, StartReplay, StartedReplay, record::What,
    },
};

/// The longest id of a job that an error repeats.
const LONGEST_ID: usize = 100;

impl Local {
    /// The first event with a readable payload. A carried event has its payload in the journal, for its waiting deliveries, which
    /// jobs do not replay.
    pub(super) async fn first_kept(&self) -> Result<u64, Error> {
        Ok(match self.bus.bounds().await?.first_event {
            // No events.
            0 => u64::MAX,
            first => first,
        })
    }

    pub(in crate::services) async fn jobs(
        &self,
        caller: &Caller,
        _request: ListReplayJobsRequest,
        (started_at, id): (i64, String),
        size: usize,
    ) -> Result<Page<(i64, String), ReplayJob>, Error> {
        let tenant = caller.narrow("")?;
        let own = self.own();
        let question = move |connection: &rusqlite::Connection| {
            control::jobs(connection, &own, tenant.as_deref(), (started_at, &id), size)
        };
        let (jobs, more) = self.read(question).await?;
        let position =
            |job: &ReplayJob| (from_proto(job.started_at.as_ref()).as_microsecond(), job.id.clone());
        Ok(Page::new((jobs.into_iter().map(|job| (position(&job), job)).collect(), more)))
    }

    pub(in crate::services) async fn actions(
        &self,
        caller: &Caller,
        request: ListControlActionsRequest,
        below: i64,
        size: usize,
    ) -> Result<Page<i64, ControlAction>, Error> {
        let (tenant, since) = (caller.narrow(&request.tenant)?, request::since(request.since)?);
        let question = move |connection: &rusqlite::Connection| {
            control::actions(connection, tenant.as_deref(), since, below, size)
        };
        self.read(question).await.map(Page::new)
    }

    /// A job that the caller may not see is unknown.
    pub(in crate::services) async fn job(
        &self,
        caller: &Caller,
        request: GetReplayJobRequest,
    ) -> Result<GetReplayJobResponse, Error> {
        let id = request.job_id;
        let asked = id.clone();
        self.wait_briefly().await;
        let own = self.own();
        let job = self.read(move |connection| control::job(connection, &own, &asked)).await?;
        match job.filter(|job| caller.sees_job(job)) {
            Some(job) => Ok(GetReplayJobResponse { job: Some(job), incomplete: false }),
            None => Err(not_known(&id, self.behind())),
        }
    }
}

fn not_known(id: &str, behind: u64) -> Error {
    let shown: String = id.chars().take(LONGEST_ID).collect();
    Error::NotKnown { what: format!("replay job {shown}"), behind }
}

impl Operator {
    /// The number of matching deliveries in each own partition, and of those that can be replayed.
    pub(in crate::services) async fn count_replay(
        &self,
        caller: &Caller,
        asked: ReplayDeliveriesRequest,
    ) -> Result<ReplayCount, Error> {
        let (filter, _) = request::replay(&asked, caller)?;
        let own = self.local.own();
        self.local.caught_up(&own).await?;
        let first_kept = self.local.first_kept().await?;
        let filter = request::replay_filter(&filter)?;
        let found = self
            .local
            .read(move |connection| {
                let mut found = Vec::new();
                for partition in own.partitions {
                    let last = replayable::newest_event(connection, partition)?;
                    let events = replayable::events(connection, partition, &filter, last)?;
                    found.push((partition, last, events));
                }
                Ok(found)
            })
            .await?;
        let config = self.local.config();
        let mut counts = Vec::new();
        for (partition, last_event_seq, routes) in found {
            let mut count = PartitionReplayCount {
                partition: partition.number().into(),
                last_event_seq,
                ..PartitionReplayCount::default()
            };
            for ((tenant, route), events) in routes {
                let is_configured = config.route(&tenant, &route).is_some();
                for event in events {
                    count.matching += 1;
                    match (is_configured, event >= first_kept) {
                        (false, _) => count.route_not_configured += 1,
                        (true, false) => count.event_not_kept += 1,
                        (true, true) => count.replayable += 1,
                    }
                }
            }
            counts.push(count);
        }
        counts.retain(|count| count.matching > 0);
        Ok(ReplayCount { partitions: counts })
    }

    /// Begins the parts of a job in own partitions.
    pub(in crate::services) async fn start_replay(
        &self,
        caller: &Caller,
        asked: StartReplay,
    ) -> Result<StartedReplay, Error> {
        let (mut started, mut seqs, mut failed) = (Vec::new(), Vec::new(), Error::NotOwned);
        let mut record_action = asked.record_action;
        for part in asked.parts {
            let partition = wire_partition(part.partition, self.local.bus.partitions());
            let Some(owner) = partition.and_then(|partition| self.local.owners.of(partition)) else {
                continue;
            };
            let now = self.local.clock.now();
            let job = ReplayJob {
                token_name: caller.token.clone(),
                state: ReplayJobState::Running.into(),
                updated_at: Some(to_proto(now)),
                ..part.job.unwrap_or_default()
            };
            let kind = record_action.then_some(ControlKind::ReplayJobStarted);
            match self.append(&owner, job_records(now, &job, kind)).await {
                Ok(seq) => {
                    record_action = false;
                    let (by, token) = (&job.requested_by, &job.token_name);
                    tracing::info!(
                        job = job.id,
                        partition = %owner.partition,
                        by,
                        token,
                        matched = job.matched,
                        "replay job started"
                    );
                    started.push(ReplayPart { partition: part.partition, job: Some(job) });
                    seqs.push((owner, seq));
                }
                Err(error) => failed = error,
            }
        }
        self.job_began.notify_one();
        for (owner, seq) in &seqs {
            self.wait_for_view(owner, *seq).await;
        }
        if started.is_empty() { Err(failed) } else { Ok(StartedReplay { parts: started }) }
    }

    /// Cancels the running parts of a job in own partitions.
    pub(in crate::services) async fn cancel_replay(
        &self,
        caller: &Caller,
        asked: CancelReplay,
    ) -> Result<CancelReplayJobResponse, Error> {
        let CancelReplayJobRequest { job_id, requested_by, reason } = asked.request.unwrap_or_default();
        let audit = AuditInfo { job: job_id.clone(), ..request::audit(caller, &requested_by, &reason)? };
        let mut record_action = asked.record_action;
        let mut seqs = Vec::new();
        for owner in self.local.owners.all() {
            if part_of(&owner, &job_id, caller).await.is_none() {
                continue;
            }
            // Not during a step of the job. The view is not needed.
            let turn = owner.turn().await;
            let Some(mut job) = part_of(&owner, &job_id, caller).await else { continue };
            let now = self.local.clock.now();
            end(&mut job, ReplayJobState::Cancelled, now);
            let mut records = vec![record(now, What::ReplayJob(job.clone()))];
            if record_action {
                let filter = job.filter.unwrap_or_default();
                let kind = ControlKind::ReplayJobCancelled;
                let action = audit.action(now, kind, &filter.tenant, &filter.route);
                records.push(record(now, What::Acted(action)));
            }
            let seq = self.append(&owner, records).await?;
            drop(turn);
            record_action = false;
            let AuditInfo { by, token, .. } = &audit;
            tracing::info!(job = job_id, partition = %owner.partition, by, token, "replay job cancelled");
            seqs.push((owner, seq));
        }
        for (owner, seq) in &seqs {
            self.wait_for_view(owner, *seq).await;
        }
        let job = self.local.job(caller, GetReplayJobRequest { job_id: job_id.clone() }).await?.job;
        if seqs.is_empty() {
            return Err(Error::JobEnded(job_id));
        }
        Ok(CancelReplayJobResponse { job, incomplete: false })
    }
}

pub(super) fn wire_partition(number: u32, count: u16) -> Option<Partition> {
    Partition::new(u16::try_from(number).ok()?, count)
}

/// The part of a job that runs in a partition.
async fn part_of(owner: &Owner, id: &str, caller: &Caller) -> Option<ReplayJob> {
    let jobs = owner.replays().await.unwrap_or_default();
    jobs.into_iter().find(|job| job.id == id && caller.sees_job(job))
}

pub(super) fn end(job: &mut ReplayJob, state: ReplayJobState, now: Timestamp) {
    job.set_state(state);
    job.updated_at = Some(to_proto(now));
    job.ended_at = job.updated_at;
}

/// The records of a part that begins, with the operator's action if that is recorded here.
fn job_records(now: Timestamp, job: &ReplayJob, kind: Option<ControlKind>) -> Vec<Record> {
    let mut records = vec![record(now, What::ReplayJob(job.clone()))];
    if let Some(kind) = kind {
        let filter = job.filter.clone().unwrap_or_default();
        let action = AuditInfo::of_job(job).action(now, kind, &filter.tenant, &filter.route);
        records.push(record(now, What::Acted(action)));
    }
    records
}
