//! Replays of many, as far as they are in the partitions that this relay owns: counting, beginning, calling off.
//!
//! A job has a part in each partition with anything that matches, and all that there is of a part is in the partition's
//! journal. Its owner goes on with it ([`super::runner`]).

use super::{
    operator::Operator,
    request::{self, Asker},
};
use crate::{
    decisions::replay::{Wish, record},
    partition::handle::Owner,
    services::{access::Caller, cluster::Page, error::Error, local::Local, status},
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
    /// Events of which the payload can be read: those from this sequence on. Of an event that was carried the owner has the
    /// payload for as long as something of it waits, and what waits is not replayed by jobs.
    pub(super) async fn first_kept(&self) -> Result<u64, Error> {
        Ok(match self.bus.bounds().await?.first_event {
            // There are none.
            0 => u64::MAX,
            first => first,
        })
    }

    pub(in crate::services) async fn jobs(
        &self,
        caller: &Caller,
        request: ListReplayJobsRequest,
    ) -> Result<Page<(i64, String), ReplayJob>, Error> {
        let tenant = caller.narrow("")?;
        let size = status::request::page_size(request.page_size)?;
        let (started_at, id) = status::request::job_page(&request.page_token)?;
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
    ) -> Result<Page<i64, ControlAction>, Error> {
        let size = status::request::page_size(request.page_size)?;
        let below = status::request::action_page(&request.page_token)?;
        let (tenant, since) = (caller.narrow(&request.tenant)?, request::since(request.since)?);
        let question = move |connection: &rusqlite::Connection| {
            control::actions(connection, tenant.as_deref(), since, below, size)
        };
        self.read(question).await.map(Page::new)
    }

    /// For a caller: a job that they may not see is answered like one that does not exist.
    pub(in crate::services) async fn job(
        &self,
        caller: &Caller,
        request: GetReplayJobRequest,
    ) -> Result<GetReplayJobResponse, Error> {
        let id = request.job_id;
        let asked = id.clone();
        self.settled().await;
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
    /// How many match in each of the own partitions, and how many of them can be replayed.
    pub(in crate::services) async fn count_replay(
        &self,
        caller: &Caller,
        asked: ReplayDeliveriesRequest,
    ) -> Result<ReplayCount, Error> {
        let (filter, _) = request::replay(&asked, caller)?;
        let share = self.local.own();
        self.local.caught_up(&share).await?;
        let first_kept = self.local.first_kept().await?;
        let meant = request::replay_filter(&filter)?;
        let found = self
            .local
            .read(move |connection| {
                let mut found = Vec::new();
                for partition in share.partitions {
                    let last = replayable::newest_event(connection, partition)?;
                    let events = replayable::events(connection, partition, &meant, last)?;
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

    /// Begins the parts of a job that are in own partitions.
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
                        "a replay has begun"
                    );
                    started.push(ReplayPart { partition: part.partition, job: Some(job) });
                    seqs.push((owner, seq));
                }
                Err(error) => failed = error,
            }
        }
        self.job_began.notify_one();
        for (owner, seq) in &seqs {
            self.shown(owner, *seq).await;
        }
        if started.is_empty() { Err(failed) } else { Ok(StartedReplay { parts: started }) }
    }

    /// Calls off the parts of a job that run in own partitions.
    pub(in crate::services) async fn cancel_replay(
        &self,
        caller: &Caller,
        asked: CancelReplay,
    ) -> Result<CancelReplayJobResponse, Error> {
        let CancelReplayJobRequest { job_id, requested_by, reason } = asked.request.unwrap_or_default();
        let asker = Asker::read(caller.clone(), requested_by, reason)?;
        let mut record_action = asked.record_action;
        let mut seqs = Vec::new();
        for owner in self.local.owners.all() {
            if part_of(&owner, &job_id, caller).await.is_none() {
                continue;
            }
            // Not between what a step reads and what it records. The view is not asked.
            let turn = owner.turn().await;
            let Some(mut job) = part_of(&owner, &job_id, caller).await else { continue };
            let now = self.local.clock.now();
            end(&mut job, ReplayJobState::Cancelled, now);
            let mut records = vec![record(now, What::ReplayJob(job.clone()))];
            if record_action {
                let filter = job.filter.unwrap_or_default();
                let wish = asker.wish(now, &job.id);
                let action = wish.action(ControlKind::ReplayJobCancelled, &filter.tenant, &filter.route);
                records.push(record(now, What::Acted(action)));
            }
            let seq = self.append(&owner, records).await?;
            drop(turn);
            record_action = false;
            let (by, token) = (&asker.by, asker.token_name());
            tracing::info!(job = job_id, partition = %owner.partition, by, token, "a replay was called off");
            seqs.push((owner, seq));
        }
        for (owner, seq) in &seqs {
            self.shown(owner, *seq).await;
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
    let jobs = owner.jobs().await.unwrap_or_default();
    jobs.into_iter().find(|job| job.id == id && caller.sees_job(job))
}

pub(super) fn end(job: &mut ReplayJob, state: ReplayJobState, now: Timestamp) {
    job.set_state(state);
    job.updated_at = Some(to_proto(now));
    job.ended_at = job.updated_at;
}

/// What is journalled when a part of a job begins, with the operator's action where that is recorded here.
fn job_records(now: Timestamp, job: &ReplayJob, kind: Option<ControlKind>) -> Vec<Record> {
    let mut records = vec![record(now, What::ReplayJob(job.clone()))];
    if let Some(kind) = kind {
        let filter = job.filter.clone().unwrap_or_default();
        let wish =
            Wish { now, by: &job.requested_by, token: &job.token_name, reason: &job.reason, job: &job.id };
        records.push(record(now, What::Acted(wish.action(kind, &filter.tenant, &filter.route))));
    }
    records
}
