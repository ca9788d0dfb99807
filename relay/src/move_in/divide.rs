//! Divides the journal of one partition among many, so that together they have the state and the history that it has.
//!
//!  1. A record goes to the partition of its tenant. One without a tenant goes to that of its event, else to the first partition.
//!  2. The parts of a commit come before those of the next one, so the order of records within a partition stays.
//!  3. `Opened`, `Closed` and `EventsForgotten` go to every partition with a tenant in the bus; `Opened` and replay jobs are divided.
//!  4. Sequences of events stay. Those of commits change, and only `EventsForgotten` names one.
//!  5. Times stay. An `Opened` is compared with the time of the record before it, so a partition whose last record is older gets
//!     an empty record with that time before it, and at the end.

use crate::decisions::replay::divided;
use prost::Message as _;
use prost_types::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    mem,
};
use talaria_bus::Partition;
use talaria_proto::v1::{
    Commit, DeliveryRef, EventsForgotten, JobsForgotten, Opened, PauseChanged, Record, ReplayJob,
    record::What,
};

/// The number of partitions over NATS.
const PARTITIONS: u16 = 64;

/// A record is larger than a commit may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub size: usize,
    pub limit: usize,
}

/// The partitions of everything in a bus.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The partitions with a tenant, and how many events each has.
    found: BTreeMap<Partition, u64>,
    /// By the event's sequence.
    events: HashMap<u64, Partition>,
    /// By the id of the job at OpenRouter.
    jobs: HashMap<String, Partition>,
}

impl Survey {
    /// An entry of the events.
    pub(crate) fn event(&mut self, seq: u64, tenant: &str) {
        let partition = Partition::of(tenant, PARTITIONS);
        let events = self.found.entry(partition).or_default();
        if self.events.insert(seq, partition).is_none() {
            *events += 1;
        }
    }

    pub(crate) fn commit(&mut self, commit: &Commit) {
        commit.records.iter().for_each(|record| self.record(record));
    }

    fn record(&mut self, record: &Record) {
        if let Some(tenant) = tenant(record) {
            match &record.what {
                Some(What::EventPlanned(_) | What::EventCarried(_)) => self.event(record.event_seq, tenant),
                Some(What::Job(job)) => {
                    let partition = self.tenant(tenant);
                    self.jobs.insert(job.id.clone(), partition);
                }
                _ => {
                    self.tenant(tenant);
                }
            }
        }
        if let Some(What::Opened(opened)) = &record.what {
            let pauses =
                opened.pauses.iter().filter_map(|changed| Some(changed.pause.as_ref()?.tenant.as_str()));
            let routes = opened.routes.iter().map(|route| route.tenant.as_str());
            let jobs = opened.jobs.iter().map(tenant_of_replay);
            let notices = opened.notices.iter().map(|told| told.tenant.as_str());
            for tenant in pauses.chain(routes).chain(jobs).chain(notices).filter(|tenant| !tenant.is_empty())
            {
                self.tenant(tenant);
            }
        }
    }

    fn tenant(&mut self, tenant: &str) -> Partition {
        let partition = Partition::of(tenant, PARTITIONS);
        self.found.entry(partition).or_default();
        partition
    }

    /// The partitions with a tenant.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> + use<'_> {
        self.found.keys().copied()
    }

    /// The partition of a record that is not divided; `None` if there is no tenant at all.
    fn partition(&self, record: &Record) -> Option<Partition> {
        if let Some(tenant) = tenant(record) {
            return Some(Partition::of(tenant, PARTITIONS));
        }
        let first_seq = match &record.what {
            Some(What::EventRepeated(repeated)) => repeated.first_seq,
            _ => record.event_seq,
        };
        let known = self.events.get(&first_seq).or_else(|| self.events.get(&record.event_seq));
        known.copied().or_else(|| self.partitions().next())
    }

    /// The parts of a replay job. One that is not of a tenant has a part in each partition with an event, at a share of the
    /// rate; the first part has the numbers of all.
    fn replay_parts(&self, job: &ReplayJob) -> Vec<(Partition, ReplayJob)> {
        let tenant = tenant_of_replay(job);
        if !tenant.is_empty() {
            return vec![(Partition::of(tenant, PARTITIONS), job.clone())];
        }
        let (mut partitions, mut events): (Vec<_>, Vec<_>) =
            self.found.iter().filter(|(_, events)| **events > 0).unzip();
        if partitions.is_empty() {
            (partitions, events) = self.found.iter().take(1).unzip();
        }
        let events: Vec<u64> = events.into_iter().copied().collect();
        let rates = divided(job.rate_per_minute, &events);
        let part = |(index, (partition, rate_per_minute)): (usize, (&Partition, u32))| {
            let part = ReplayJob { rate_per_minute, ..job.clone() };
            let rest = ReplayJob { matched: 0, replayed: 0, skipped: 0, ..part.clone() };
            (*partition, if index == 0 { part } else { rest })
        };
        partitions.into_iter().zip(rates).enumerate().map(part).collect()
    }
}

fn tenant_of_replay(job: &ReplayJob) -> &str {
    job.filter.as_ref().map_or("", |filter| &filter.tenant)
}

/// The tenant of a record that is of one.
fn tenant(record: &Record) -> Option<&str> {
    fn named(delivery: Option<&DeliveryRef>) -> Option<&str> {
        delivery.map(|delivery| delivery.tenant.as_str())
    }
    let tenant = match record.what.as_ref()? {
        What::EventPlanned(planned) => planned.event.as_ref()?.tenant.as_str(),
        What::EventCarried(carried) => carried.event.as_ref()?.tenant.as_str(),
        What::CallbackQuarantined(callback) => &callback.tenant,
        What::AttemptStarted(started) => named(started.delivery.as_ref())?,
        What::AttemptFinished(finished) => named(finished.delivery.as_ref())?,
        What::DeliveryMoved(moved) => named(moved.delivery.as_ref())?,
        What::RunReported(reported) => named(reported.delivery.as_ref())?,
        What::RouteChanged(changed) => &changed.tenant,
        What::PauseChanged(PauseChanged { pause, .. }) => &pause.as_ref()?.tenant,
        What::Acted(action) => &action.tenant,
        What::ReplayJob(job) => tenant_of_replay(job),
        What::Job(job) => &job.tenant,
        What::NoticesTold(told) => &told.tenant,
        What::Opened(_)
        | What::Closed(_)
        | What::EventRepeated(_)
        | What::EventsForgotten(_)
        | What::JobsForgotten(_) => return None,
    };
    Some(tenant).filter(|tenant| !tenant.is_empty())
}

/// Divides commits in order, and numbers those that come of them from 1.
#[derive(Debug)]
pub(crate) struct Division {
    survey: Survey,
    /// The most bytes of a commit.
    largest: usize,
    /// The number of commits that were given.
    given: u64,
    /// Each commit, and the number of commits that were given with it and before it.
    ends: Vec<(u64, u64)>,
    /// The time of the last record, and of the last one of each partition.
    last_at: Option<Timestamp>,
    last_at_of: BTreeMap<Partition, Option<Timestamp>>,
}

impl Division {
    pub(crate) fn new(survey: Survey, largest: usize) -> Self {
        Self { survey, largest, given: 0, ends: Vec::new(), last_at: None, last_at_of: BTreeMap::new() }
    }

    /// The commits of the partitions that a commit becomes, in order.
    pub(crate) fn commit(&mut self, seq: u64, commit: Commit) -> Result<Vec<(Partition, Commit)>, TooLarge> {
        let mut parts: BTreeMap<Partition, Vec<Record>> = BTreeMap::new();
        for record in commit.records {
            let (at, event_seq) = (record.at, record.event_seq);
            let is_opened = matches!(record.what, Some(What::Opened(_)));
            for (partition, what) in self.parts(record) {
                let records = parts.entry(partition).or_default();
                if is_opened {
                    records.extend(self.time(partition));
                }
                records.push(Record { at, event_seq, what });
                self.last_at_of.insert(partition, at);
            }
            self.last_at = at;
        }
        let mut commits = Vec::new();
        for (partition, records) in parts {
            for records in split(records, self.largest)? {
                commits.push((partition, Commit { records }));
            }
        }
        self.given += commits.len() as u64;
        self.ends.push((seq, self.given));
        Ok(commits)
    }

    /// The last commits.
    pub(crate) fn end(&self) -> Vec<(Partition, Commit)> {
        let last = |partition| Some((partition, Commit { records: vec![self.time(partition)?] }));
        self.survey.partitions().filter_map(last).collect()
    }

    /// A record that changes nothing and has the time of the last record, if that of the partition has another one.
    fn time(&self, partition: Partition) -> Option<Record> {
        let has_it = self.last_at_of.get(&partition).copied().flatten() == self.last_at;
        let nothing = What::JobsForgotten(JobsForgotten::default());
        (!has_it).then_some(Record { at: self.last_at, event_seq: 0, what: Some(nothing) })
    }

    fn parts(&self, record: Record) -> Vec<(Partition, Option<What>)> {
        let survey = &self.survey;
        match &record.what {
            Some(What::Opened(opened)) => {
                let part = |partition| (partition, Some(What::Opened(self.opened(opened, partition))));
                survey.partitions().map(part).collect()
            }
            Some(What::Closed(_)) => {
                survey.partitions().map(|partition| (partition, record.what.clone())).collect()
            }
            Some(What::EventsForgotten(EventsForgotten { before })) => {
                let before = self.first_after(*before);
                let part = |partition| (partition, Some(What::EventsForgotten(EventsForgotten { before })));
                survey.partitions().map(part).collect()
            }
            Some(What::JobsForgotten(forgotten)) => {
                let mut parts: BTreeMap<Partition, JobsForgotten> = BTreeMap::new();
                for id in &forgotten.job_ids {
                    // The last record of any other was trimmed, so that it is forgotten already.
                    if let Some(partition) = survey.jobs.get(id) {
                        parts.entry(*partition).or_default().job_ids.push(id.clone());
                    }
                }
                parts
                    .into_iter()
                    .map(|(partition, part)| (partition, Some(What::JobsForgotten(part))))
                    .collect()
            }
            Some(What::ReplayJob(job)) => {
                let parts = survey.replay_parts(job).into_iter();
                parts.map(|(partition, part)| (partition, Some(What::ReplayJob(part)))).collect()
            }
            _ => survey.partition(&record).map(|partition| (partition, record.what)).into_iter().collect(),
        }
    }

    fn opened(&self, opened: &Opened, partition: Partition) -> Opened {
        let is_its = |tenant: &str| Partition::of(tenant, PARTITIONS) == partition;
        let of_pause = |changed: &&PauseChanged| changed.pause.as_ref().is_some_and(|of| is_its(&of.tenant));
        let parts = opened.jobs.iter().flat_map(|job| self.survey.replay_parts(job));
        Opened {
            relay: opened.relay.clone(),
            run: opened.run,
            // No event before it is unplanned, of whatever tenant.
            planned_through: opened.planned_through,
            pauses: opened.pauses.iter().filter(of_pause).cloned().collect(),
            routes: opened.routes.iter().filter(|route| is_its(&route.tenant)).cloned().collect(),
            jobs: parts.filter(|(of, _)| *of == partition).map(|(_, part)| part).collect(),
            notices: opened.notices.iter().filter(|told| is_its(&told.tenant)).cloned().collect(),
        }
    }

    /// The sequence after all commits that the commits before a sequence became.
    fn first_after(&self, before: u64) -> u64 {
        let count = self.ends.partition_point(|(seq, _)| *seq < before);
        count.checked_sub(1).and_then(|last| self.ends.get(last)).map_or(0, |(_, given)| given + 1)
    }
}

/// Records in commits that are not too large.
fn split(records: Vec<Record>, largest: usize) -> Result<Vec<Vec<Record>>, TooLarge> {
    let (mut commits, mut commit, mut size) = (Vec::new(), Vec::new(), 0);
    for record in records {
        let length = record.encoded_len();
        let its = 1 + prost::length_delimiter_len(length) + length;
        if its > largest {
            return Err(TooLarge { size: its, limit: largest });
        }
        if size + its > largest {
            commits.push(mem::take(&mut commit));
            size = 0;
        }
        size += its;
        commit.push(record);
    }
    commits.push(commit);
    Ok(commits)
}
