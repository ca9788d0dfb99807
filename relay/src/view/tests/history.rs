//! Commits in the form that owners append.

use super::partition;
use crate::decisions::{
    audit::AuditInfo,
    classify::{Next, Verdict},
    conclude::{self, Timing},
    exchange::{Answer, Exchange, Sent, Timings},
    prepare::Remarks,
    replay,
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use talaria_bus::{Committed, Partition};
use talaria_core::{
    config::Retry,
    id::{DeliveryId, EventId},
    time::after,
};
use talaria_proto::{
    time::to_proto,
    v1::{
        AttemptOutcome, AttemptStarted, Commit, ControlKind, DeliveryRef, DeliveryTask, Event, EventPlanned,
        EventRepeated, EventsForgotten, Pause, PauseChanged, Record, ReplayJob, ReplayJobState, record::What,
    },
};

pub(super) fn at(seconds: u64) -> Timestamp {
    after(Timestamp::from_second(1_777_000_000).unwrap(), Duration::from_secs(seconds))
}

/// One record a commit, but for those that are `joined`.
#[derive(Default)]
pub(super) struct TestHistory {
    pub(super) commits: Vec<Committed>,
    pub(super) events: u64,
    /// Tenants of this name are in partition 1.
    pub(super) elsewhere: &'static str,
    /// The model of the next events; none if it is empty.
    pub(super) model: &'static str,
}

impl TestHistory {
    fn partition_of(&self, tenant: &str) -> Partition {
        partition(u16::from(!tenant.is_empty() && tenant == self.elsewhere))
    }

    pub(super) fn record(&mut self, tenant: &str, time: Timestamp, event_seq: u64, what: What) {
        let record = Record { at: Some(to_proto(time)), event_seq, what: Some(what) };
        self.append(tenant, record);
    }

    fn append(&mut self, tenant: &str, record: Record) {
        let commit = Arc::new(Commit { records: vec![record] });
        let seq = self.commits.len() as u64 + 1;
        self.commits.push(Committed { seq, partition: self.partition_of(tenant), commit });
    }

    /// Puts the last commits into one.
    pub(super) fn join(&mut self, count: usize) {
        let last = self.commits.split_off(self.commits.len() - count);
        let records = last.iter().flat_map(|commit| commit.commit.records.clone()).collect();
        self.commits.push(Committed { commit: Arc::new(Commit { records }), ..last[0].clone() });
    }

    fn now(&self) -> Timestamp {
        at(self.commits.len() as u64 + 1_000)
    }

    /// An event of job "job <n>", received in second n, and its deliveries' tasks.
    pub(super) fn event(&mut self, tenant: &str, routes: &[&str]) -> (EventId, Vec<DeliveryTask>) {
        self.events += 1;
        let (seq, job) = (self.events, format!("job {}", self.events));
        let id = EventId::new(tenant, &job, "video.done");
        let received_at = Some(to_proto(at(seq)));
        let event = Event {
            id: id.to_string(),
            tenant: tenant.into(),
            r#type: "video.done".into(),
            job_id: job,
            received_at,
            model: (!self.model.is_empty()).then(|| self.model.to_owned()),
            ..Event::default()
        };
        let routes: Vec<String> = routes.iter().map(|route| (*route).to_owned()).collect();
        let task = |route: &String| DeliveryTask {
            delivery_id: DeliveryId::new(id, route).to_string(),
            event_seq: seq,
            tenant: tenant.into(),
            route: route.clone(),
            received_at,
            due_at: received_at,
            generation: 1,
            ..DeliveryTask::default()
        };
        let tasks = routes.iter().map(task).collect();
        self.record(tenant, at(seq), seq, What::EventPlanned(EventPlanned { event: Some(event), routes }));
        (id, tasks)
    }

    /// An attempt begins.
    pub(super) fn start(&mut self, task: &DeliveryTask) {
        let delivery = DeliveryRef {
            id: task.delivery_id.clone(),
            tenant: task.tenant.clone(),
            route: task.route.clone(),
        };
        let started = AttemptStarted {
            delivery: Some(delivery),
            number: task.attempts + 1,
            generation: task.generation,
            paced: false,
        };
        self.record(&task.tenant, self.now(), task.event_seq, What::AttemptStarted(started));
    }

    /// An attempt with this outcome, one second after the last commit. Gives the next task.
    pub(super) fn attempt(&mut self, task: &DeliveryTask, next: Next) -> Option<DeliveryTask> {
        let now = self.now();
        let outcome = match next {
            Next::Delivered => AttemptOutcome::Accepted,
            Next::Ignored => AttemptOutcome::Ignored,
            Next::Ambiguous => AttemptOutcome::NotUnderstood,
            Next::Slower { .. } => AttemptOutcome::RateLimited,
            Next::RouteFault { .. } | Next::OtherSecret => AttemptOutcome::RouteFault,
            Next::Retry { .. } => AttemptOutcome::Failed,
        };
        let status = match outcome {
            AttemptOutcome::RateLimited => 429,
            AttemptOutcome::Failed => 503,
            _ => 200,
        };
        let sent = Sent {
            started_at: now,
            took: Duration::from_millis(3),
            exchange: Exchange::Answered(Answer { status, ..Answer::default() }),
            timings: Timings::default(),
            secret: 0,
            remarks: Remarks::default(),
        };
        let verdict = Verdict { outcome, detail: format!("{outcome:?}"), next };
        let retry = Retry {
            schedule: vec![Duration::from_secs(1); 2],
            jitter: 0.0,
            max_age: Duration::from_secs(9_999),
        };
        let not_before = after(now, Duration::from_secs(5));
        let timing = Timing { now, retry: &retry, random: 0.5, not_before, age_from: now };
        let id = task.delivery_id.parse().unwrap();
        let conclusion = conclude::attempt(task, id, Some(sent), verdict, timing);
        let next = conclusion.task.clone();
        self.append(&task.tenant, conclusion.into_record());
        next
    }

    /// An operator's pause or resumption.
    pub(super) fn pause(&mut self, time: Timestamp, tenant: &str, route: &str, paused: bool) {
        let pause = Pause {
            tenant: tenant.into(),
            route: route.into(),
            since: Some(to_proto(time)),
            requested_by: "ana".into(),
            ..Pause::default()
        };
        self.record(tenant, time, 0, What::PauseChanged(PauseChanged { pause: Some(pause), paused }));
        let audit = AuditInfo { by: "ana".into(), ..AuditInfo::default() };
        let kind = if paused { ControlKind::Paused } else { ControlKind::Resumed };
        self.record(tenant, time, 0, What::Acted(audit.action(time, kind, tenant, route)));
        self.join(2);
    }

    /// The replay of a delivery, by an operator or by a job.
    pub(super) fn again(&mut self, task: &DeliveryTask, job: &str) -> DeliveryTask {
        let now = self.now();
        let audit = AuditInfo { by: "ana".into(), job: job.into(), ..AuditInfo::default() };
        let again = replay::again(task, &audit, now);
        let next = again.task.clone();
        self.append(&task.tenant, again.into_record());
        next.unwrap()
    }

    /// A replay job's part in the partition of a tenant, as it is now.
    pub(super) fn job(&mut self, tenant: &str, id: &str, started: u64, replayed: u64, state: ReplayJobState) {
        let updated_at = Some(to_proto(at(started + replayed)));
        let job = ReplayJob {
            id: id.into(),
            state: state.into(),
            matched: 10,
            replayed,
            started_at: Some(to_proto(at(started))),
            updated_at,
            ended_at: updated_at.filter(|_| state != ReplayJobState::Running),
            ..ReplayJob::default()
        };
        self.record(tenant, at(started + replayed), 0, What::ReplayJob(job));
    }

    pub(super) fn conflict(&mut self, tenant: &str, seq: u64, conflict: talaria_proto::v1::EventConflict) {
        let time = talaria_proto::time::from_proto(conflict.received_at.as_ref());
        let repeated = EventRepeated {
            event_id: conflict.event_id.clone(),
            first_seq: seq,
            received_at: conflict.received_at,
            conflict: Some(conflict),
        };
        self.record(tenant, time, 0, What::EventRepeated(repeated));
    }

    pub(super) fn forget(&mut self, tenant: &str, before: u64) {
        self.record(tenant, self.now(), 0, What::EventsForgotten(EventsForgotten { before }));
    }
}
