//! Jobs at OpenRouter: those that are open, and those that have ended and are kept, so that their request ids are known.
//!
//! The last record of a job is its **base record**: no record before it is needed for the job. Each takes about a kilobyte, and its context besides.

use super::{
    kept::Base,
    time::{nanos, read, write},
};
use crate::decisions::job;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use talaria_core::id::EventId;
use talaria_proto::v1::{Event, Job};

/// A job's id, "job_…".
type Id = String;

#[derive(Clone, Debug)]
struct KeptJob {
    job: Job,
    base: Base,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Jobs {
    by_id: BTreeMap<Id, KeptJob>,
    by_token: HashMap<String, Id>,
    /// By tenant and id at OpenRouter.
    by_openrouter_id: HashMap<(String, String), Id>,
    by_event: HashMap<EventId, Id>,
    /// When they are due, in nanoseconds since 1970.
    due: BTreeSet<(i64, Id)>,
    /// Those whose base record has a known sequence.
    bases: BTreeSet<(u64, Id)>,
    /// Those whose base record is in a commit without a sequence.
    pending: BTreeSet<Id>,
}

impl Jobs {
    pub(super) fn change(&mut self, job: &Job, base: Base) {
        self.remove(&job.id);
        self.insert(KeptJob { job: job.clone(), base });
    }

    fn insert(&mut self, kept: KeptJob) {
        let (job, id) = (&kept.job, &kept.job.id);
        if !job.callback_token.is_empty() {
            self.by_token.insert(job.callback_token.clone(), id.clone());
        }
        if !job.openrouter_id.is_empty() {
            self.by_openrouter_id.insert((job.tenant.clone(), job.openrouter_id.clone()), id.clone());
        }
        if let Ok(event) = job.event_id.parse() {
            self.by_event.insert(event, id.clone());
        }
        if let Some(due) = job::due(job) {
            self.due.insert((nanos(due), id.clone()));
        }
        match kept.base.seq() {
            Some(seq) => drop(self.bases.insert((seq, id.clone()))),
            None => drop(self.pending.insert(id.clone())),
        }
        self.by_id.insert(id.clone(), kept);
    }

    fn remove(&mut self, id: &str) -> Option<KeptJob> {
        let kept = self.by_id.remove(id)?;
        let job = &kept.job;
        self.by_token.remove(&job.callback_token);
        self.by_openrouter_id.remove(&(job.tenant.clone(), job.openrouter_id.clone()));
        if let Ok(event) = job.event_id.parse() {
            self.by_event.remove(&event);
        }
        if let Some(due) = job::due(job) {
            self.due.remove(&(nanos(due), id.to_owned()));
        }
        if let Some(seq) = kept.base.seq() {
            self.bases.remove(&(seq, id.to_owned()));
        }
        self.pending.remove(id);
        Some(kept)
    }

    /// The commit that `base` stands for is durable.
    pub(super) fn number(&mut self, base: Base, seq: u64) {
        let is_of = |id: &Id| self.by_id.get(id).is_some_and(|kept| kept.base == base);
        let numbered: Vec<Id> = self.pending.iter().filter(|id| is_of(id)).cloned().collect();
        for id in numbered {
            self.pending.remove(&id);
            if let Some(kept) = self.by_id.get_mut(&id) {
                kept.base = Base::known(seq);
                self.bases.insert((seq, id));
            }
        }
    }

    pub(super) fn forget(&mut self, ids: &[Id]) {
        for id in ids {
            self.remove(id);
        }
    }

    /// The jobs that have ended, with their files, and did not change at or after a time, unless a delivery of their event waits: its
    /// templates may name the job's context.
    pub(super) fn forgettable(&self, time: i64, waits: impl Fn(EventId) -> bool) -> Vec<Id> {
        let is_old = |kept: &&KeptJob| {
            !job::is_open(&kept.job)
                && job::files::due(&kept.job).is_none()
                && read(kept.job.changed_at.as_ref()) < time
                && !kept.job.event_id.parse().is_ok_and(&waits)
        };
        self.by_id.values().filter(is_old).map(|kept| kept.job.id.clone()).collect()
    }

    /// The wall clock was set back by `behind` nanoseconds: jobs are due as much earlier.
    pub(super) fn set_back(&mut self, behind: i64) {
        for id in self.by_id.keys().cloned().collect::<Vec<_>>() {
            let Some(mut kept) = self.remove(&id) else { continue };
            let job = &mut kept.job;
            let is_open = job::is_open(job);
            let ended = job.ended_at.as_mut().filter(|_| !is_open);
            let files = job.files.iter_mut();
            let files = files.flat_map(|files| files.next_try_at.iter_mut().chain(&mut files.wait_until));
            for at in job.next_poll_at.iter_mut().chain(&mut job.give_up_at).chain(ended).chain(files) {
                *at = write(read(Some(at)).saturating_sub(behind));
            }
            self.insert(kept);
        }
    }

    /// The lowest sequence of a base record.
    pub(super) fn floor(&self) -> Option<u64> {
        self.bases.first().map(|(seq, _)| *seq)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Job> {
        self.by_id.get(id).map(|kept| &kept.job)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Job> {
        self.by_id.values().map(|kept| &kept.job)
    }

    #[cfg(test)]
    pub(super) fn with_bases(&self) -> impl Iterator<Item = (&Job, Option<u64>)> {
        self.by_id.values().map(|kept| (&kept.job, kept.base.seq()))
    }

    /// The job of an event: by the path of its callback, else by the job's id at OpenRouter.
    pub(super) fn of_event(&self, event: &Event) -> Option<&Job> {
        if self.by_id.is_empty() {
            return None;
        }
        let by_token = self.by_token.get(&event.callback_token).and_then(|id| self.get(id));
        let by_token = by_token.filter(|job| {
            job.tenant == event.tenant && (job.openrouter_id.is_empty() || job.openrouter_id == event.job_id)
        });
        by_token.or_else(|| self.at_openrouter(&event.tenant, &event.job_id))
    }

    pub(super) fn at_openrouter(&self, tenant: &str, openrouter_id: &str) -> Option<&Job> {
        let id = self.by_openrouter_id.get(&(tenant.to_owned(), openrouter_id.to_owned()))?;
        self.get(id)
    }

    /// The job that this event ended.
    pub(super) fn ended_by(&self, event: EventId) -> Option<&Job> {
        self.by_event.get(&event).and_then(|id| self.get(id))
    }

    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = &Job> {
        let now = nanos(now);
        let due = self.due.iter().take_while(move |(due, _)| *due <= now);
        due.filter_map(|(_, id)| self.get(id))
    }

    /// When the first job is due that `is_waiting` allows.
    pub(super) fn next_due(&self, is_waiting: impl Fn(&Job) -> bool) -> Option<i64> {
        self.due.iter().find(|(_, id)| self.get(id).is_some_and(&is_waiting)).map(|(due, _)| *due)
    }
}
