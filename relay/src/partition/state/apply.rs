//! The changes that each record makes.

use super::{
    State, digest,
    kept::Kept,
    lanes::{LaneId, Lanes},
    slab::Ix,
    starts::Start,
    time::read,
    waiting::Waiting,
};
use crate::decisions::breaker::{Cause, Shut};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::{
    time::from_proto,
    v1::{
        AttemptStarted, BreakerCause, DeliveryRef, DeliveryTask, EventCarried, EventPlanned, NoticesTold,
        Record, ReplayJob, ReplayJobState, RouteChanged, record::What,
    },
};

impl State {
    /// Applies a record of the commit that is being built or replayed. Records must be applied in order.
    pub(crate) fn apply(&mut self, record: &Record) {
        let Self { commits, kept, jobs, planned_through, opened_at, .. } = self;
        let pending = commits.open(|| super::keeping::floors(kept, jobs, *planned_through, *opened_at));
        pending.has_opened |= matches!(record.what, Some(What::Opened(_)));
        let (event_seq, at) = (record.event_seq, read(record.at.as_ref()));
        if let Some(kept) = self.kept.find(event_seq).and_then(|ix| self.kept.get_mut(ix)) {
            kept.last_at = at;
        }
        match &record.what {
            Some(What::Opened(opened)) => self.apply_opened(opened, at),
            Some(What::Closed(_)) => self.owner = None,
            Some(What::EventPlanned(planned)) => self.plan(event_seq, at, planned),
            Some(What::EventRepeated(_) | What::CallbackQuarantined(_)) => self.passed(event_seq),
            Some(What::AttemptStarted(started)) => self.start(event_seq, at, started),
            Some(What::AttemptFinished(finished)) => {
                self.conclude(event_seq, at, finished.delivery.as_ref(), finished.task.as_ref());
            }
            Some(What::DeliveryMoved(moved)) => {
                self.conclude(event_seq, at, moved.delivery.as_ref(), moved.task.as_ref());
            }
            Some(What::EventCarried(carried)) => self.carry(event_seq, at, carried),
            Some(What::RouteChanged(changed)) => self.change_route(changed),
            Some(What::PauseChanged(changed)) => self.paused.change(changed),
            Some(What::ReplayJob(job)) => self.change_replay(job),
            Some(What::Job(job)) => self.jobs.change(job, self.commits.base()),
            Some(What::JobsForgotten(forgotten)) => self.jobs.forget(&forgotten.job_ids),
            Some(What::EventsForgotten(forgotten)) => self.forget(forgotten.before),
            Some(What::NoticesTold(told)) => self.change_notices(told),
            Some(What::Acted(_) | What::RunReported(_)) | None => {}
        }
        self.last_at = at;
    }

    /// Ends a commit: all records since the last `close`. Its sequence is not known yet. At most one closed commit may wait
    /// for its sequence.
    pub(crate) fn close(&mut self) {
        self.commits.close();
    }

    /// Sets the sequence of the closed commit, which is durable now. If no commit is closed, this closes it first.
    pub(crate) fn committed(&mut self, seq: u64) {
        let Some(commit) = self.commits.committed() else { return };
        self.kept.number(commit.base, seq);
        self.jobs.number(commit.base, seq);
        if commit.has_opened {
            self.opened_at = Some(seq);
        }
    }

    pub(super) fn passed(&mut self, event_seq: u64) {
        self.planned_through = self.planned_through.max(event_seq);
    }

    fn plan(&mut self, event_seq: u64, at: i64, planned: &EventPlanned) {
        self.passed(event_seq);
        let Some(event) = &planned.event else { return };
        let Ok(id) = event.id.parse::<EventId>() else { return };
        self.notices.published(id);
        if self.kept.find(event_seq).is_some() {
            return;
        }
        let mut kept = Kept::new(id, event_seq, self.commits.base(), at);
        kept.digest = digest(&event.payload_sha256);
        kept.received_at = read(event.received_at.as_ref());
        let ix = self.kept.push(kept);
        for route in &planned.routes {
            let lane = self.lanes.number(&event.tenant, route);
            self.set(ix, Waiting::planned(lane, at));
        }
    }

    fn start(&mut self, event_seq: u64, at: i64, started: &AttemptStarted) {
        let Some(DeliveryRef { tenant, route, .. }) = &started.delivery else { return };
        let Some(lane) = self.lane_for(started.paced, tenant, route) else { return };
        let waiting = self.kept.by_seq(event_seq).and_then(|kept| {
            let (ix, waiting) = self.of_event(kept).find(|(_, waiting)| waiting.lane == lane)?;
            Some((ix, waiting.is_under_way))
        });
        match waiting {
            // This start was counted already.
            Some((_, true)) => return,
            Some((ix, false)) => self.update(event_seq, ix, |waiting| waiting.is_under_way = true),
            None => {}
        }
        if started.paced
            && let Some(lane) = self.lanes.get_mut(lane)
        {
            lane.starts.push(Start { at, event_seq, number: started.number });
        }
    }

    /// The lane of a start. A lane that was in no record so far is needed only if the start counts for its pace.
    fn lane_for(&mut self, is_paced: bool, tenant: &str, route: &str) -> Option<LaneId> {
        if is_paced { Some(self.lanes.number(tenant, route)) } else { self.lanes.find(tenant, route) }
    }

    /// Ends an attempt under way. The delivery waits with the values of the task, or does not wait any more.
    fn conclude(
        &mut self,
        event_seq: u64,
        at: i64,
        delivery: Option<&DeliveryRef>,
        task: Option<&DeliveryTask>,
    ) {
        if let Some(task) = task {
            let event = self.kept.find(event_seq).or_else(|| self.adopt(event_seq, at, task));
            if let Some(event) = event {
                let lane = self.lanes.number(&task.tenant, &task.route);
                self.set(event, Waiting::from_task(lane, task));
            }
        } else if let Some(DeliveryRef { tenant, route, .. }) = delivery
            && let Some(lane) = self.lanes.find(tenant, route)
            && let Some(event) = self.kept.find(event_seq)
        {
            self.remove(event, lane);
        }
    }

    /// Makes an event whose base record is missing, from a task of one of its deliveries.
    fn adopt(&mut self, event_seq: u64, at: i64, task: &DeliveryTask) -> Option<Ix> {
        let id: DeliveryId = task.delivery_id.parse().ok()?;
        let mut kept = Kept::new(id.event, event_seq, self.commits.base(), at);
        kept.is_orphan = true;
        kept.received_at = read(task.received_at.as_ref());
        Some(self.kept.push(kept))
    }

    fn carry(&mut self, event_seq: u64, at: i64, carried: &EventCarried) {
        let Some(event) = &carried.event else { return };
        let Ok(id) = event.id.parse::<EventId>() else { return };
        let base = self.commits.base();
        self.commits.carry(event_seq, self.payload(event_seq));
        let known = self.kept.find(event_seq);
        let ix = known.unwrap_or_else(|| self.kept.push(Kept::new(id, event_seq, base, at)));
        self.kept.rebase(ix, id, |kept| {
            kept.is_carried = true;
            kept.digest = digest(&event.payload_sha256);
            kept.received_at = read(event.received_at.as_ref());
            (kept.base, kept.base_at) = (base, at);
        });
        let tasks = carried.waiting.iter().filter_map(|carried| carried.task.as_ref());
        let tasks: Vec<(LaneId, &DeliveryTask)> =
            tasks.map(|task| (self.lanes.number(&task.tenant, &task.route), task)).collect();
        let Some(kept) = self.kept.get(ix) else { return };
        let before: Vec<Waiting> = self.of_event(kept).map(|(_, waiting)| *waiting).collect();
        for (lane, task) in &tasks {
            let is_under_way = before.iter().any(|waiting| waiting.lane == *lane && waiting.is_under_way);
            self.set(ix, Waiting { is_under_way, ..Waiting::from_task(*lane, task) });
        }
        // An attempt that is under way is ended by its own record.
        for waiting in before.iter().filter(|waiting| !waiting.is_under_way) {
            if !tasks.iter().any(|(lane, _)| *lane == waiting.lane) {
                self.remove(ix, waiting.lane);
            }
        }
    }

    pub(super) fn change_route(&mut self, changed: &RouteChanged) {
        let lane = self.lanes.number(&changed.tenant, &changed.route);
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.shut = shut(changed);
        }
    }

    pub(super) fn change_notices(&mut self, told: &NoticesTold) {
        let kept = &self.kept;
        self.notices.change(told, |id| kept.by_id(id).is_some());
    }

    pub(super) fn change_replay(&mut self, job: &ReplayJob) {
        if job.state() == ReplayJobState::Running {
            self.replays.insert(job.id.clone(), job.clone());
        } else {
            self.replays.remove(&job.id);
        }
    }

    fn forget(&mut self, before: u64) {
        let mut next = self.kept.oldest().map(|(ix, kept)| (ix, *kept));
        while let Some((ix, kept)) = next
            && kept.base.seq().is_some_and(|seq| seq < before)
        {
            next = self.kept.later(&kept).map(|(ix, kept)| (ix, *kept));
            if !kept.waits() {
                self.kept.remove(ix);
            }
        }
    }

    /// Adds a waiting delivery to an event, or replaces it.
    fn set(&mut self, event: Ix, waiting: Waiting) {
        let Some(kept) = self.kept.get(event) else { return };
        let (event_seq, first) = (kept.event_seq, kept.first);
        let known = self.of_event(kept).find(|(_, known)| known.lane == waiting.lane).map(|(ix, _)| ix);
        if let Some(ix) = known {
            self.update(event_seq, ix, |known| *known = Waiting { next: known.next, ..waiting });
            return;
        }
        enter(&mut self.lanes, event_seq, &waiting);
        if let Some(lane) = self.lanes.get_mut(waiting.lane) {
            lane.events.insert(event_seq);
        }
        let ix = self.waiting.insert(Waiting { next: first, ..waiting });
        if let Some(kept) = self.kept.get_mut(event) {
            kept.first = ix;
        }
    }

    /// Changes a waiting delivery, but not its lane.
    pub(super) fn update(&mut self, event_seq: u64, ix: Ix, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.waiting.get_mut(ix) {
            leave(&mut self.lanes, event_seq, waiting);
            change(waiting);
            enter(&mut self.lanes, event_seq, waiting);
        }
    }

    /// Removes a waiting delivery of an event.
    fn remove(&mut self, event: Ix, lane: LaneId) {
        let Some(kept) = self.kept.get(event) else { return };
        let (event_seq, is_orphan) = (kept.event_seq, kept.is_orphan);
        let Some((ix, waiting)) = self.of_event(kept).find(|(_, waiting)| waiting.lane == lane) else {
            return;
        };
        let (next, waiting) = (waiting.next, *waiting);
        let before = self.of_event(kept).find(|(_, waiting)| waiting.next == ix).map(|(before, _)| before);
        match (before.and_then(|before| self.waiting.get_mut(before)), self.kept.get_mut(event)) {
            (Some(before), _) => before.next = next,
            (None, Some(kept)) => kept.first = next,
            (None, None) => {}
        }
        leave(&mut self.lanes, event_seq, &waiting);
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.events.remove(event_seq);
        }
        self.waiting.remove(ix);
        if is_orphan && self.kept.get(event).is_some_and(|kept| !kept.waits()) {
            self.kept.remove(event);
        }
    }
}

/// Adds a delivery to its lane.
fn enter(lanes: &mut Lanes, event_seq: u64, waiting: &Waiting) {
    let Some(lane) = lanes.change(waiting.lane) else { return };
    if waiting.is_under_way {
        lane.under_way.insert(event_seq);
    } else {
        lane.due.insert((waiting.due, event_seq));
        lane.reserved += usize::from(waiting.slot_reserved);
    }
}

/// Removes a delivery from its lane.
fn leave(lanes: &mut Lanes, event_seq: u64, waiting: &Waiting) {
    let Some(lane) = lanes.change(waiting.lane) else { return };
    if waiting.is_under_way {
        lane.under_way.remove(&event_seq);
    } else {
        lane.due.remove(&(waiting.due, event_seq));
        lane.reserved -= usize::from(waiting.slot_reserved);
    }
}

/// The breaker; `None` when the route is open.
fn shut(changed: &RouteChanged) -> Option<Shut> {
    let until = from_proto(Some(changed.held_until.as_ref()?));
    let cause = match changed.cause() {
        BreakerCause::Failures => Cause::Failures,
        BreakerCause::Configuration | BreakerCause::Unspecified => Cause::Configuration,
    };
    Some(Shut { until, cause, tries: changed.tries.max(1), why: changed.held_because.clone() })
}
