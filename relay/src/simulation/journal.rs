//! The partition's journal with its fence, and all records ever, folded as the view folds them.

use crate::{
    decisions::{fold::Folded, job::has_ended},
    partition::testing::State,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::{
    time::from_proto,
    v1::{Commit, DeliveryRef, DeliveryState, Job, record::What},
};

/// A relay, and its run.
pub(super) type Author = (usize, u64);

#[derive(Default)]
pub(super) struct Journal {
    /// With their authors.
    pub commits: Vec<(u64, Author, Arc<Commit>)>,
    /// The next sequence.
    next: u64,
    owner: Option<Author>,
    pub deliveries: HashMap<DeliveryId, Folded>,
    /// Kept events, with the sequence of their base record.
    planned: HashMap<EventId, u64>,
    /// Recorded starts of attempts: delivery and number.
    pub started: HashSet<(DeliveryId, u32)>,
    /// Some commits were lost after they had been acknowledged.
    pub has_lost: bool,
    pub was_trimmed: bool,
    /// Deliveries of events that came again after they were forgotten.
    pub planned_again: HashSet<DeliveryId>,
    pub forgotten_jobs: HashSet<String>,
    /// The last record of each job.
    pub jobs: HashMap<String, Job>,
    /// Notices that are recorded and did not come back as events.
    pub unpublished: HashSet<EventId>,
    /// Repetitions with another body.
    pub conflicts: usize,
}

impl Journal {
    pub(super) fn last(&self) -> u64 {
        self.commits.last().map_or(0, |(seq, ..)| *seq)
    }

    /// Appends a commit that follows the one at `after`, or refuses it.
    pub(super) fn append(&mut self, author: Author, after: u64, commit: &Arc<Commit>) -> Option<u64> {
        if self.last() != after {
            return None;
        }
        self.next += 1;
        for record in &commit.records {
            self.record(author, record);
        }
        self.commits.push((self.next, author, Arc::clone(commit)));
        Some(self.next)
    }

    fn record(&mut self, author: Author, record: &talaria_proto::v1::Record) {
        let at = from_proto(record.at.as_ref());
        let what = record.what.as_ref().unwrap();
        if let What::Opened(_) = what {
            self.owner = Some(author);
        }
        assert_eq!(self.owner, Some(author), "{record:?} is of a relay that does not own the partition");
        match what {
            What::EventPlanned(planned) => {
                let event = planned.event.as_ref().unwrap();
                let id: EventId = event.id.parse().unwrap();
                let known = self.planned.insert(id, self.next);
                assert!(known.is_none() || self.has_lost, "{id} is planned twice");
                self.unpublished.remove(&id);
                for route in &planned.routes {
                    let id = DeliveryId::new(id, route);
                    let folded = Folded::planned(id.to_string(), route, event, at);
                    if self.deliveries.insert(id, folded).is_some() {
                        self.planned_again.insert(id);
                    }
                }
            }
            What::AttemptStarted(started) => {
                let id = started.delivery.as_ref().unwrap().id.parse().unwrap();
                let is_new = self.started.insert((id, started.number));
                assert!(
                    is_new || self.has_lost || self.planned_again.contains(&id),
                    "attempt {} of {id} is begun twice",
                    started.number
                );
            }
            What::AttemptFinished(finished) => {
                let delivery = finished.delivery.as_ref().unwrap();
                let number = finished.attempt.as_ref().unwrap().number;
                let key = (delivery.id.parse().unwrap(), number);
                assert!(self.started.contains(&key) || self.has_lost, "{key:?} ended and never began");
                self.folded(delivery).apply(finished.status.as_ref().unwrap(), at);
            }
            What::DeliveryMoved(moved) => {
                self.folded(moved.delivery.as_ref().unwrap()).apply(moved.status.as_ref().unwrap(), at);
            }
            What::EventCarried(carried) => {
                self.planned.insert(carried.event.as_ref().unwrap().id.parse().unwrap(), self.next);
            }
            What::EventRepeated(repeated) => self.conflicts += usize::from(repeated.conflict.is_some()),
            What::Job(job) => {
                let known = self.jobs.insert(job.id.clone(), job.clone());
                if let Some(known) = known.filter(|known| has_ended(known) && !self.has_lost) {
                    assert_eq!(known.state, job.state, "a job goes on from its end");
                }
            }
            What::JobsForgotten(forgotten) => self.forgotten_jobs.extend(forgotten.job_ids.iter().cloned()),
            What::NoticesTold(told) => {
                let id = told.event.as_ref().map(|event| event.id.parse::<EventId>().unwrap());
                self.unpublished.extend(id);
            }
            What::EventsForgotten(forgotten) => self.planned.retain(|_, seq| *seq >= forgotten.before),
            _ => {}
        }
    }

    fn folded(&mut self, delivery: &DeliveryRef) -> &mut Folded {
        let folded = self.deliveries.entry(delivery.id.parse().unwrap()).or_default();
        let state = folded.delivery.state();
        assert!(state == DeliveryState::Waiting || self.has_lost, "{} moves on from its end", delivery.id);
        folded
    }

    /// The state of a relay that takes the partition over.
    pub(super) fn replayed(&self, times: usize) -> State {
        let mut state = State::default();
        for (seq, _, commit) in &self.commits {
            for record in &commit.records {
                (0..times).for_each(|_| state.apply(record));
            }
            state.close();
            state.committed(*seq);
        }
        state
    }

    pub(super) fn trim(&mut self, before: u64) {
        let commits = self.commits.len();
        self.commits.retain(|(seq, ..)| *seq >= before);
        self.was_trimmed |= self.commits.len() < commits;
    }

    /// The last commits are gone, as after a restored backup.
    pub(super) fn lose_end(&mut self, commits: usize) {
        self.has_lost = true;
        self.commits.truncate(self.commits.len().saturating_sub(commits));
    }

    pub(super) fn count(&self, state: DeliveryState) -> usize {
        self.deliveries.values().filter(|folded| folded.delivery.state() == state).count()
    }
}
