//! The decisions of a partition's owner: inputs in, records and actions out. Pure: time and chance are arguments.
//!
//! A record is applied to the state when it is put into the next commit. An effect outside of the process (a request to
//! Hermes, an answer to an operator) is an [`Action`], and is performed after that commit is durable. An append ends as durable or with the
//! loss of the partition, and then the machine is dropped; so nothing is ever rolled back.
//!
//! Invariants:
//!
//! 1. An event id that is kept is planned once.
//! 2. An attempt's [`Action::Attempt`] comes with the commit that holds its `AttemptStarted`.
//! 3. A delivery has at most one attempt under way.
//! 4. The records of one input are in one commit.
//!
//! This file has the commits and the planning of events. [`attempts`]: from a due delivery to the conclusion of its attempt.
//! [`jobs`]: jobs at OpenRouter. [`files`]: their files. [`notices`]: what a tenant is told about all of this.
//! [`windows`]: the number of deliveries under way. [`commands`]: operators' requests. [`keeping`]: the retention and the clock.

mod attempts;
mod commands;
mod files;
mod jobs;
mod keeping;
mod notices;
mod windows;

pub(crate) use files::{ForgottenFiles, KeepFiles};
pub(crate) use jobs::{PollJob, Submit};
pub(crate) use keeping::Keeping;
use talaria_proto::time::{from_proto, to_proto};

use super::{
    agenda::Agenda,
    handle::{Done, LaneGauges, LanePace, PartitionGauges},
    state::{LaneId, Payload, State},
};
use crate::{
    decisions::{admission::Admission, exchange::Sent, plan::plan},
    delivery_key::DeliveryKey,
};
use jiff::Timestamp;
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
};
use talaria_bus::{Floors, Identity, Incoming, Partition, Stored};
use talaria_core::{
    config::{Config, Route},
    id::{DeliveryId, EventId},
};
use talaria_proto::v1::{
    AttemptOutcome, Closed, Commit, DeliveryState, DeliveryTask, Event, EventConflict, EventRepeated,
    EventSource, Job, Record, ReplayJob, Run, RunOutcome, record::What,
};
use talaria_telemetry::{OTHER, TenantCounter};
use tokio::sync::oneshot;

/// Completed deliveries by tenant and final state.
pub static DELIVERIES: TenantCounter = TenantCounter::new("talaria_deliveries_total", "state", &[OTHER]);

/// Reported runs by tenant and outcome.
pub static RUNS: TenantCounter = TenantCounter::new("talaria_runs_total", "outcome", &[OTHER]);

/// The most bytes that an input adds to a commit besides its own: texts in records are bounded.
const ROOM: usize = 64 * 1024;

/// The most bytes of a commit that gathers several inputs. A single input may have more, up to the limit of the bus.
const GATHERED: usize = 512 * 1024;

/// An attempt to make.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub key: DeliveryKey,
    pub task: DeliveryTask,
    pub id: DeliveryId,
    pub route: Arc<Route>,
    pub payload: Payload,
    /// The index of the route's secret that signs the request.
    pub secret: usize,
    /// The job that the event ended.
    pub job: Option<Box<Job>>,
    pub admitted: Timestamp,
    /// The request must not go out before this.
    pub not_before: Option<Timestamp>,
}

/// An effect to perform once the records before it are durable.
pub(crate) enum Action {
    Attempt(Box<Attempt>),
    /// Submits a job, once.
    Submit(Box<Submit>),
    /// Publishes a notice.
    Publish(Box<Event>),
    /// Answers a command; the sequence of the commit is the answer.
    Reply(oneshot::Sender<Done>),
}

/// The result of planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    ForRoutes,
    /// No route wants the event.
    ForNone,
    /// The event came before.
    Repeated,
    /// The event came before with another body.
    Conflict,
    /// Not an event, or planned before.
    Nothing,
}

/// A request that was sent, or why there is none to send.
pub(crate) type Outcome = Result<Box<Sent>, String>;

/// An ended attempt, for logs and metrics.
pub(crate) struct Account {
    pub task: DeliveryTask,
    /// The outcome and its detail; `None` if there was no request to send.
    pub attempt: Option<(AttemptOutcome, String)>,
    /// The final state of the delivery; `None` while it waits.
    pub ended: Option<DeliveryState>,
}

/// A configured route and its admission.
struct RouteAdmission {
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
    routes: HashMap<LaneId, RouteAdmission>,
    /// The number of lanes whose window was set by the current configuration.
    known_lanes: usize,
    /// The ids of jobs whose submit is under way.
    submitting: BTreeSet<String>,
    /// The ids of jobs whose poll is under way, with their tenants.
    polling: BTreeMap<String, String>,
    /// The ids of jobs about whose files a question is under way, with their tenants.
    keeping: BTreeMap<String, String>,
    /// Until when a tenant is not polled, because OpenRouter refused its key.
    denied: BTreeMap<String, Timestamp>,
    /// Of the commit that is being built.
    records: Vec<Record>,
    actions: Vec<Action>,
    /// The approximate size of the records in bytes.
    size: usize,
    /// The most bytes of a commit.
    largest: usize,
    /// When `Opened` last repeated the small state.
    opened_at: Timestamp,
    /// While the wall clock is not believed, nothing is parked by its age or forgotten.
    is_clock_settled: bool,
    is_draining: bool,
}

impl Machine {
    /// Takes a partition over; its journal was replayed into `state`. The first commit begins with `Opened`.
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
            submitting: BTreeSet::new(),
            polling: BTreeMap::new(),
            keeping: BTreeMap::new(),
            denied: BTreeMap::new(),
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

    pub(crate) fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Whether an action waits for the next commit.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Whether the commit has room for another input of this size.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.records.is_empty() || self.size + bytes + ROOM <= GATHERED.min(self.largest)
    }

    /// The next commit, and the actions after it is durable.
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
        let parked = self.notice_of_parked(&record);
        // Here, because a delivery may also end without an attempt: by its age, without its route, by an operator.
        if let Some((tenant, state)) = final_state(&record) {
            DELIVERIES.increment(tenant, state.name());
        }
        if let Some(What::RunReported(reported)) = &record.what {
            let outcome = reported.run.as_ref().map_or(RunOutcome::Unspecified, Run::outcome);
            let tenant = reported.delivery.as_ref().map_or(OTHER, |delivery| &delivery.tenant);
            RUNS.increment(tenant, outcome.name());
        }
        let at = from_proto(record.at.as_ref());
        self.records.push(record);
        if let Some(notice) = parked {
            self.tell(notice, at);
        }
    }

    fn push_what(&mut self, now: Timestamp, event_seq: u64, what: What) {
        self.push(Record { at: Some(to_proto(now)), event_seq, what: Some(what) });
    }

    /// Plans an event. One that was planned before is skipped.
    pub(crate) fn event(&mut self, stored: &Stored, now: Timestamp) -> Planned {
        if stored.seq <= self.state.planned_through() {
            return Planned::Nothing;
        }
        match &stored.what {
            Incoming::Event(event) => self.plan(stored.seq, event, now),
            Incoming::Quarantined(callback) => {
                self.push_what(now, stored.seq, What::CallbackQuarantined((**callback).clone()));
                self.tell_of_quarantined(callback, now);
                Planned::Nothing
            }
            Incoming::Unreadable => Planned::Nothing,
        }
    }

    fn plan(&mut self, seq: u64, event: &Event, now: Timestamp) -> Planned {
        let Ok(id) = event.id.parse::<EventId>() else {
            tracing::error!(seq, partition = %self.partition, "event without a valid id skipped");
            return Planned::Nothing;
        };
        let is_notice = event.source() == EventSource::Notice;
        // Processes that publish the same notice, or the same end of a job, do not use the same bytes.
        let may_differ = is_notice || self.is_polled(event);
        let only = if is_notice { None } else { self.join(event, now) };
        let Some(known) = self.state.known(id) else {
            let goes_out = !is_notice || self.admits_notice(event, now);
            let tenant = self.config.tenants.get(&event.tenant).map(AsRef::as_ref).filter(|_| goes_out);
            let record = plan(seq, event, tenant, only.as_deref(), now);
            let has_routes =
                matches!(&record.what, Some(What::EventPlanned(planned)) if !planned.routes.is_empty());
            self.push(record);
            return if has_routes { Planned::ForRoutes } else { Planned::ForNone };
        };
        let is_conflict = known.digest != super::state::digest(&event.payload_sha256) && !may_differ;
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

    fn task(&self, key: DeliveryKey) -> Option<(DeliveryTask, DeliveryId)> {
        let task = self.state.task(key)?;
        let id = task.delivery_id.parse().ok()?;
        Some((task, id))
    }

    fn configured(&self, task: &DeliveryTask) -> Option<Arc<Route>> {
        self.config.route(&task.tenant, &task.route).map(Arc::clone)
    }

    /// The start of the delivery's age. While the clock is not believed, the age is zero.
    fn age_from(&self, task: &DeliveryTask, now: Timestamp) -> Timestamp {
        if self.is_clock_settled { self.state.pauses().age_from(task) } else { now }
    }

    /// Nothing new is begun from here on.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether no attempt is under way and no record waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.records.is_empty() && self.state.under_way_count() == 0 && self.submitting.is_empty()
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

    pub(crate) fn replays(&self) -> Vec<ReplayJob> {
        self.state.replays().cloned().collect()
    }

    pub(crate) fn paces(&self, now: Timestamp) -> Vec<LanePace> {
        let of_lane = |(id, known): (&LaneId, &RouteAdmission)| {
            let (lane, usage) = (self.state.lane(*id), known.admission.pace(now)?);
            Some(LanePace { tenant: lane.tenant, route: lane.route, usage })
        };
        self.routes.iter().filter_map(of_lane).collect()
    }

    pub(crate) fn gauges(&self, now: Timestamp) -> PartitionGauges {
        let lanes = self.state.lanes().map(|id| {
            let lane = self.state.lane(id);
            LaneGauges {
                waiting: self.state.waiting(id) as u64,
                due: self.state.due_count(id, now, MOST_DUE) as u64,
                oldest: self.state.oldest(id),
                is_shut: self.state.is_shut(id),
                is_paused: self.state.pauses().is_paused(&lane.tenant, &lane.route),
                tenant: lane.tenant,
                route: lane.route,
            }
        });
        PartitionGauges {
            lanes: lanes.collect(),
            planned_through: self.state.planned_through(),
            replays: self.replays(),
            open_jobs: self.open_jobs(),
        }
    }
}

/// The state in which a record ends a delivery, and its tenant.
fn final_state(record: &Record) -> Option<(&str, DeliveryState)> {
    let (delivery, status) = match record.what.as_ref()? {
        What::AttemptFinished(finished) => (&finished.delivery, finished.status.as_ref()?),
        What::DeliveryMoved(moved) => (&moved.delivery, moved.status.as_ref()?),
        _ => return None,
    };
    let tenant = delivery.as_ref().map_or(OTHER, |delivery| &delivery.tenant);
    Some((tenant, status.state())).filter(|(_, state)| state.is_final())
}

/// The most due deliveries of a route that are counted for metrics.
const MOST_DUE: usize = 10_000;
