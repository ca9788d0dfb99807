//! The state of a partition, in memory: waiting deliveries, kept events, and the memory of its routes.
//!
//! It is computed from the records of the partition's journal and from nothing else. The owner applies a record when it puts
//! it into the next commit; a new owner applies the records of the journal. Both get the same state:
//!
//! 1. A record holds absolute values, so applying it twice changes nothing.
//! 2. The order of the records counts, and never their times. An `Opened` that is earlier than the record before it sets
//!    the clock back: waiting deliveries are due earlier by the same time.
//! 3. A record about an event whose base record is missing is applied if it holds a whole task, else ignored.
//! 4. A journal that was trimmed to [`State::floors`] gives the same state, also if the owner dies at any time.
//!
//! A backlog may be a million deliveries. A waiting delivery takes at most 300 bytes, with its event and all indices.

mod apply;
mod clock;
mod commits;
#[cfg(test)]
mod compare;
mod event_set;
mod jobs;
mod keeping;
mod kept;
mod lanes;
mod notices;
mod opened;
mod pauses;
mod slab;
mod starts;
pub(super) mod time;
mod waiting;

pub(crate) use lanes::{Lane, LaneId};
pub(crate) use notices::Notices;
pub(crate) use opened::route_changed;

use crate::{
    decisions::{
        breaker::Shut,
        pace::Priority,
        pause::{self, Pauses},
    },
    delivery_key::DeliveryKey,
};
use commits::Commits;
use jiff::Timestamp;
use jobs::Jobs;
use kept::{Kept, KeptEvents};
use lanes::{LaneState, Lanes};
use pauses::Paused;
use slab::{Ix, Slab};
use std::{collections::BTreeMap, iter};
use talaria_core::id::EventId;
use talaria_proto::v1::{DeliveryTask, Event, Job, Pause, ReplayJob};
use time::{nanos, timestamp};
use waiting::Waiting;

/// The state of a partition.
#[derive(Clone, Default)]
pub(crate) struct State {
    planned_through: u64,
    kept: KeptEvents,
    waiting: Slab<Waiting>,
    lanes: Lanes,
    paused: Paused,
    /// The replay jobs that run, by id.
    replays: BTreeMap<String, ReplayJob>,
    /// At OpenRouter.
    jobs: Jobs,
    notices: Notices,
    /// The relay and its run.
    owner: Option<(String, u64)>,
    opened_at: Option<u64>,
    /// The time of the last record.
    last_at: i64,
    commits: Commits,
}

/// A kept event, as far as its repetitions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Sequence of the first callback for the event.
    pub event_seq: u64,
    /// See [`digest`].
    pub digest: u64,
}

/// Where the payload of an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// In the events stream, at this sequence.
    Event(u64),
    /// In the journal: in `EventCarried` of the commit at this sequence.
    Carried(u64),
}

/// The memory of a lane's route, from which its admission is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// When requests went out in the last two hours, if the route has a pace.
    pub sent: Vec<Timestamp>,
    /// Slots that are reserved by waiting deliveries.
    pub reserved: Vec<(Timestamp, Priority)>,
    /// The breaker, if it shut the route.
    pub shut: Option<Shut>,
}

/// The first eight bytes of a payload's SHA-256, to tell a repetition from a conflict.
pub(crate) fn digest(payload_sha256: &[u8]) -> u64 {
    payload_sha256.iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte))
}

impl State {
    /// The highest sequence of an event that was planned, repeated or quarantined.
    pub(crate) fn planned_through(&self) -> u64 {
        self.planned_through
    }

    /// The event with this id, if it is kept.
    pub(crate) fn known(&self, id: EventId) -> Option<Known> {
        self.kept.by_id(id).map(|kept| Known { event_seq: kept.event_seq, digest: kept.digest })
    }

    /// Where the payload of an event is. While its `EventCarried` is not durable, the payload is where it was before.
    pub(crate) fn payload(&self, event_seq: u64) -> Payload {
        let carried = self.kept.by_seq(event_seq).filter(|kept| kept.is_carried);
        let carried = carried.and_then(|kept| match kept.base.seq() {
            Some(seq) => Some(Payload::Carried(seq)),
            None => self.commits.payload(event_seq),
        });
        carried.unwrap_or(Payload::Event(event_seq))
    }

    /// A waiting delivery, under way or not.
    pub(crate) fn task(&self, key: DeliveryKey) -> Option<DeliveryTask> {
        let (kept, waiting) = self.find(key)?;
        self.task_of(kept, waiting)
    }

    /// Whether a delivery of an event waits, under way or not.
    pub(crate) fn waits(&self, event_seq: u64) -> bool {
        self.kept.by_seq(event_seq).is_some_and(Kept::waits)
    }

    /// How many attempts were started and have not ended.
    pub(crate) fn under_way_count(&self) -> usize {
        self.lanes.iter().map(|lane| lane.under_way.len()).sum()
    }

    /// Whether an attempt of a delivery was started and has not ended.
    pub(crate) fn is_under_way(&self, key: DeliveryKey) -> bool {
        self.find(key).is_some_and(|(_, waiting)| waiting.is_under_way)
    }

    /// The deliveries that are under way, in order.
    pub(crate) fn under_way(&self) -> Vec<DeliveryKey> {
        let keys = |lane: &LaneState| {
            let route = lane.key.to_i64();
            lane.under_way
                .iter()
                .map(move |event_seq| DeliveryKey { event_seq: *event_seq, route })
                .collect::<Vec<_>>()
        };
        let mut keys: Vec<DeliveryKey> = self.lanes.iter().flat_map(keys).collect();
        keys.sort_unstable();
        keys
    }

    /// The waiting deliveries of an event, under way or not.
    pub(crate) fn deliveries_of(&self, event: EventId) -> Vec<DeliveryKey> {
        let Some(kept) = self.kept.by_id(event) else { return Vec::new() };
        let key = |(_, waiting): (Ix, &Waiting)| {
            let route = self.lanes.get(waiting.lane)?.key.to_i64();
            Some(DeliveryKey { event_seq: kept.event_seq, route })
        };
        self.of_event(kept).filter_map(key).collect()
    }

    /// The lane of a waiting delivery.
    pub(crate) fn lane_of(&self, key: DeliveryKey) -> Option<LaneId> {
        self.find(key).map(|(_, waiting)| waiting.lane)
    }

    /// The names of a lane. They are empty if the number is not from this state.
    pub(crate) fn lane(&self, id: LaneId) -> Lane {
        let unknown = || Lane { tenant: "".into(), route: "".into() };
        self.lanes.get(id).map_or_else(unknown, |lane| lane.lane.clone())
    }

    /// The lane of a route that was in a record.
    pub(crate) fn lane_id(&self, tenant: &str, route: &str) -> Option<LaneId> {
        self.lanes.find(tenant, route)
    }

    /// All lanes that were in a record, also those without waiting deliveries.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.lanes.ids()
    }

    /// The number of waiting deliveries of a lane, including those under way.
    pub(crate) fn waiting(&self, lane: LaneId) -> usize {
        self.lanes.get(lane).map_or(0, |lane| lane.due.len() + lane.under_way.len())
    }

    /// The number of deliveries of a lane that are under way.
    pub(crate) fn under_way_in(&self, lane: LaneId) -> usize {
        self.lanes.get(lane).map_or(0, |lane| lane.under_way.len())
    }

    /// The number of deliveries of a lane that are due and not under way; `most` if there are more. Takes as long as counting.
    pub(crate) fn due_count(&self, lane: LaneId, now: Timestamp, most: usize) -> usize {
        self.due(lane, now).take(most).count()
    }

    /// The deliveries of a lane that are due and not under way, the longest due first.
    pub(crate) fn due(&self, lane: LaneId, now: Timestamp) -> impl Iterator<Item = DeliveryKey> {
        let last = (nanos(now), u64::MAX);
        self.lanes.get(lane).into_iter().flat_map(move |lane| {
            let route = lane.key.to_i64();
            lane.due.range(..=last).map(move |(_, event_seq)| DeliveryKey { event_seq: *event_seq, route })
        })
    }

    /// When the first delivery of a lane is due that is not under way.
    pub(crate) fn first_due(&self, lane: LaneId) -> Option<Timestamp> {
        self.lanes.get(lane)?.due.first().map(|(due, _)| timestamp(*due))
    }

    /// When the event of a lane's oldest delivery was received; the oldest is the one with the lowest event sequence.
    pub(crate) fn oldest(&self, lane: LaneId) -> Option<Timestamp> {
        let oldest = self.kept.by_seq(self.lanes.get(lane)?.events.first()?)?;
        Some(timestamp(oldest.received_at))
    }

    /// Whether the breaker shut a lane's route.
    pub(crate) fn is_shut(&self, lane: LaneId) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.shut.is_some())
    }

    /// The memory of a lane's route. Reads each delivery of the lane if any of them has a reserved slot.
    pub(crate) fn memory(&self, lane: LaneId) -> Memory {
        let Some(state) = self.lanes.get(lane) else { return Memory::default() };
        let mut memory = Memory { sent: state.starts.all(), reserved: Vec::new(), shut: state.shut.clone() };
        if state.reserved > 0 {
            let waiting = state.due.iter().filter_map(|(_, event_seq)| {
                let (_, waiting) =
                    self.of_event(self.kept.by_seq(*event_seq)?).find(|(_, of)| of.lane == lane)?;
                Some(waiting)
            });
            let reserved = waiting.filter(|waiting| waiting.slot_reserved);
            memory.reserved = reserved.map(|waiting| (timestamp(waiting.due), waiting.priority())).collect();
        }
        memory
    }

    pub(crate) fn pauses(&self) -> &Pauses {
        &self.paused.pauses
    }

    /// The pauses whose time is over.
    pub(crate) fn pauses_over(&self, now: Timestamp) -> Vec<Pause> {
        self.paused.current().filter(|pause| pause::is_over(pause, now)).cloned().collect()
    }

    /// The pause of this route alone; with an empty route, the tenant's.
    #[cfg(test)]
    pub(crate) fn paused(&self, tenant: &str, route: &str) -> Option<&Pause> {
        self.paused.of(tenant, route)
    }

    /// The replay jobs that run.
    pub(crate) fn replays(&self) -> impl Iterator<Item = &ReplayJob> {
        self.replays.values()
    }

    pub(crate) fn notices(&self) -> &Notices {
        &self.notices
    }

    /// A job at OpenRouter, by its id.
    pub(crate) fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// The job of a tenant with this id at OpenRouter.
    pub(crate) fn job_at_openrouter(&self, tenant: &str, openrouter_id: &str) -> Option<&Job> {
        self.jobs.at_openrouter(tenant, openrouter_id)
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.all()
    }

    /// The job of an event: by the path of its callback, else by the job's id at OpenRouter.
    pub(crate) fn job_of(&self, event: &Event) -> Option<&Job> {
        self.jobs.of_event(event)
    }

    /// The job that the event of a delivery ended.
    pub(crate) fn job_ended_by(&self, event: EventId) -> Option<&Job> {
        self.jobs.ended_by(event)
    }

    /// The jobs that need something without a message from outside.
    pub(crate) fn due_jobs(&self, now: Timestamp) -> impl Iterator<Item = &Job> {
        self.jobs.due(now)
    }

    /// When the first job is due that `is_waiting` allows.
    pub(crate) fn next_due_job(&self, is_waiting: impl Fn(&Job) -> bool) -> Option<Timestamp> {
        self.jobs.next_due(is_waiting).map(timestamp)
    }

    /// Sequence of the durable commit with the last `Opened`.
    #[cfg(test)]
    pub(crate) fn opened_at(&self) -> Option<u64> {
        self.opened_at
    }

    /// The relay that opened the partition last, and its run; `None` after it closed the partition.
    pub(crate) fn owner(&self) -> Option<(&str, u64)> {
        self.owner.as_ref().map(|(relay, run)| (relay.as_str(), *run))
    }

    /// The lanes whose due times or number under way changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<LaneId> {
        self.lanes.take_changed()
    }

    fn task_of(&self, kept: &Kept, waiting: &Waiting) -> Option<DeliveryTask> {
        let LaneState { lane, key, .. } = self.lanes.get(waiting.lane)?;
        Some(waiting.to_task(kept, *key, &lane.tenant, &lane.route))
    }

    /// The waiting deliveries of an event.
    fn of_event(&self, kept: &Kept) -> impl Iterator<Item = (Ix, &Waiting)> {
        let at = |ix: Ix| self.waiting.get(ix).map(|waiting| (ix, waiting));
        iter::successors(at(kept.first), move |(_, waiting)| at(waiting.next))
    }

    fn find(&self, key: DeliveryKey) -> Option<(&Kept, &Waiting)> {
        let kept = self.kept.by_seq(key.event_seq)?;
        let is_it = |waiting: &Waiting| {
            self.lanes.get(waiting.lane).is_some_and(|lane| lane.key.to_i64() == key.route)
        };
        self.of_event(kept).find(|(_, waiting)| is_it(waiting)).map(|(_, waiting)| (kept, waiting))
    }
}

#[cfg(test)]
pub(super) mod tests;
