//! Replay jobs over all partitions: counts the matching deliveries, divides the rate, and begins a part in each partition with a
//! match.

use super::{jobs::wire_partition, request};
use crate::{
    decisions::replay::divided,
    services::{access::Caller, cluster::Cluster, error::Error},
    view::control::merged,
};
use std::collections::{BTreeMap, BTreeSet};
use talaria_bus::Partition;
use talaria_proto::{
    time::to_proto,
    v1::{
        CancelReplay, CancelReplayJobRequest, CancelReplayJobResponse, ClusterMethod, GetReplayJobRequest,
        GetReplayJobResponse, PartitionReplayCount, ReplayDeliveriesRequest, ReplayDeliveriesResponse,
        ReplayJob, ReplayPart, StartReplay, StartedReplay,
    },
};

impl Cluster {
    /// Begins a job, or only counts the matching deliveries.
    pub(super) async fn replay_many(
        &self,
        caller: &Caller,
        request: ReplayDeliveriesRequest,
    ) -> Result<ReplayDeliveriesResponse, Error> {
        let (filter, rate) = request::replay(&request, caller)?;
        let tenant = Some(filter.tenant.as_str()).filter(|tenant| !tenant.is_empty());
        let own = self.operator.count_replay(caller, request.clone());
        let all = self.gather(caller, ClusterMethod::CountReplay, &request, tenant, own).await?;
        // While a partition moves, two relays may have counted it.
        let counts: BTreeMap<u32, PartitionReplayCount> = all
            .others
            .into_iter()
            .chain([all.own?])
            .flat_map(|count| count.partitions)
            .map(|count| (count.partition, count))
            .collect();
        let counts: Vec<PartitionReplayCount> = counts.into_values().collect();
        let sum = |of: fn(&PartitionReplayCount) -> u64| counts.iter().map(of).sum::<u64>();
        let mut answer = ReplayDeliveriesResponse {
            matching: sum(|count| count.matching),
            replayable: sum(|count| count.replayable),
            event_not_kept: sum(|count| count.event_not_kept),
            route_not_configured: sum(|count| count.route_not_configured),
            job: None,
            incomplete: !all.missing.is_empty(),
        };
        if request.dry_run || answer.replayable == 0 {
            return Ok(answer);
        }
        let now = self.local().clock.now();
        let job = ReplayJob {
            id: format!("rpl_{:016x}", rand::random::<u64>()),
            filter: Some(filter),
            requested_by: request.requested_by,
            token_name: caller.token.clone(),
            reason: request.reason,
            started_at: Some(to_proto(now)),
            ..ReplayJob::default()
        };
        let parts = parts(&job, rate, &counts);
        let count = parts.len();
        let started = self.start(caller, parts).await?;
        answer.incomplete |= started.len() < count;
        answer.job = started.into_iter().reduce(merged);
        Ok(answer)
    }

    /// Begins the parts of a job at the owners of their partitions. Only one records the operator's action, so the relays are
    /// asked one after the other.
    async fn start(&self, caller: &Caller, parts: Vec<ReplayPart>) -> Result<Vec<ReplayJob>, Error> {
        let count = self.local().bus.partitions();
        let parts: BTreeMap<Partition, ReplayPart> = parts
            .into_iter()
            .filter_map(|part| Some((wire_partition(part.partition, count)?, part)))
            .collect();
        let targets = self.targets_of(parts.keys().copied()).await;
        let of = |partitions: &BTreeSet<Partition>| {
            partitions.iter().filter_map(|partition| parts.get(partition).cloned()).collect::<Vec<_>>()
        };
        let mut started: Vec<ReplayJob> = Vec::new();
        let mut failed = None;
        if !targets.own.is_empty() {
            let asked = StartReplay { parts: of(&targets.own), record_action: true };
            match self.operator.start_replay(caller, asked).await {
                Ok(begun) => started.extend(begun.parts.into_iter().filter_map(|part| part.job)),
                Err(error) => failed = Some(error),
            }
        }
        for target in targets.others {
            let asked = StartReplay { parts: of(&target.1), record_action: started.is_empty() };
            let answer = self.ask(caller, ClusterMethod::StartReplay, &asked, 0, target).await;
            match answer.decoded::<StartedReplay>() {
                Ok(begun) => started.extend(begun.parts.into_iter().filter_map(|part| part.job)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            _ if !started.is_empty() => Ok(started),
            Some(error) => Err(error),
            None => Err(Error::NoOwner(targets.unowned.into_iter().collect())),
        }
    }

    /// A job, merged from its parts.
    pub(super) async fn replay_job(
        &self,
        caller: &Caller,
        request: GetReplayJobRequest,
    ) -> Result<GetReplayJobResponse, Error> {
        let own = self.local().job(caller, request.clone());
        let (method, tenant) = (ClusterMethod::GetReplayJob, caller.tenant.as_deref());
        let all = self.gather(caller, method, &request, tenant, own).await?;
        let not_found = match &all.own {
            Err(error) if !error.is_not_found() => return Err(error.clone()),
            own => own.clone().err(),
        };
        let parts = all.others.into_iter().chain(all.own).filter_map(|answer| answer.job);
        match (parts.reduce(merged), not_found) {
            (None, Some(error)) => Err(error.of_all(all.behind, all.missing)),
            (job, _) => Ok(GetReplayJobResponse { job, incomplete: !all.missing.is_empty() }),
        }
    }

    /// Cancels all parts of a job. Only one records the operator's action, so the relays are asked one after the other.
    pub(super) async fn cancel_replay_job(
        &self,
        caller: &Caller,
        request: CancelReplayJobRequest,
    ) -> Result<CancelReplayJobResponse, Error> {
        request::audit(caller, &request.requested_by, &request.reason)?;
        let targets = self.targets(caller.tenant.as_deref()).await;
        let mut missing: BTreeSet<Partition> = targets.unowned;
        let asked = |record_action| CancelReplay { request: Some(request.clone()), record_action };
        let own = self.operator.cancel_replay(caller, asked(true)).await;
        let (mut done, mut ended, mut behind) = (false, false, 0);
        let mut not_found = None;
        match own {
            Ok(_) => done = true,
            Err(Error::JobEnded(_)) => ended = true,
            Err(error) if error.is_not_found() => not_found = Some(error),
            Err(error) => return Err(error),
        }
        for target in targets.others {
            let answer = self.ask(caller, ClusterMethod::CancelReplay, &asked(!done), 0, target).await;
            behind = behind.max(answer.behind);
            match answer.decoded::<CancelReplayJobResponse>() {
                Ok(_) => done = true,
                Err(error) if error.code() == tonic::Code::FailedPrecondition => ended = true,
                Err(error) if error.is_not_found() => {}
                Err(_) => missing.extend(&answer.asked),
            }
            missing.extend(answer.asked.difference(&answer.answered));
        }
        if !done {
            return Err(match not_found {
                _ if ended => Error::JobEnded(request.job_id),
                Some(error) => error.of_all(behind, missing.into_iter().collect()),
                None => Error::NotOwned,
            });
        }
        let all = self.replay_job(caller, GetReplayJobRequest { job_id: request.job_id }).await?;
        Ok(CancelReplayJobResponse { job: all.job, incomplete: all.incomplete || !missing.is_empty() })
    }
}

/// A part for each partition with a match. All begin at the same time, so that they have the same position in lists.
fn parts(job: &ReplayJob, rate: u32, counts: &[PartitionReplayCount]) -> Vec<ReplayPart> {
    let matching: Vec<_> = counts.iter().filter(|count| count.matching > 0).collect();
    let rates = divided(rate, &matching.iter().map(|count| count.matching).collect::<Vec<_>>());
    let part = |(count, rate): (&&PartitionReplayCount, u32)| ReplayPart {
        partition: count.partition,
        job: Some(ReplayJob {
            rate_per_minute: rate,
            matched: count.matching,
            last_event_seq: count.last_event_seq,
            ..job.clone()
        }),
    };
    matching.iter().zip(rates).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_with_a_match_has_a_part() {
        let count = |partition, matching| PartitionReplayCount {
            partition,
            matching,
            last_event_seq: 9,
            ..PartitionReplayCount::default()
        };
        let job = ReplayJob { id: "rpl_1".into(), ..ReplayJob::default() };
        let parts = parts(&job, 60, &[count(3, 10), count(4, 0), count(7, 20)]);
        let shown: Vec<_> = parts
            .iter()
            .map(|part| (part.partition, part.job.as_ref().unwrap()))
            .map(|(partition, job)| {
                (partition, job.id.as_str(), job.rate_per_minute, job.matched, job.last_event_seq)
            })
            .collect();
        assert_eq!(shown, [(3, "rpl_1", 20, 10, 9), (7, "rpl_1", 40, 20, 9)]);
        let whole = parts.into_iter().filter_map(|part| part.job).reduce(merged).unwrap();
        assert_eq!((whole.matched, whole.rate_per_minute), (30, 60), "merged, it is the requested job");
    }
}
