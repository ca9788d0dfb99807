//! Goes on with the parts of replay jobs that are in the partitions that this relay owns.
//!
//! Each step is one commit: the records about the deliveries that are sent again, and how far the part has come. So a step is
//! done as a whole or not at all, whatever dies when, and the next owner goes on behind the last one.

use super::{jobs::end, operator::Operator, request};
use crate::{
    decisions::replay::{self, Wish, record},
    partition::handle::Owner,
    services::error::Error,
    view::{
        query::Place,
        replayable::{self, BOTTOM, ReplayFilter},
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

/// How often the partitions are asked which jobs run: some come with a partition that another relay had.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait after a step failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Goes on with the jobs that run in own partitions until it is told to stop. Each partition goes on by itself, so that none
/// waits for another.
pub(crate) async fn run(operator: Operator, stop: CancellationToken) {
    let work = async {
        let (mut workers, mut busy) = (JoinSet::new(), BTreeSet::<Partition>::new());
        loop {
            while let Some(ended) = workers.try_join_next() {
                match ended {
                    Ok(partition) => drop(busy.remove(&partition)),
                    // One broke off, and it is not known which: those that still run do no harm beside a second one.
                    Err(_) => busy.clear(),
                }
            }
            for owner in operator.local.owners.all() {
                if !busy.contains(&owner.partition) && owner.jobs().await.is_some_and(|jobs| !jobs.is_empty())
                {
                    busy.insert(owner.partition);
                    let operator = operator.clone();
                    workers.spawn(async move {
                        operator.work_on(&owner).await;
                        owner.partition
                    });
                }
            }
            tokio::select! { () = sleep(LOOK_INTERVAL) => {}, () = operator.job_began.notified() => {} }
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}

impl Operator {
    /// Until no job runs in the partition, or it is owned here no more.
    async fn work_on(&self, owner: &Owner) {
        loop {
            let now = self.local.clock.now();
            let jobs = owner.jobs().await.unwrap_or_default();
            let next = jobs.iter().map(|job| (replay::next_step(job, now), &job.id)).min();
            let Some((at, id)) = next else { return };
            if at > now {
                // Not longer: it may be called off, and another one may begin.
                tokio::select! { () = self.local.clock.sleep_towards(at) => {}, () = sleep(LOOK_INTERVAL) => {} }
                continue;
            }
            match self.go_on(owner, id).await {
                Ok(()) => {}
                // The partition's new owner goes on, or the view catches up.
                Err(Error::Lost | Error::FarBehind) => sleep(RETRY_DELAY).await,
                Err(error) => {
                    static FAILED: LogLimiter = LogLimiter::new();
                    if let Some(left_out) = FAILED.admit() {
                        tracing::error!(
                            %error, job = id, partition = %owner.partition, left_out,
                            "a replay cannot go on; trying again"
                        );
                    }
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// One step of a part of a job, if it is time for one.
    async fn go_on(&self, owner: &Owner, id: &str) -> Result<(), Error> {
        let _turn = self.turn(owner).await?;
        let now = self.local.clock.now();
        let running = owner.jobs().await.unwrap_or_default().into_iter().find(|job| job.id == id);
        let Some(job) = running.filter(|job| replay::next_step(job, now) <= now) else { return Ok(()) };
        let filter = request::replay_filter(&job.filter.clone().unwrap_or_default())?;
        let behind = job.cursor.map_or(BOTTOM, |cursor| (cursor.event_seq.cast_signed(), cursor.route));
        let (mut size, _) = replay::step(job.rate_per_minute);
        let mut candidates =
            self.candidates(owner.partition, filter, behind, job.last_event_seq, size).await?;
        loop {
            let is_last = candidates.len() < size;
            let mut stepped = job.clone();
            let mut records = Vec::new();
            let wish = Wish {
                now,
                by: &job.requested_by,
                token: &job.token_name,
                reason: &job.reason,
                job: &job.id,
            };
            for Candidate { place: (seq, route), delivery, step, is_fit } in &candidates {
                stepped.cursor = Some(ReplayCursor { event_seq: seq.cast_unsigned(), route: *route });
                if *is_fit {
                    let task = replay::ended(delivery, seq.cast_unsigned(), *step);
                    records.push(replay::again(&task, wish).record);
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
                        tracing::info!(job = id, partition = %owner.partition, replayed, skipped, "a replay is done");
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

    /// Deliveries behind a place, oldest first.
    async fn candidates(
        &self,
        partition: Partition,
        filter: ReplayFilter,
        behind: Place,
        last: u64,
        max: usize,
    ) -> Result<Vec<Candidate>, Error> {
        let first_kept = self.local.first_kept().await?;
        let question = move |connection: &rusqlite::Connection| {
            let found = replayable::deliveries(connection, partition, &filter, behind, last, max)?;
            let with_step = |(place, delivery)| Ok((place, delivery, replayable::step(connection, place)?));
            found.into_iter().map(with_step).collect::<rusqlite::Result<Vec<_>>>()
        };
        let found = self.local.read(question).await?;
        let config = self.local.config();
        let judged = |(place, delivery, step): (Place, Delivery, u32)| {
            let is_configured = config.route(&delivery.tenant, &delivery.route).is_some();
            let is_fit = is_configured && place.0.cast_unsigned() >= first_kept;
            Candidate { place, delivery, step, is_fit }
        };
        Ok(found.into_iter().map(judged).collect())
    }
}

/// A delivery that a job comes to.
struct Candidate {
    place: Place,
    delivery: Delivery,
    /// How many of its records changed its status.
    step: u32,
    /// Whether it can be replayed.
    is_fit: bool,
}
