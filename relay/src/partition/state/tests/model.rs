//! A simple and slow model of the state.

use super::super::{Memory, Payload, digest};
use crate::{
    decisions::{
        admission::priority,
        breaker::{Cause, Shut},
    },
    delivery_key::DeliveryKey,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};
use talaria_core::{
    id::{DeliveryId, EventId, RouteKey},
    time::{before, since},
};
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{
        BreakerCause, DeliveryTask, EventCarried, Job, Opened, PauseChanged, Record, ReplayJob,
        ReplayJobState, RouteChanged, record::What,
    },
};

pub(super) type Name = (String, String);

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub id: EventId,
    pub seq: u64,
    pub digest: u64,
    /// The number of the commit with the base record, and its sequence once it is known.
    pub commit: u64,
    pub base: Option<u64>,
    pub base_at: Timestamp,
    pub last_at: Timestamp,
    pub received_at: Timestamp,
    /// Where the payload is by the durable records, and by all records.
    pub payload: [Payload; 2],
    pub is_orphan: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub task: DeliveryTask,
    pub is_under_way: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    pub sent: Vec<Timestamp>,
    pub shut: Option<Shut>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub planned_through: u64,
    /// In the order of base records.
    pub events: Vec<Event>,
    pub waiting: BTreeMap<DeliveryKey, Delivery>,
    pub routes: BTreeMap<Name, Route>,
    pub pauses: BTreeMap<Name, PauseChanged>,
    pub replays: BTreeMap<String, ReplayJob>,
    pub jobs: BTreeMap<String, Job>,
    pub owner: Option<(String, u64)>,
    pub last_at: Option<Timestamp>,
}

impl Model {
    pub(super) fn event(&mut self, seq: u64) -> Option<&mut Event> {
        self.events.iter_mut().find(|event| event.seq == seq)
    }

    pub(super) fn waits(&self, seq: u64) -> bool {
        self.waiting.keys().any(|key| key.event_seq == seq)
    }

    pub(super) fn of<'a>(&'a self, tenant: &'a str, route: &'a str) -> impl Iterator<Item = &'a Delivery> {
        self.waiting.values().filter(move |of| of.task.tenant == tenant && of.task.route == route)
    }

    pub(super) fn memory(&self, tenant: &str, route: &str) -> Memory {
        let of_route = self.routes.get(&(tenant.into(), route.into())).cloned().unwrap_or_default();
        let waits = |of: &&Delivery| of.task.slot_reserved && !of.is_under_way;
        let slot = |of: &Delivery| (from_proto(of.task.due_at.as_ref()), priority(&of.task));
        let mut reserved: Vec<_> = self.of(tenant, route).filter(waits).map(slot).collect();
        reserved.sort_by_key(|(slot, _)| *slot);
        Memory { sent: of_route.sent, reserved, shut: of_route.shut }
    }

    pub(super) fn committed(&mut self, commit: u64, seq: u64) {
        for event in self.events.iter_mut().filter(|event| event.commit == commit) {
            event.base = Some(seq);
            if matches!(event.payload[1], Payload::Carried(_)) {
                event.payload = [Payload::Carried(seq); 2];
            }
        }
    }

    pub(super) fn apply(&mut self, commit: u64, record: &Record) {
        let (at, seq) = (from_proto(record.at.as_ref()), record.event_seq);
        self.change(commit, record, at, seq);
        self.last_at = Some(at);
    }

    fn change(&mut self, commit: u64, record: &Record, at: Timestamp, seq: u64) {
        if let Some(event) = self.event(seq) {
            event.last_at = at;
        }
        let event = |id, received_at: Option<&_>| Event {
            id,
            seq,
            digest: 0,
            commit,
            base: None,
            base_at: at,
            last_at: at,
            received_at: from_proto(received_at),
            payload: [Payload::Event(seq); 2],
            is_orphan: false,
        };
        match record.what.clone().unwrap() {
            What::Opened(opened) => self.open(opened, at),
            What::Closed(_) => self.owner = None,
            What::EventPlanned(planned) => {
                self.planned_through = self.planned_through.max(seq);
                if self.event(seq).is_some() {
                    return;
                }
                let of = planned.event.unwrap();
                let id: EventId = of.id.parse().unwrap();
                let digest = digest(&of.payload_sha256);
                self.events.push(Event { digest, ..event(id, of.received_at.as_ref()) });
                for route in planned.routes {
                    let delivery = DeliveryId::new(id, &route);
                    let task = DeliveryTask {
                        delivery_id: delivery.to_string(),
                        event_seq: seq,
                        tenant: of.tenant.clone(),
                        route,
                        due_at: record.at,
                        received_at: of.received_at,
                        generation: 1,
                        ..DeliveryTask::default()
                    };
                    let key = DeliveryKey { event_seq: seq, route: delivery.route.to_i64() };
                    self.waiting.insert(key, Delivery { task, is_under_way: false });
                }
            }
            What::EventRepeated(_) | What::CallbackQuarantined(_) => {
                self.planned_through = self.planned_through.max(seq);
            }
            What::AttemptStarted(started) => {
                let delivery = started.delivery.unwrap();
                let waiting = self.waiting.get_mut(&key(seq, &delivery.route));
                let was_under_way = waiting.is_some_and(|of| std::mem::replace(&mut of.is_under_way, true));
                if started.paced && !was_under_way {
                    let route = self.routes.entry((delivery.tenant, delivery.route)).or_default();
                    route.sent.push(at);
                    let hours = Duration::from_secs(7_200);
                    while since(at, route.sent[0]).max(since(route.sent[0], at)) > hours {
                        route.sent.remove(0);
                    }
                }
            }
            What::AttemptFinished(finished) => {
                let name = finished.delivery.map(|delivery| delivery.route);
                self.conclude(seq, name, finished.task, event);
            }
            What::DeliveryMoved(moved) => {
                let name = moved.delivery.map(|delivery| delivery.route);
                self.conclude(seq, name, moved.task, event);
            }
            What::EventCarried(carried) => {
                let of = carried.event.clone().unwrap();
                let new = event(of.id.parse().unwrap(), of.received_at.as_ref());
                self.carry(Event { digest: digest(&of.payload_sha256), ..new }, carried);
            }
            What::RouteChanged(changed) => {
                let name = (changed.tenant.clone(), changed.route.clone());
                self.routes.entry(name).or_default().shut = shut(&changed);
            }
            What::PauseChanged(changed) => self.pause(changed),
            What::Acted(_) | What::NoticesTold(_) | What::RunReported(_) => {}
            What::ReplayJob(job) if job.state() == ReplayJobState::Running => {
                self.replays.insert(job.id.clone(), job);
            }
            What::ReplayJob(job) => {
                self.replays.remove(&job.id);
            }
            What::Job(job) => {
                self.jobs.insert(job.id.clone(), job);
            }
            What::JobsForgotten(forgotten) => {
                self.jobs.retain(|id, _| !forgotten.job_ids.contains(id));
            }
            What::EventsForgotten(forgotten) => {
                let waiting: Vec<u64> = self.waiting.keys().map(|key| key.event_seq).collect();
                let is_kept = |event: &Event| event.base.is_none_or(|base| base >= forgotten.before);
                self.events.retain(|event| is_kept(event) || waiting.contains(&event.seq));
            }
        }
    }

    fn behind(&self, now: Timestamp) -> Duration {
        let behind = self.last_at.map_or(Duration::ZERO, |last| since(last, now));
        if behind < Duration::from_secs(1) { Duration::ZERO } else { behind }
    }

    fn open(&mut self, opened: Opened, at: Timestamp) {
        let behind = self.behind(at);
        if !behind.is_zero() {
            for of in self.waiting.values_mut() {
                let due = before(from_proto(of.task.due_at.as_ref()), behind);
                of.task.due_at = Some(to_proto(due));
            }
            for job in self.jobs.values_mut() {
                let ended = job.ended_at.as_mut().filter(|_| job.give_up_at.is_none());
                for at in job.next_poll_at.iter_mut().chain(&mut job.give_up_at).chain(ended) {
                    *at = to_proto(before(from_proto(Some(at)), behind));
                }
            }
        }
        self.owner = Some((opened.relay, opened.run));
        self.planned_through = self.planned_through.max(opened.planned_through);
        self.pauses.clear();
        opened.pauses.into_iter().for_each(|changed| self.pause(changed));
        self.replays = opened.jobs.into_iter().map(|job| (job.id.clone(), job)).collect();
        self.routes.clear();
        for memory in opened.routes {
            let sent = memory.sent.iter().map(|sent| from_proto(Some(sent))).collect();
            let shut = memory.shut.as_ref().and_then(shut);
            self.routes.insert((memory.tenant, memory.route), Route { sent, shut });
        }
    }

    fn carry(&mut self, mut new: Event, carried: EventCarried) {
        let seq = new.seq;
        let old = self.events.iter().position(|event| event.seq == seq);
        let from = old.map_or(Payload::Event(seq), |old| self.events.remove(old).payload[0]);
        new.payload = [from, Payload::Carried(0)];
        self.events.push(new);
        let before = self.waiting.clone();
        self.waiting.retain(|key, of| key.event_seq != seq || of.is_under_way);
        for task in carried.waiting.into_iter().map(|waiting| waiting.task.unwrap()) {
            let key = key(seq, &task.route);
            let is_under_way = before.get(&key).is_some_and(|of| of.is_under_way);
            self.waiting.insert(key, Delivery { task, is_under_way });
        }
    }

    fn pause(&mut self, changed: PauseChanged) {
        let pause = changed.pause.as_ref().unwrap();
        self.pauses.insert((pause.tenant.clone(), pause.route.clone()), changed);
    }

    fn conclude(
        &mut self,
        seq: u64,
        route: Option<String>,
        task: Option<DeliveryTask>,
        event: impl Fn(EventId, Option<&prost_types::Timestamp>) -> Event,
    ) {
        match task {
            Some(task) => {
                if self.event(seq).is_none() {
                    let id: DeliveryId = task.delivery_id.parse().unwrap();
                    let orphan = event(id.event, task.received_at.as_ref());
                    self.events.push(Event { is_orphan: true, ..orphan });
                }
                let key = key(seq, &task.route);
                self.waiting.insert(key, Delivery { task, is_under_way: false });
            }
            None => {
                self.waiting.remove(&key(seq, &route.unwrap()));
                let waits = self.waits(seq);
                self.events.retain(|event| event.seq != seq || !event.is_orphan || waits);
            }
        }
    }

    pub(super) fn forgettable(&self, older_than: Timestamp) -> Option<u64> {
        let bases: Vec<u64> = self.events.iter().filter_map(|event| event.base).collect();
        let stays =
            |event: &&Event| event.base.is_some() && (self.waits(event.seq) || event.last_at >= older_than);
        let end = match self.events.iter().find(stays) {
            Some(event) => event.base?,
            None => bases.iter().max()? + 1,
        };
        bases.iter().any(|base| *base < end).then_some(end)
    }

    pub(super) fn to_carry(&self, older_than: Timestamp, max: usize) -> Vec<u64> {
        let rests = |event: &&Event| {
            let mut of_event = self.waiting.iter().filter(|(key, _)| key.event_seq == event.seq).peekable();
            of_event.peek().is_some() && of_event.all(|(_, of)| !of.is_under_way)
        };
        let is_old = self.events.iter().take_while(|event| event.base_at < older_than);
        is_old.filter(|event| event.base.is_some()).filter(rests).map(|event| event.seq).take(max).collect()
    }

    pub(super) fn recent(&self, now: Timestamp) -> BTreeMap<&Name, Vec<Timestamp>> {
        let behind = self.behind(now);
        let since = before(now, Duration::from_secs(7_200));
        let mut recent = BTreeMap::new();
        for (name, route) in &self.routes {
            let sent = route.sent.iter().map(|sent| before(*sent, behind));
            let mut sent: Vec<_> = sent.filter(|sent| *sent >= since).collect();
            sent.sort_unstable();
            recent.insert(name, sent);
        }
        recent
    }
}

pub(super) fn key(event_seq: u64, route: &str) -> DeliveryKey {
    DeliveryKey { event_seq, route: RouteKey::new(route).to_i64() }
}

fn shut(changed: &RouteChanged) -> Option<Shut> {
    let until = from_proto(Some(changed.held_until.as_ref()?));
    let cause = match changed.cause() {
        BreakerCause::Failures => Cause::Failures,
        _ => Cause::Configuration,
    };
    Some(Shut { until, cause, tries: changed.tries, why: changed.held_because.clone() })
}
