//! Random records of an owner, applied to a state and to the model.

use super::{super::State, model::Model};
use crate::{
    decisions::{breaker::Cause, breaker::Shut, replay},
    delivery_key::DeliveryKey,
    partition::state::route_changed,
};
use jiff::Timestamp;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;
use talaria_bus::Identity;
use talaria_core::{
    id::{DeliveryId, EventId},
    time::{after, before},
};
use talaria_proto::{
    time::to_proto,
    v1::{
        AttemptFinished, AttemptStarted, CarriedDelivery, Closed, ControlAction, Delivery, DeliveryMoved,
        DeliveryRef, DeliveryTask, Event, EventCarried, EventPlanned, EventRepeated, EventsForgotten, Job,
        JobSource, JobState, JobsForgotten, NoticesTold, Pause, PauseChanged, QuarantinedCallback, Record,
        ReplayJob, ReplayJobState, RunReported, record::What,
    },
};

pub(in crate::partition) const TENANTS: [&str; 2] = ["acme", "bravo"];
pub(in crate::partition) const ROUTES: [&str; 4] = ["a", "b", "c", "d"];

/// Sequences of events that are never planned begin here.
const UNKNOWN: u64 = 1_000_000;

/// An owner that acts at random.
pub(in crate::partition) struct Driver {
    pub rng: StdRng,
    pub now: Timestamp,
    pub state: State,
    pub(super) model: Model,
    /// The durable commits.
    pub journal: Vec<(u64, Vec<Record>)>,
    pub closed: Option<Vec<Record>>,
    pub open: Vec<Record>,
    /// The number of closed commits.
    pub commits: u64,
    /// The last sequences of both streams.
    pub seq: u64,
    pub event_seq: u64,
}

pub(in crate::partition) fn start() -> Timestamp {
    Timestamp::from_second(1_777_000_000).unwrap()
}

pub(in crate::partition) fn event_id(tenant: &str, job: u32) -> EventId {
    EventId::new(tenant, &format!("job {job}"), "t")
}

pub(in crate::partition) fn event(tenant: &str, job: u32, received_at: Timestamp) -> Event {
    Event {
        id: event_id(tenant, job).to_string(),
        tenant: tenant.into(),
        received_at: Some(to_proto(received_at)),
        payload_sha256: vec![u8::try_from(job % 251).unwrap(); 32].into(),
        ..Event::default()
    }
}

pub(in crate::partition) fn named(task: &DeliveryTask) -> DeliveryRef {
    let DeliveryTask { delivery_id, tenant, route, .. } = task.clone();
    DeliveryRef { id: delivery_id, tenant, route }
}

pub(in crate::partition) fn moved(task: &DeliveryTask, waits: bool) -> What {
    let task_now = waits.then(|| task.clone());
    What::DeliveryMoved(DeliveryMoved {
        delivery: Some(named(task)),
        task: task_now,
        ..DeliveryMoved::default()
    })
}

pub(in crate::partition) fn finished(task: &DeliveryTask, waits: bool) -> What {
    let task_now = waits.then(|| task.clone());
    What::AttemptFinished(AttemptFinished {
        delivery: Some(named(task)),
        task: task_now,
        ..AttemptFinished::default()
    })
}

pub(in crate::partition) fn started(task: &DeliveryTask, paced: bool) -> What {
    let (number, generation) = (task.attempts + 1, task.generation);
    What::AttemptStarted(AttemptStarted { delivery: Some(named(task)), number, generation, paced })
}

impl Driver {
    pub(in crate::partition) fn new(seed: u64) -> Self {
        let mut driver = Self {
            rng: StdRng::seed_from_u64(seed),
            now: start(),
            state: State::default(),
            model: Model::default(),
            journal: Vec::new(),
            closed: None,
            open: Vec::new(),
            commits: 0,
            seq: 0,
            event_seq: 0,
        };
        driver.opened();
        driver
    }

    /// Puts a record into the next commit.
    pub(in crate::partition) fn put(&mut self, event_seq: u64, what: What) {
        let record = Record { at: Some(to_proto(self.now)), event_seq, what: Some(what) };
        self.put_record(record);
    }

    fn put_record(&mut self, record: Record) {
        self.state.apply(&record);
        self.model.apply(self.commits, &record);
        self.open.push(record);
    }

    fn opened(&mut self) {
        let run = self.rng.random_range(1..9);
        let record = self.state.opened(&Identity { relay: "relay".into(), run }, self.now);
        self.put_record(record);
    }

    pub(in crate::partition) fn close(&mut self) {
        if self.closed.is_none() && !self.open.is_empty() {
            self.state.close();
            self.commits += 1;
            self.closed = Some(std::mem::take(&mut self.open));
        }
    }

    pub(in crate::partition) fn commit(&mut self) {
        if let Some(records) = self.closed.take() {
            self.seq += self.rng.random_range(1..4);
            self.state.committed(self.seq);
            self.model.committed(self.commits - 1, self.seq);
            self.journal.push((self.seq, records));
        }
    }

    /// Makes all records durable.
    pub(in crate::partition) fn commit_all(&mut self) {
        for _ in 0..2 {
            self.commit();
            self.close();
        }
        self.commit();
    }

    pub(super) fn rand(&mut self, bound: u64) -> u64 {
        self.rng.random_range(0..bound)
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn name(&mut self) -> (&'static str, &'static str) {
        (TENANTS[self.rng.random_range(0..TENANTS.len())], ROUTES[self.rng.random_range(0..ROUTES.len())])
    }

    /// A time around this one.
    fn around(&mut self, seconds: i64) -> Timestamp {
        let micros = self.rng.random_range(-seconds * 1_000_000..seconds * 1_000_000);
        Timestamp::from_microsecond(self.now.as_microsecond() + micros).unwrap()
    }

    fn some_waiting(&mut self, is_under_way: bool) -> Option<DeliveryTask> {
        let waiting = self.model.waiting.values().filter(|of| of.is_under_way == is_under_way);
        let tasks: Vec<_> = waiting.map(|of| of.task.clone()).collect();
        (!tasks.is_empty()).then(|| tasks[self.rng.random_range(0..tasks.len())].clone())
    }

    /// The task with other values.
    fn otherwise(&mut self, task: &DeliveryTask) -> DeliveryTask {
        let lost = self.chance(3);
        DeliveryTask {
            due_at: Some(to_proto(self.around(600))),
            generation: task.generation + self.rng.random_range(0..2),
            attempts: task.attempts + 1,
            counted_attempts: task.counted_attempts + self.rng.random_range(0..2),
            step: task.step + 1,
            route_faults: self.rng.random_range(0..3),
            lost_attempt: u32::from(lost),
            lost_at: lost.then(|| to_proto(self.now)),
            slot_reserved: self.chance(3),
            age_from: self.chance(3).then(|| to_proto(self.now)),
            unsettled_attempt: self.rng.random_range(0..3),
            ..task.clone()
        }
    }

    /// One random action.
    pub(in crate::partition) fn step(&mut self) {
        let moves = if self.chance(100) { 3 * 86_400 } else { 60 };
        self.now = match self.rng.random_range(0..50) {
            0 => before(self.now, Duration::from_secs(moves)),
            _ => after(self.now, Duration::from_micros(self.rng.random_range(0..moves * 1_000_000))),
        };
        match self.rng.random_range(0..100) {
            0..25 => self.incoming(),
            25..45 => self.attempt(),
            45..55 => self.operate(),
            55..65 => self.route(),
            65..77 => self.keep(),
            77..79 => self.opened(),
            79 => self.put(0, What::Closed(Closed::default())),
            80..82 => self.unknown(),
            82..91 => self.close(),
            _ => self.commit(),
        }
    }

    fn incoming(&mut self) {
        self.event_seq += self.rng.random_range(1..5);
        let (tenant, _) = self.name();
        let job = self.rng.random_range(0..40);
        if self.chance(10) {
            return self.put(self.event_seq, What::CallbackQuarantined(QuarantinedCallback::default()));
        }
        let event = event(tenant, job, self.around(60));
        let what = match self.state.known(event_id(tenant, job)) {
            Some(known) => What::EventRepeated(EventRepeated {
                event_id: event.id,
                first_seq: known.event_seq,
                ..EventRepeated::default()
            }),
            None => {
                let from = self.rng.random_range(0..ROUTES.len());
                let end = self.rng.random_range(from..=ROUTES.len());
                let routes = ROUTES[from..end].iter().map(ToString::to_string).collect();
                What::EventPlanned(EventPlanned { event: Some(event), routes })
            }
        };
        self.put(self.event_seq, what);
    }

    fn attempt(&mut self) {
        if self.chance(2)
            && let Some(task) = self.some_waiting(false)
        {
            let paced = task.route.as_str() < "c";
            self.put(task.event_seq, started(&task, paced));
        } else if let Some(task) = self.some_waiting(true) {
            let (task, waits) = (self.otherwise(&task), self.chance(5));
            self.put(task.event_seq, finished(&task, waits));
        } else if let Some(task) = self.some_waiting(false) {
            let task = DeliveryTask { slot_reserved: true, ..self.otherwise(&task) };
            self.put(task.event_seq, moved(&task, true));
        }
    }

    fn operate(&mut self) {
        let (tenant, route) = self.name();
        match self.rng.random_range(0..7) {
            0 => {
                let route = if self.chance(3) { "" } else { route };
                let since = Some(to_proto(self.now));
                let pause = Pause { tenant: tenant.into(), route: route.into(), since, ..Pause::default() };
                let paused = self.chance(2);
                self.put(0, What::PauseChanged(PauseChanged { pause: Some(pause), paused }));
            }
            1 => {
                let state = [ReplayJobState::Running, ReplayJobState::Done][self.rng.random_range(0..2)];
                let id = format!("rpl_{}", self.rng.random_range(0..3));
                let replayed = self.rng.random_range(0..99);
                let job = ReplayJob { id, state: state.into(), replayed, ..ReplayJob::default() };
                self.put(0, What::ReplayJob(job));
            }
            2 if self.chance(2) => self.notice(tenant),
            2 => self.put(0, What::Acted(ControlAction::default())),
            3 => {
                if let Some(task) = self.some_waiting(false) {
                    self.put(task.event_seq, moved(&task, false));
                }
            }
            4 => self.job(tenant),
            5 => {
                // Of an event that waits, ended, or was forgotten.
                let event_seq = self.rng.random_range(0..=self.event_seq);
                self.put(event_seq, What::RunReported(RunReported::default()));
            }
            _ => self.replay(tenant, route),
        }
    }

    /// A job changes, or old ones are forgotten.
    fn job(&mut self, tenant: &str) {
        if self.chance(4) {
            let older_than = before(self.now, Duration::from_secs(self.rng.random_range(0..600)));
            let job_ids = self.state.forgettable_jobs(older_than);
            return self.put(0, What::JobsForgotten(JobsForgotten { job_ids }));
        }
        let number = self.rng.random_range(0..4);
        let states = [JobState::Running, JobState::Unknown, JobState::Completed, JobState::Stopped];
        let state = states[self.rng.random_range(0..states.len())];
        let job = Job {
            id: format!("job_{tenant}{number}"),
            tenant: tenant.into(),
            state: state.into(),
            openrouter_id: if self.chance(2) { String::new() } else { format!("or-{number}") },
            callback_token: format!("token{tenant}{number}"),
            event_id: if self.chance(2) { String::new() } else { event_id(tenant, number).to_string() },
            changed_at: Some(to_proto(self.now)),
            ..Job::default()
        };
        let soon = Some(to_proto(self.now + Duration::from_secs(30)));
        let job = match state {
            JobState::Running => Job { next_poll_at: soon, give_up_at: soon, ..job },
            JobState::Unknown => Job { give_up_at: soon, ..job },
            _ => Job { ended_at: Some(to_proto(self.now)), source: JobSource::Poll.into(), ..job },
        };
        self.put(0, What::Job(job));
    }

    /// A notice that is published, or left out. It comes back as any event of its id does.
    fn notice(&mut self, tenant: &str) {
        let event = event(tenant, self.rng.random_range(0..40), self.now);
        let is_new = event.id.parse().is_ok_and(|id| self.state.known(id).is_none());
        let told = NoticesTold {
            tenant: tenant.into(),
            r#type: event.r#type.clone(),
            since: Some(to_proto(self.now)),
            told: self.rng.random_range(0..9),
            left_out: self.rng.random_range(0..2),
            event: Some(event).filter(|_| is_new),
        };
        self.put(0, What::NoticesTold(told));
    }

    /// Sends a delivery again that has ended, if there is one.
    fn replay(&mut self, tenant: &str, route: &str) {
        let ours = |id: &EventId| (0..40).any(|job| event_id(tenant, job) == *id);
        let kept: Vec<_> = self.model.events.iter().filter(|event| ours(&event.id)).cloned().collect();
        if kept.is_empty() {
            return;
        }
        let event = &kept[self.rng.random_range(0..kept.len())];
        let delivery = Delivery {
            id: DeliveryId::new(event.id, route).to_string(),
            tenant: tenant.into(),
            route: route.into(),
            received_at: Some(to_proto(event.received_at)),
            generation: 1,
            attempts: 2,
            ..Delivery::default()
        };
        let task = replay::ended(&delivery, event.seq, 5);
        let task = DeliveryTask { due_at: Some(to_proto(self.now)), ..task };
        if self.state.task(super::model::key(event.seq, route)).is_none() {
            self.put(event.seq, moved(&task, true));
        }
    }

    fn route(&mut self) {
        let (tenant, route) = self.name();
        let (until, tries) = (self.around(600), self.rng.random_range(1..5));
        let cause = [Cause::Failures, Cause::Configuration][self.rng.random_range(0..2)];
        let shut = self.chance(2).then(|| Shut { until, cause, tries, why: "500".into() });
        self.put(0, What::RouteChanged(route_changed(tenant, route, shut.as_ref())));
    }

    fn keep(&mut self) {
        let older_than = self.around(7_200);
        if self.chance(2) {
            if let Some(before) = self.state.forgettable(older_than) {
                self.put(0, What::EventsForgotten(EventsForgotten { before }));
            }
            return;
        }
        let max = self.rng.random_range(1..4);
        for event_seq in self.state.to_carry(older_than, max) {
            let tasks = self.state.carried(event_seq).unwrap();
            let kept = self.model.event(event_seq).unwrap().clone();
            if kept.is_orphan {
                continue;
            }
            let job = |tenant: &str| (0..40).find(|job| event_id(tenant, *job) == kept.id);
            let (tenant, job) = TENANTS.iter().find_map(|tenant| Some((tenant, job(tenant)?))).unwrap();
            let waiting = tasks.into_iter();
            let waiting =
                waiting.map(|task| CarriedDelivery { task: Some(task), ..CarriedDelivery::default() });
            let carried = EventCarried {
                event: Some(event(tenant, job, kept.received_at)),
                waiting: waiting.collect(),
                done: Vec::new(),
            };
            self.put(event_seq, What::EventCarried(carried));
        }
    }

    /// Records about unknown events.
    fn unknown(&mut self) {
        let (tenant, route) = self.name();
        // An event is of one tenant.
        let event_seq = UNKNOWN + self.rand(4) * 2 + u64::from(tenant == TENANTS[0]);
        let task = DeliveryTask {
            delivery_id: DeliveryId::new(event_id(tenant, 1_000), route).to_string(),
            event_seq,
            tenant: tenant.into(),
            route: route.into(),
            due_at: Some(to_proto(self.now)),
            received_at: Some(to_proto(start())),
            ..DeliveryTask::default()
        };
        let what = match self.rng.random_range(0..5) {
            0 => started(&task, true),
            1 => started(&task, false),
            2 => finished(&task, true),
            3 => finished(&task, false),
            _ => moved(&task, false),
        };
        self.put(event_seq, what);
    }

    /// All deliveries that there may be.
    pub(super) fn keys(&self) -> Vec<DeliveryKey> {
        let events = (1..=self.event_seq).chain(UNKNOWN..UNKNOWN + 8);
        events.flat_map(|seq| ROUTES.map(|route| super::model::key(seq, route))).collect()
    }
}
