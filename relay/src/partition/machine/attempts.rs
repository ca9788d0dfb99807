//! From a due delivery to its attempt, and from the end of an attempt to its conclusion.

use super::{Account, Action, Attempt, Machine, Outcome, RouteAdmission};
use crate::{
    decisions::{
        admission::{Admission, OPEN},
        breaker::Change,
        conclude,
        job::files,
        pace::PaceMemory,
        step::{self, Before, InHand},
    },
    delivery_key::DeliveryKey,
    partition::state::{LaneId, route_changed},
};
use jiff::Timestamp;
use metrics::counter;
use std::{sync::Arc, time::Duration};
use talaria_core::config::Route;
use talaria_proto::v1::{AttemptStarted, DeliveryRef, record::What};
use talaria_telemetry::LogLimiter;

/// An attempt that is durable within this time after its admission keeps its slot: the pace has this margin.
const SLOT_TOLERANCE: Duration = Duration::from_millis(100);

/// The most deliveries that are chosen at a time.
const CHOSEN: usize = 64;

impl Machine {
    /// Marks attempts that were under way at the takeover as interrupted, until the commit is full. Gives their number, and
    /// whether there are more.
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
            self.push(conclusion.into_record());
            interrupted += 1;
        }
        (interrupted, false)
    }

    pub(super) fn admission(&mut self, lane: LaneId, route: &Arc<Route>, now: Timestamp) -> &mut Admission {
        let state = &self.state;
        let restore = || {
            let memory = state.memory(lane);
            let pace = PaceMemory { sent: memory.sent, reserved: memory.reserved };
            let admission = Admission::new(route, pace, memory.shut, now);
            RouteAdmission { route: Arc::clone(route), admission }
        };
        let known = self.routes.entry(lane).or_insert_with(restore);
        if !Arc::ptr_eq(&known.route, route) {
            *known = restore();
        }
        &mut known.admission
    }

    pub(super) fn update_gate(&mut self, lane: LaneId) {
        let (until, window) = self.routes.get(&lane).map_or(OPEN, |known| known.admission.gate());
        self.agenda.set_gate(lane, until, window);
    }

    /// Begins at most `max` attempts of due deliveries, and gives their number. `random` gives numbers from 0 to 1.
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
                static STUCK: LogLimiter = LogLimiter::new();
                if let Some(left_out) = STUCK.admit() {
                    let partition = self.partition;
                    tracing::error!(%partition, left_out, "due deliveries cannot be begun");
                }
                break;
            }
        }
        begun
    }

    /// One step of a delivery: attempted, rescheduled, parked or left as it is. Whether it was attempted.
    fn begin(&mut self, key: DeliveryKey, now: Timestamp, random: f64) -> bool {
        let (Some((task, id)), Some(lane)) = (self.task(key), self.state.lane_of(key)) else { return false };
        let Some(route) = self.configured(&task) else {
            self.push(step::without_route(&task, id, false, now).into_record());
            return false;
        };
        let age_from = self.age_from(&task, now);
        let job = self.state.job_ended_by(id.event);
        if let Some(until) = job.and_then(|job| files::wait(job, age_from, route.retry.max_age, now)) {
            self.push(
                conclude::reschedule(&task, now, until, files::WAITING.to_owned(), false).into_record(),
            );
            return false;
        }
        let admission = self.admission(lane, &route, now);
        let in_hand = InHand { task: &task, id, route: &route, age_from };
        match step::before(in_hand, false, admission, now, random) {
            Before::Attempt => {}
            Before::Conclude(conclusion) => {
                if conclusion.task.as_ref().is_some_and(|task| task.slot_reserved) {
                    counter!("talaria_pace_waits_total").increment(1);
                }
                self.push(conclusion.into_record());
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
        let job = self.state.job_ended_by(id.event).cloned().map(Box::new);
        let attempt = Attempt { key, task, id, route, payload, secret, job, admitted: now, not_before: None };
        self.actions.push(Action::Attempt(Box::new(attempt)));
        true
    }

    /// When the next delivery is due, if nothing else happens.
    pub(crate) fn next_due(&mut self) -> Option<Timestamp> {
        if self.is_draining {
            return None;
        }
        self.refresh();
        self.agenda.next_due()
    }

    /// An attempt is durable and goes out. If that took too long for its slot, it gets a new one.
    pub(crate) fn goes_out(&mut self, attempt: &mut Attempt, now: Timestamp) {
        let took = talaria_core::time::since(now, attempt.admitted);
        if took >= SLOT_TOLERANCE
            && let Some(lane) = self.state.lane_of(attempt.key)
            && let Some(known) = self.routes.get_mut(&lane)
            && Arc::ptr_eq(&known.route, &attempt.route)
        {
            attempt.not_before = known.admission.delayed(attempt.admitted, now).err();
        }
    }

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
        let conclusion = match outcome {
            Err(why) => {
                if is_current {
                    self.admission(lane, route, now).withdraw();
                }
                conclude::park(&task, now, format!("cannot be sent: {why}"))
            }
            Ok(sent) => {
                let age_from = self.age_from(&task, now);
                let in_hand = InHand { task: &task, id: *id, route, age_from };
                // An outcome under an old configuration says nothing about the new one.
                let admission = is_current.then(|| self.admission(lane, route, now));
                let (conclusion, change) = step::after(in_hand, *sent, admission, now, random);
                if let Some(change) = change {
                    self.route_changed(lane, change, now);
                }
                conclusion
            }
        };
        let ended = conclusion.task.is_none().then(|| conclusion.status.state());
        let attempt = conclusion.attempt.as_ref().map(|attempt| (attempt.outcome(), attempt.detail.clone()));
        self.push(conclusion.into_record());
        if is_current {
            self.update_gate(lane);
        }
        Some(Account { task, attempt, ended })
    }

    pub(super) fn route_changed(&mut self, lane: LaneId, change: Change, now: Timestamp) {
        let was_shut = self.state.is_shut(lane);
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
        self.push_what(now, 0, What::RouteChanged(changed.clone()));
        self.tell_of_route(&changed, was_shut, now);
    }
}
