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

use super::{
    agenda::Agenda,
    handle::{AuditInfo, Command, Done, Key, LaneGauges, NotDone, PartitionGauges},
    state::{LaneId, Payload, State, route_changed},
};
use crate::decisions::{
    admission::{Admission, OPEN},
    breaker::Change,
    classify::Verdict,
    conclude::{self, Conclusion},
    pace::Remembered,
    plan::plan,
    replay,
    step::{self, After, Before, InHand, Sent},
};
use jiff::Timestamp;
use metrics::counter;
use prost::Message as _;
use std::{collections::HashMap, mem, sync::Arc, time::Duration};
use talaria_bus::{
    Floors, Identity, Incoming, Partition, Stored,
    time::{before, to_proto},
};
use talaria_core::{
    config::{Config, Route},
    id::{DeliveryId, EventId},
};
use talaria_proto::v1::{
    AttemptStarted, CarriedDelivery, Closed, Commit, DeliveryRef, DeliveryStatus, DeliveryTask, Event,
    EventCarried, EventConflict, EventRepeated, EventsForgotten, Record, record::What,
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

/// What the retention asks for beside what the machine did by itself.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// The small state is to be repeated: see [`Machine::renew`].
    pub renew: bool,
    /// The sequences of events that are to be carried: each comes back to [`Machine::carry`] with its payload.
    pub carry: Vec<u64>,
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

    /// Marks as interrupted what was under way when the partition was taken over, as much as fits into the commit: how
    /// many, and whether there are more.
    pub(crate) fn interrupt(&mut self, now: Timestamp, random: f64) -> (u64, bool) {
        let mut interrupted = 0;
        for key in self.state.under_way() {
            if !self.has_room(0) && interrupted > 0 {
                return (interrupted, true);
            }
            let Some((task, id)) = self.task(key) else { continue };
            let conclusion = match self.configured(&task) {
                None => step::without_route(&task, id, true, now),
                Some(route) => {
                    let age_from = self.age_from(&task, now);
                    let Some(lane) = self.state.lane_of(key) else { continue };
                    let admission = self.admission(lane, &route, now);
                    let in_hand = InHand { task: &task, id, route: &route, age_from };
                    match step::before(in_hand, true, admission, now, random) {
                        Before::Conclude(conclusion) => *conclusion,
                        Before::Attempt | Before::GiveBack => continue,
                    }
                }
            };
            self.push(conclusion.record);
            interrupted += 1;
        }
        (interrupted, false)
    }

    /// Whether there is something to append.
    pub(crate) fn has_records(&self) -> bool {
        !self.records.is_empty()
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

    fn admission(&mut self, lane: LaneId, route: &Arc<Route>, now: Timestamp) -> &mut Admission {
        let state = &self.state;
        let recall = || {
            let memory = state.memory(lane);
            let remembered = Remembered { sent: memory.sent, reserved: memory.reserved };
            let admission = Admission::new(route, remembered, memory.shut, now);
            InForce { route: Arc::clone(route), admission }
        };
        let known = self.routes.entry(lane).or_insert_with(recall);
        if !Arc::ptr_eq(&known.route, route) {
            *known = recall();
        }
        &mut known.admission
    }

    fn update_gate(&mut self, lane: LaneId) {
        let (until, window) = self.routes.get(&lane).map_or(OPEN, |known| known.admission.gate());
        self.agenda.set_gate(lane, until, window);
    }

    /// Begins attempts of deliveries that are due, at most `max`; says how many. `random` gives numbers from 0 to 1.
    pub(crate) fn dispatch(&mut self, max: usize, now: Timestamp, mut random: impl FnMut() -> f64) -> usize {
        let mut begun = 0;
        while !self.is_draining && begun < max && self.has_room(0) {
            self.refresh();
            let chosen = self.agenda.choose(&self.state, now, (max - begun).min(CHOSEN));
            if chosen.is_empty() {
                break;
            }
            let before = (self.records.len(), begun);
            for key in chosen {
                begun += usize::from(self.begin(key, now, random()));
            }
            self.refresh();
            if (self.records.len(), begun) == before && self.agenda.next_due().is_some_and(|due| due <= now) {
                tracing::error!(partition = %self.partition, "deliveries are due and cannot be begun");
                break;
            }
        }
        begun
    }

    /// One step of a delivery: attempted, put off, parked or left for later. Says whether it was attempted.
    fn begin(&mut self, key: Key, now: Timestamp, random: f64) -> bool {
        let (Some((task, id)), Some(lane)) = (self.task(key), self.state.lane_of(key)) else { return false };
        let Some(route) = self.configured(&task) else {
            self.push(step::without_route(&task, id, false, now).record);
            return false;
        };
        let age_from = self.age_from(&task, now);
        let admission = self.admission(lane, &route, now);
        let in_hand = InHand { task: &task, id, route: &route, age_from };
        match step::before(in_hand, false, admission, now, random) {
            Before::Attempt => {}
            Before::Conclude(conclusion) => {
                if conclusion.task().is_some_and(|task| task.slot_reserved) {
                    counter!("talaria_pace_waits_total").increment(1);
                }
                self.push(conclusion.record);
                return false;
            }
            Before::GiveBack => {
                self.update_gate(lane);
                return false;
            }
        }
        let secret = admission.secret(&route);
        let started = AttemptStarted {
            delivery: Some(DeliveryRef {
                id: task.delivery_id.clone(),
                tenant: task.tenant.clone(),
                route: task.route.clone(),
            }),
            number: task.attempts + 1,
            generation: task.generation,
            paced: route.pace.is_some(),
        };
        self.push_what(now, task.event_seq, What::AttemptStarted(started));
        let payload = self.state.payload(task.event_seq);
        let attempt = Attempt { key, task, id, route, payload, secret, admitted: now, not_before: None };
        self.actions.push(Action::Attempt(Box::new(attempt)));
        true
    }

    /// When something is due next, if nothing else happens.
    pub(crate) fn next_due(&mut self) -> Option<Timestamp> {
        if self.is_draining {
            return None;
        }
        self.refresh();
        self.agenda.next_due()
    }

    /// An attempt is durable and goes out. If that took so long that its route's pace has moved on, it goes out at its new
    /// slot.
    pub(crate) fn goes_out(&mut self, attempt: &mut Attempt, now: Timestamp) {
        let took = talaria_bus::time::since(now, attempt.admitted);
        if took >= DURABLE_AT_ONCE
            && let Some(lane) = self.state.lane_of(attempt.key)
            && let Some(known) = self.routes.get_mut(&lane)
            && Arc::ptr_eq(&known.route, &attempt.route)
        {
            attempt.not_before = known.admission.delayed(attempt.admitted, now).err();
        }
    }

    /// An attempt ended.
    pub(crate) fn ended(
        &mut self,
        attempt: &Attempt,
        outcome: Outcome,
        now: Timestamp,
        random: f64,
    ) -> Option<Account> {
        let Attempt { key, id, route, .. } = attempt;
        if !self.state.is_under_way(*key) {
            return None;
        }
        let (task, _) = self.task(*key)?;
        let lane = self.state.lane_of(*key)?;
        let is_current = self.configured(&task).is_some_and(|now| Arc::ptr_eq(&now, route));
        let (conclusion, verdict) = match outcome {
            Outcome::NotSent(why) => {
                if is_current {
                    self.admission(lane, route, now).withdraw();
                }
                (conclude::park(&task, now, format!("cannot be sent: {why}")), None)
            }
            Outcome::Sent(sent) => {
                let age_from = self.age_from(&task, now);
                let in_hand = InHand { task: &task, id: *id, route, age_from };
                // What an old configuration meets says nothing about the new one.
                let admission = is_current.then(|| self.admission(lane, route, now));
                let After { conclusion, change, verdict } =
                    step::after(in_hand, *sent, admission, now, random);
                if let Some(change) = change {
                    self.route_changed(lane, change, now);
                }
                (conclusion, Some(verdict))
            }
        };
        let ended = Self::ended_state(&conclusion);
        self.push(conclusion.record);
        if is_current {
            self.update_gate(lane);
        }
        Some(Account { task, verdict, ended })
    }

    fn ended_state(conclusion: &Conclusion) -> Option<talaria_proto::v1::DeliveryState> {
        if conclusion.task().is_some() { None } else { conclusion.status().map(DeliveryStatus::state) }
    }

    fn route_changed(&mut self, lane: LaneId, change: Change, now: Timestamp) {
        let lane = self.state.lane(lane);
        let (tenant, route) = (&*lane.tenant, &*lane.route);
        let shut = match change {
            Change::Admitting => None,
            Change::Shut(shut) => Some(shut),
        };
        match &shut {
            None => tracing::info!(tenant, route, "the route is open again"),
            Some(shut) => {
                tracing::warn!(tenant, route, reason = shut.why, until = %shut.until, "the route is shut");
            }
        }
        let changed = route_changed(tenant, route, shut.as_ref());
        self.push_what(now, 0, What::RouteChanged(changed));
    }

    /// Carries a command out; its answer comes once that is durable.
    pub(crate) fn command(&mut self, command: Command, reply: oneshot::Sender<Done>, now: Timestamp) {
        let done = if self.is_draining { Err(NotDone::Lost) } else { self.carry_out(command, now) };
        match done {
            Ok(()) => {
                self.set_windows();
                self.actions.push(Action::Reply(reply));
            }
            // The caller may have gone.
            Err(why) => drop(reply.send(Err(why))),
        }
    }

    fn carry_out(&mut self, command: Command, now: Timestamp) -> Result<(), NotDone> {
        match command {
            Command::Append(records) => {
                let size: usize = records.iter().map(|record| record.encoded_len() + 8).sum();
                if size + ROOM > self.largest {
                    return Err(NotDone::TooLarge);
                }
                for record in records {
                    self.push(record);
                }
            }
            Command::Cancel(key, audit) => {
                let task = self.waiting(key)?;
                self.push(replay::cancelled(&task, audit.at(now)).record);
            }
            Command::Replay(key, audit) => {
                let task = self.waiting(key)?;
                self.push(replay::again(&task, AuditInfo::at(&audit, now)).record);
            }
        }
        Ok(())
    }

    fn waiting(&self, key: Key) -> Result<DeliveryTask, NotDone> {
        let task = self.state.task(key).ok_or(NotDone::NotWaiting)?;
        if self.state.is_under_way(key) { Err(NotDone::UnderWay) } else { Ok(task) }
    }

    /// Another configuration is in force.
    pub(crate) fn configure(&mut self, config: Arc<Config>) {
        self.config = config;
        let is_current = |lane: &LaneId, known: &InForce| {
            let lane = self.state.lane(*lane);
            let now = self.config.route(&lane.tenant, &lane.route);
            now.is_some_and(|now| Arc::ptr_eq(now, &known.route))
        };
        let outdated: Vec<LaneId> = self
            .routes
            .iter()
            .filter(|(lane, known)| !is_current(lane, known))
            .map(|(lane, _)| *lane)
            .collect();
        for lane in outdated {
            // The next delivery recalls the route, and nothing holds it back before.
            self.routes.remove(&lane);
            self.update_gate(lane);
        }
        self.set_windows();
    }

    /// Takes in what has changed in the state: lanes that are new get their windows.
    fn refresh(&mut self) {
        let new: Vec<LaneId> = self.state.lanes().skip(self.known_lanes).collect();
        self.known_lanes += new.len();
        if !new.is_empty() {
            let share = self.share();
            for lane in new {
                self.set_window(lane, share);
            }
        }
        self.agenda.refresh(&mut self.state);
    }

    /// A route's share of what the relay has in hand, so that routes that hang cannot take all of it.
    fn share(&self) -> usize {
        (self.config.relay.in_flight / self.config.routes().count().max(1)).max(1)
    }

    fn set_windows(&mut self) {
        let (share, lanes) = (self.share(), self.state.lanes().collect::<Vec<_>>());
        self.known_lanes = lanes.len();
        for lane in lanes {
            self.set_window(lane, share);
        }
    }

    fn set_window(&mut self, id: LaneId, share: usize) {
        let lane = self.state.lane(id);
        let window = match self.config.route(&lane.tenant, &lane.route) {
            Some(_) if self.state.pauses().hold(&lane.tenant, &lane.route) => 0,
            Some(route) => usize::from(route.in_flight).min(share),
            None => UNCONFIGURED,
        };
        self.agenda.set_window(id, window);
    }

    /// The wall clock was set back: what waits keeps its distance to the present.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        self.renew(0, now);
        let lanes: Vec<LaneId> = self.routes.drain().map(|(lane, _)| lane).collect();
        for lane in lanes {
            self.update_gate(lane);
        }
    }

    /// Whether the wall clock is believed.
    pub(crate) fn set_clock_settled(&mut self, is_settled: bool) {
        self.is_clock_settled = is_settled;
    }

    /// Keeps what the retention asks for: forgets what was kept for long enough, and says what else is to be done.
    pub(crate) fn keep(&mut self, now: Timestamp, max: usize) -> Keeping {
        if !self.is_clock_settled || self.is_draining {
            return Keeping::default();
        }
        let retention = self.config.retention;
        if let Some(seq) = self.state.forgettable(before(now, retention)) {
            self.push_what(now, 0, What::EventsForgotten(EventsForgotten { before: seq }));
        }
        Keeping {
            renew: self.opened_at < before(now, retention / 4),
            carry: self.state.to_carry(before(now, retention / 2), max),
        }
    }

    /// Repeats the small state, so that nothing before is needed for it. No event of the partition stands between what was
    /// planned last and `quiet_through`.
    pub(crate) fn renew(&mut self, quiet_through: u64, now: Timestamp) {
        self.opened_at = now;
        let mut record = self.state.opened(&self.identity, now);
        if let Some(What::Opened(opened)) = &mut record.what {
            opened.planned_through = opened.planned_through.max(quiet_through);
        }
        self.push(record);
    }

    /// Where the payload of an event is.
    pub(crate) fn payload(&self, event_seq: u64) -> Payload {
        self.state.payload(event_seq)
    }

    /// Records an event anew of which something still waits, with what the view knows about its deliveries.
    pub(crate) fn carry(&mut self, event_seq: u64, carried: EventCarried, now: Timestamp) {
        // As they are by now, if none of them is under way.
        let Some(tasks) = self.state.carried(event_seq) else { return };
        let mut known: HashMap<String, CarriedDelivery> = carried
            .waiting
            .into_iter()
            .filter_map(|known| Some((known.task.as_ref()?.delivery_id.clone(), known)))
            .collect();
        let waiting = tasks.into_iter().map(|task| {
            let known = known.remove(&task.delivery_id).unwrap_or_default();
            CarriedDelivery { task: Some(task), ..known }
        });
        let carried = EventCarried { waiting: waiting.collect(), ..carried };
        if carried.encoded_len() + ROOM <= self.largest {
            self.push_what(now, event_seq, What::EventCarried(carried));
        }
    }

    /// Whether a delivery of an event waits.
    pub(crate) fn waits(&self, event_seq: u64) -> bool {
        self.state.waits(event_seq)
    }

    /// The deliveries of an event that wait.
    pub(crate) fn tasks_of(&self, event_seq: u64) -> Vec<DeliveryTask> {
        self.state.carried(event_seq).unwrap_or_default()
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

/// What is durable sooner than this after it was admitted goes out in its slot: the pace leaves as much room.
const DURABLE_AT_ONCE: Duration = Duration::from_millis(100);

/// How many deliveries are chosen at a time.
const CHOSEN: usize = 64;

/// The window of lanes whose route is not configured any more.
const UNCONFIGURED: usize = 16;

/// Of a route, no more due deliveries than this are counted for metrics: a relay that is so far behind needs help.
const MOST_DUE: usize = 10_000;
