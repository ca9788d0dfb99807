//! The admission of a route's deliveries: whether one may be attempted now, by the route's breaker, pace and secrets.

use crate::{
    decisions::breaker::{self, Breaker, Change, Shut, Signal},
    decisions::classify::Next,
    decisions::exchange::Exchange,
    decisions::pace::{Pace, PaceMemory, PaceUse, Priority},
    decisions::retry::LONGEST_RETRY_AFTER,
    decisions::rotation::Rotation,
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{config::Route, id::DeliveryId, time::after};
use talaria_proto::{time::from_proto, v1::DeliveryTask};

/// The gate of a route that is not shut. A gate is a time before which no delivery goes out, and how many do then.
pub(crate) const OPEN: (Timestamp, usize) = (Timestamp::MIN, usize::MAX);

/// The admission of one route, in the memory of its partition's owner.
#[derive(Debug)]
pub(crate) struct Admission {
    pace: Pace,
    breaker: Breaker,
    rotation: Rotation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Send,
    /// The delivery waits for this slot, which is reserved for it.
    At(Timestamp),
    /// The route is shut: the delivery waits, and nothing is recorded.
    Shut,
}

/// The effect of an attempt on its route and its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteUpdate {
    /// The earliest next attempt of the delivery.
    pub not_before: Timestamp,
    pub change: Option<Change>,
}

impl RouteUpdate {
    /// For a route that was removed or configured otherwise during the attempt: the outcome says nothing about the new
    /// configuration, which the delivery may try at once.
    pub(crate) fn superseded(next: &Next, now: Timestamp) -> Self {
        let pause = match next {
            Next::Slower { retry_after } => retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER),
            _ => Duration::ZERO,
        };
        Self { not_before: after(now, pause), change: None }
    }
}

impl Admission {
    /// Restores a route. Times of a clock that was ahead are clamped to `now`, so that they delay nothing longer.
    pub(crate) fn new(route: &Route, mut memory: PaceMemory, shut: Option<Shut>, now: Timestamp) -> Self {
        for sent in &mut memory.sent {
            *sent = now.min(*sent);
        }
        let breaker =
            shut.map_or_else(Breaker::default, |shut| Breaker::Shut(shut.restored(route.breaker, now)));
        Self { pace: Pace::new(route.pace, memory), breaker, rotation: Rotation::default() }
    }

    /// A route that is shut reserves no slots, or its backlog would reserve hours.
    pub(crate) fn admit(&mut self, task: &DeliveryTask, now: Timestamp) -> Decision {
        if !self.breaker.admit(now) {
            return Decision::Shut;
        }
        let reserved = task.slot_reserved.then(|| from_proto(task.due_at.as_ref()));
        match self.pace.admit(now, priority(task), reserved) {
            Ok(()) => Decision::Send,
            Err(slot) => {
                self.breaker.withdraw();
                Decision::At(slot)
            }
        }
    }

    /// Opens a shut route for a probe now, at an operator's request.
    pub(crate) fn probe_now(&mut self, now: Timestamp) -> Option<Shut> {
        self.breaker.probe_now(now)
    }

    /// A delivery that was admitted is not sent after all.
    pub(crate) fn withdraw(&mut self) {
        self.breaker.withdraw();
    }

    /// A delivery that was admitted goes out only now. Gives its new slot where the window is full by now.
    pub(crate) fn delayed(&mut self, admitted: Timestamp, now: Timestamp) -> Result<(), Timestamp> {
        self.pace.delayed(admitted, now)
    }

    /// An attempt of an earlier owner was interrupted; its request may have gone out.
    pub(crate) fn sent(&mut self, now: Timestamp) {
        self.pace.sent(now);
    }

    /// The index of the secret that signs the next request.
    pub(crate) fn secret(&self, route: &Route) -> usize {
        self.rotation.secret(route.secrets.len())
    }

    /// Records the answer to a request that was signed with this secret. Whether another secret is left to try.
    pub(crate) fn has_other_secret(&mut self, route: &Route, secret: usize, exchange: &Exchange) -> bool {
        self.rotation.learn(route, secret, exchange)
    }

    /// An attempt ended.
    pub(crate) fn learn(
        &mut self,
        route: &Route,
        task: &DeliveryTask,
        id: DeliveryId,
        next: &Next,
        why: &str,
        now: Timestamp,
    ) -> RouteUpdate {
        let (signal, not_before) = match next {
            // The probe has another secret to try, at once.
            Next::OtherSecret => {
                self.breaker.withdraw();
                return RouteUpdate { not_before: now, change: None };
            }
            Next::RouteFault { .. } => (Signal::Misconfigured, now),
            Next::Retry { .. } => (Signal::Failed, now),
            Next::Slower { retry_after } => {
                (Signal::Healthy, self.pace.refused(now, priority(task), *retry_after))
            }
            Next::Delivered | Next::Ignored | Next::Ambiguous => {
                self.pace.accepted();
                (Signal::Healthy, now)
            }
        };
        let change = self.breaker.learn(route.breaker, signal, id, why, now);
        let not_before = match (&self.breaker, next) {
            (Breaker::Shut(shut), Next::RouteFault { .. }) => {
                breaker::own_turn(shut.until, task.route_faults)
            }
            _ => not_before,
        };
        RouteUpdate { not_before, change }
    }

    /// How much of its pace is used.
    pub(crate) fn pace(&self, now: Timestamp) -> Option<PaceUse> {
        self.pace.usage(now)
    }

    /// The gate of the route's lane: the time before which nothing goes out, and the window after it.
    pub(crate) fn gate(&self) -> (Timestamp, usize) {
        match &self.breaker {
            Breaker::Admitting { .. } => OPEN,
            Breaker::Shut(shut) | Breaker::Probing(shut) => (shut.until, 1),
        }
    }
}

pub(crate) fn priority(task: &DeliveryTask) -> Priority {
    if task.counted_attempts == 0 && task.generation <= 1 { Priority::First } else { Priority::Again }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decisions::breaker::Cause, test_config::route};
    use talaria_proto::time::to_proto;

    #[test]
    fn a_clock_that_was_set_back_delays_a_route_no_longer_than_one_that_was_right() {
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let ahead = after(now, Duration::from_secs(7_200));
        let (route, task) = (route("pace: 2/min"), DeliveryTask::default());
        let memory = || PaceMemory { sent: vec![ahead; 2], reserved: Vec::new() };
        let mut admission = Admission::new(&route, memory(), None, now);
        assert_eq!(admission.admit(&task, now), Decision::At(after(now, Duration::from_secs(61))));
        let shut = Shut { until: ahead, cause: Cause::Failures, tries: 1, why: "500".into() };
        let admission = Admission::new(&route, memory(), Some(shut), now);
        assert_eq!(admission.gate(), (after(now, Duration::from_secs(300)), 1));
        let soon = after(now, Duration::from_secs(9));
        let shut = Shut { until: soon, cause: Cause::Failures, tries: 1, why: "500".into() };
        assert_eq!(Admission::new(&route, memory(), Some(shut), now).gate(), (soon, 1));
        let reserved = DeliveryTask { due_at: Some(to_proto(now)), slot_reserved: true, ..task };
        assert_eq!(
            Admission::new(&route, PaceMemory::default(), None, now).admit(&reserved, now),
            Decision::Send
        );
    }
}
