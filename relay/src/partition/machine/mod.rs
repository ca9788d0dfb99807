//! What the owner of a partition decides: inputs in, records and actions out. Pure: time and chance are arguments.
//!
//! A record is applied to the state when it is put into the next commit. What leaves the process (a request to Hermes, an
//! answer to an operator) is an [`Action`], and is done after that commit is durable. An append ends as durable or with the
//! loss of the partition, and then the machine is dropped; so nothing is ever rolled back.
//!
//! Invariants:
//!
//! 1. An event id that is kept is planned once.
//! 2. An attempt's [`Action::Attempt`] comes with the commit that holds its `AttemptStarted`.
//! 3. A delivery has at most one attempt under way.
//! 4. The records of one input are in one commit.
//!
//! Here is what makes commits, and the plan of events. [`attempts`]: from a delivery that is due to what follows its attempt.
//! [`windows`]: how many may be under way. [`commands`]: what operators ask for. [`keeping`]: what the retention and the
//! clock ask for.

mod attempts;
mod commands;
mod keeping;
mod windows;

pub(crate) use keeping::Keeping;

use super::{
    agenda::Agenda,
    handle::{Done, Key, LaneGauges, PartitionGauges},
    state::{LaneId, Payload, State},
};
use crate::decisions::{admission::Admission, classify::Verdict, plan::plan, step::Sent};
use jiff::Timestamp;
use prost::Message as _;
use std::{collections::HashMap, mem, sync::Arc};
use talaria_bus::{Floors, Identity, Incoming, Partition, Stored};
use talaria_core::{
    config::{Config, Route},
    id::{DeliveryId, EventId},
};
use talaria_proto::{
    time::to_proto,
    v1::{Closed, Commit, DeliveryTask, Event, EventConflict, EventRepeated, Record, record::What},
};
use tokio::sync::oneshot;

/// What an input may add to a commit beside the bytes that it brings: texts in records are bounded.
const ROOM: usize = 64 * 1024;

/// The most bytes of a commit that gathers several inputs. A single input may have more, up to what the bus takes.
const GATHERED: usize = 512 * 1024;

/// An attempt that is to be made.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub key: Key,
    pub task: DeliveryTask,
    pub id: DeliveryId,
    pub route: Arc<Route>,
    /// Where the event's payload is.
    pub payload: Payload,
    /// Which of the route's secrets signs the request.
    pub secret: usize,
    /// When it was admitted.
    pub admitted: Timestamp,
    /// The request goes out then, and not before.
    pub not_before: Option<Timestamp>,
}

/// What is to be done once the records before it are durable.
pub(crate) enum Action {
    /// Sends a request.
    Attempt(Box<Attempt>),
    /// Answers a command; the sequence of the commit is the answer.
    Reply(oneshot::Sender<Done>),
}

/// What became of what came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    /// It has deliveries.
    ForRoutes,
    /// No route wants it.
    ForNone,
    /// The event came before.
    Repeated,
    /// The event came before with another body.
    Conflict,
    /// It is no event, or was planned before.
    Nothing,
}

/// How an attempt came to its end.
pub(crate) enum Outcome {
    /// A request was sent, or could not be.
    Sent(Box<Sent>),
    /// There is no request to send.
    NotSent(String),
}

/// What an ended attempt came to, for logs and metrics.
pub(crate) struct Account {
    pub task: DeliveryTask,
    /// `None` where no request was sent.
    pub verdict: Option<Verdict>,
    /// The state that the delivery ended in; `None` while it waits.
    pub ended: Option<talaria_proto::v1::DeliveryState>,
}

/// What is known of a route while its deliveries go out.
struct InForce {
    route: Arc<Route>,
    admission: Admission,
}

/// The machine of one partition.
pub(crate) struct Machine {
    partition: Partition,
    identity: Identity,
    state: State,
    agenda: Agenda,
    config: Arc<Config>,
    routes: HashMap<LaneId, InForce>,
    /// Lanes whose window was set by the configuration in force.
    known_lanes: usize,
    /// Of the commit that is being built.
    records: Vec<Record>,
    actions: Vec<Action>,
    /// Their size in bytes, about.
    size: usize,
    /// The most bytes that a commit may have.
    largest: usize,
    /// When the small state was last repeated in the journal.
    opened_at: Timestamp,
    /// Whether the wall clock is believed: nothing is parked by its age or forgotten while it is not.
    is_clock_settled: bool,
    /// Nothing new is begun.
    is_draining: bool,
}

impl Machine {
    /// Takes a partition over whose journal was replayed into `state`. The first commit says so, and that what was under
    /// way was interrupted.
    pub(crate) fn open(
        partition: Partition,
        identity: Identity,
        state: State,
        config: Arc<Config>,
        largest: usize,
        now: Timestamp,
    ) -> Self {
        let mut machine = Self {
            partition,
            identity,
            state,
            agenda: Agenda::default(),
            config,
            routes: HashMap::new(),
            known_lanes: 0,
            records: Vec::new(),
            actions: Vec::new(),
            size: 0,
            largest,
            opened_at: now,
            is_clock_settled: true,
            is_draining: false,
        };
        machine.renew(0, now);
        machine.set_windows();
        machine
    }

    /// Whether there is something to append.
    pub(crate) fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Whether something waits for the next commit to be durable.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Whether another input of this size has to wait for the next commit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.records.is_empty() || self.size + bytes + ROOM <= GATHERED.min(self.largest)
    }

    /// The next commit, and what is to be done once it is durable.
    pub(crate) fn take_commit(&mut self) -> (Commit, Vec<Action>) {
        self.state.close();
        self.size = 0;
        (Commit { records: mem::take(&mut self.records) }, mem::take(&mut self.actions))
    }

    /// The commit that was taken last is durable.
    pub(crate) fn committed(&mut self, seq: u64) {
        self.state.committed(seq);
    }

    fn push(&mut self, record: Record) {
        self.size += record.encoded_len() + 8;
        self.state.apply(&record);
        self.records.push(record);
    }

    fn push_what(&mut self, now: Timestamp, event_seq: u64, what: What) {
        self.push(Record { at: Some(to_proto(now)), event_seq, what: Some(what) });
    }

    /// Plans what came in. What was planned before is passed over.
    pub(crate) fn event(&mut self, stored: &Stored, now: Timestamp) -> Planned {
        if stored.seq <= self.state.planned_through() {
            return Planned::Nothing;
        }
        match &stored.what {
            Incoming::Event(event) => self.plan(stored.seq, event, now),
            Incoming::Quarantined(callback) => {
                self.push_what(now, stored.seq, What::CallbackQuarantined((**callback).clone()));
                Planned::Nothing
            }
            Incoming::Unreadable => Planned::Nothing,
        }
    }

    fn plan(&mut self, seq: u64, event: &Event, now: Timestamp) -> Planned {
        let Ok(id) = event.id.parse::<EventId>() else {
            tracing::error!(seq, partition = %self.partition, "event without a valid id passed over");
            return Planned::Nothing;
        };
        let Some(known) = self.state.known(id) else {
            let tenant = self.config.tenants.get(&event.tenant).map(AsRef::as_ref);
            let record = plan(seq, event, tenant, now);
            let has_routes =
                matches!(&record.what, Some(What::EventPlanned(planned)) if !planned.routes.is_empty());
            self.push(record);
            return if has_routes { Planned::ForRoutes } else { Planned::ForNone };
        };
        let is_conflict = known.digest != super::state::digest(&event.payload_sha256);
        let conflict = is_conflict.then(|| {
            let fits = event.payload.len() + ROOM <= self.largest;
            EventConflict {
                event_id: event.id.clone(),
                received_at: event.received_at,
                payload_sha256: event.payload_sha256.clone(),
                payload: if fits { event.payload.clone() } else { bytes::Bytes::new() },
            }
        });
        let repeated = EventRepeated {
            event_id: event.id.clone(),
            first_seq: known.event_seq,
            received_at: event.received_at,
            conflict,
        };
        self.push_what(now, seq, What::EventRepeated(repeated));
        if is_conflict { Planned::Conflict } else { Planned::Repeated }
    }

    fn task(&self, key: Key) -> Option<(DeliveryTask, DeliveryId)> {
        let task = self.state.task(key)?;
        let id = task.delivery_id.parse().ok()?;
        Some((task, id))
    }

    fn configured(&self, task: &DeliveryTask) -> Option<Arc<Route>> {
        self.config.route(&task.tenant, &task.route).map(Arc::clone)
    }

    /// From when on the delivery's age counts; while the clock is not believed, it has none.
    fn age_from(&self, task: &DeliveryTask, now: Timestamp) -> Timestamp {
        if self.is_clock_settled { self.state.pauses().age_from(task) } else { now }
    }

    /// Begins nothing new from here on.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether nothing is under way and nothing is to be appended.
    pub(crate) fn is_idle(&self) -> bool {
        self.records.is_empty() && self.state.under_way_count() == 0
    }

    /// Gives the partition up in order.
    pub(crate) fn close(&mut self, now: Timestamp) {
        let Identity { relay, run } = self.identity.clone();
        self.push_what(now, 0, What::Closed(Closed { relay, run }));
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn floors(&self) -> Floors {
        self.state.floors()
    }

    pub(crate) fn planned_through(&self) -> u64 {
        self.state.planned_through()
    }

    pub(crate) fn jobs(&self) -> Vec<talaria_proto::v1::ReplayJob> {
        self.state.jobs().cloned().collect()
    }

    pub(crate) fn gauges(&self, now: Timestamp) -> PartitionGauges {
        let lanes = self.state.lanes().map(|id| {
            let lane = self.state.lane(id);
            LaneGauges {
                waiting: self.state.waiting(id) as u64,
                due: self.state.due_count(id, now, MOST_DUE) as u64,
                oldest: self.state.oldest(id),
                is_shut: self.state.is_shut(id),
                is_paused: self.state.pauses().hold(&lane.tenant, &lane.route),
                tenant: lane.tenant,
                route: lane.route,
            }
        });
        PartitionGauges {
            lanes: lanes.collect(),
            planned_through: self.state.planned_through(),
            jobs: self.jobs(),
        }
    }
}

/// Of a route, no more due deliveries than this are counted for metrics: a relay that is so far behind needs help.
const MOST_DUE: usize = 10_000;
