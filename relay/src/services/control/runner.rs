//! The runner of replay jobs, in the partitions that this relay owns.
//!
//! Each step is one commit: the records of the replayed deliveries, and the job's cursor. So a step is done as a whole or not at
//! all, and the next owner goes on after the last one.

use super::{jobs::end, operator::Operator, request};
use crate::{
    decisions::{
        audit::{AuditInfo, record},
        replay,
    },
    partition::handle::Owner,
    services::error::Error,
    view::{
        filter::DeliveryFilter,
        query::DeliveryPosition,
        replayable::{self, BOTTOM},
    },
};
use std::{collections::BTreeSet, time::Duration};
use talaria_bus::Partition;
use talaria_proto::{
    time::to_proto,
    v1::{Delivery, ReplayCursor, ReplayJob, ReplayJobState, record::What},
};
use talaria_telemetry::LogLimiter;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

/// How often to look for running jobs: some come with a partition from another relay.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// After a failed step.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Runs the jobs of own partitions until `stop`, each partition by itself.
pub(crate) async fn run(operator: Operator, stop: CancellationToken) {
    let work = async {
        let (mut workers, mut busy) = (JoinSet::new(), BTreeSet::<Partition>::new());
        loop {
            while let Some(ended) = workers.try_join_next() {
                match ended {
                    Ok(partition) => drop(busy.remove(&partition)),
                    // An unknown one panicked. A second worker beside a running one does no harm.
                    Err(_) => busy.clear(),
                }
            }
            for owner in operator.local.owners.all() {
                if !busy.contains(&owner.partition)
                    && owner.replays().await.is_some_and(|jobs| !jobs.is_empty())
                {
                    busy.insert(owner.partition);
                    let operator = operator.clone();
                    workers.spawn(async move {
                        operator.work_on(&owner).await;
                        owner.partition
                    });
                }
            }
            tokio::select! { () = sleep(POLL_INTERVAL) => {}, () = operator.job_began.notified() => {} }
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}

impl Operator {
    /// Until no job runs in the partition, or it is owned here no more.
    async fn work_on(&self, owner: &Owner) {
        loop {
            let now = self.local.clock.now();
            let jobs = owner.replays().await.unwrap_or_default();
            let next = jobs.iter().map(|job| (replay::next_step(job, now), &job.id)).min();
            let Some((at, id)) = next else { return };
            if at > now {
                // The job may be cancelled meanwhile, and another one may begin.
                tokio::select! { () = self.local.clock.sleep_towards(at) => {}, () = sleep(POLL_INTERVAL) => {} }
                continue;
            }
            match self.step(owner, id).await {
                Ok(()) => {}
                // The new owner goes on, or the view catches up.
                Err(Error::Lost | Error::FarBehind) => sleep(RETRY_DELAY).await,
                Err(error) => {
                    static FAILED: LogLimiter = LogLimiter::new();
                    if let Some(left_out) = FAILED.admit() {
                        tracing::error!(
                            %error, job = id, partition = %owner.partition, left_out,
                            "replay step failed"
                        );
                    }
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// One step of a job, if it is time for one.
    async fn step(&self, owner: &Owner, id: &str) -> Result<(), Error> {
        let _turn = self.turn(owner).await?;
        let now = self.local.clock.now();
        let running = owner.replays().await.unwrap_or_default().into_iter().find(|job| job.id == id);
        let Some(job) = running.filter(|job| replay::next_step(job, now) <= now) else { return Ok(()) };
        let filter = request::replay_filter(&job.filter.clone().unwrap_or_default())?;
        let behind = job.cursor.map_or(BOTTOM, |cursor| (cursor.event_seq.cast_signed(), cursor.route));
        let (mut size, _) = replay::step(job.rate_per_minute);
        let mut candidates =
            self.candidates(owner.partition, filter, behind, job.last_event_seq, size).await?;
        let audit = AuditInfo::of_job(&job);
        loop {
            let is_last = candidates.len() < size;
            let mut stepped = job.clone();
            let mut records = Vec::new();
            for Candidate { position: (seq, route), delivery, step, is_replayable } in &candidates {
                stepped.cursor = Some(ReplayCursor { event_seq: seq.cast_unsigned(), route: *route });
                if *is_replayable {
                    let task = replay::ended(delivery, seq.cast_unsigned(), *step);
                    records.push(replay::again(&task, &audit, now).into_record());
                    stepped.replayed += 1;
                } else {
                    stepped.skipped += 1;
                }
            }
            stepped.updated_at = Some(to_proto(now));
            if is_last {
                end(&mut stepped, ReplayJobState::Done, now);
            }
            records.push(record(now, What::ReplayJob(stepped.clone())));
            match self.append(owner, records).await {
                Ok(_) => {
                    if is_last {
                        let ReplayJob { replayed, skipped, .. } = stepped;
                        tracing::info!(job = id, partition = %owner.partition, replayed, skipped, "replay job done");
                    }
                    return Ok(());
                }
                Err(Error::TooLarge) if size > 1 => {
                    size /= 2;
                    candidates.truncate(size);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Deliveries after a position, oldest first.
    async fn candidates(
        &self,
        partition: Partition,
        filter: DeliveryFilter,
        behind: DeliveryPosition,
        last: u64,
        max: usize,
    ) -> Result<Vec<Candidate>, Error> {
        let first_kept = self.local.first_kept().await?;
        let question = move |connection: &rusqlite::Connection| {
            let found = replayable::deliveries(connection, partition, &filter, behind, last, max)?;
            let with_step =
                |(position, delivery)| Ok((position, delivery, replayable::step(connection, position)?));
            found.into_iter().map(with_step).collect::<rusqlite::Result<Vec<_>>>()
        };
        let found = self.local.read(question).await?;
        let config = self.local.config();
        let candidate = |(position, delivery, step): (DeliveryPosition, Delivery, u32)| {
            let is_configured = config.route(&delivery.tenant, &delivery.route).is_some();
            let is_replayable = is_configured && position.0.cast_unsigned() >= first_kept;
            Candidate { position, delivery, step, is_replayable }
        };
        Ok(found.into_iter().map(candidate).collect())
    }
}

/// A delivery that matches a job's filter.
struct Candidate {
    position: DeliveryPosition,
    delivery: Delivery,
    /// See `DeliveryStatus::step`.
    step: u32,
    is_replayable: bool,
}
