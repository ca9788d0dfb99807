//! Whether a delivery may be attempted now, by what is known of its route, and what its answer teaches about it.
//!
//! [`crate::decisions::breaker`], [`crate::decisions::pace`] and [`crate::decisions::rotation`] decide; here they are asked in order.

use crate::{
    decisions::breaker::{self, Breaker, Change, Shut, Sign},
    decisions::classify::{Exchange, Next},
    decisions::pace::{Pace, Remembered, Turn},
    decisions::retry::LONGEST_RETRY_AFTER,
    decisions::rotation::Rotation,
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{config::Route, id::DeliveryId, time::after};
use talaria_proto::{time::from_proto, v1::DeliveryTask};

/// The gate of a route that is not shut. A gate is a time before which no delivery goes out, and how many do then.
pub(crate) const OPEN: (Timestamp, usize) = (Timestamp::MIN, usize::MAX);

/// What the owner of the partition knows of a route.
#[derive(Debug)]
pub(crate) struct Admission {
    pace: Pace,
    breaker: Breaker,
    rotation: Rotation,
}

/// What a delivery is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It goes out.
    Go,
    /// It has this slot reserved, and waits for it.
    At(Timestamp),
    /// The route is shut: it waits untouched.
    Shut,
}

/// What an attempt taught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lesson {
    /// When the delivery may go on, where that is the route's to say.
    pub not_before: Timestamp,
    /// Whether the route was shut or lets everything through again.
    pub change: Option<Change>,
}

impl Lesson {
    /// Of a route that was removed or configured otherwise while the attempt was under way: what became of it says
    /// nothing of the new one, which the delivery may try at once.
    pub(crate) fn superseded(next: &Next, now: Timestamp) -> Self {
        let pause = match next {
            Next::Slower { retry_after } => retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER),
            _ => Duration::ZERO,
        };
        Self { not_before: after(now, pause), change: None }
    }
}

impl Admission {
    /// A route of which this is known from before. A clock that was ahead then holds nothing up for longer than if it
    /// had been right.
    pub(crate) fn new(route: &Route, mut remembered: Remembered, shut: Option<Shut>, now: Timestamp) -> Self {
        for sent in &mut remembered.sent {
            *sent = now.min(*sent);
        }
        let breaker =
            shut.map_or_else(Breaker::default, |shut| Breaker::Shut(shut.recalled(route.breaker, now)));
        Self { pace: Pace::new(route.pace, remembered), breaker, rotation: Rotation::default() }
    }

    /// Whether a delivery may go out now. A route that is shut reserves no slots, or its backlog would reserve
    /// hours.
    pub(crate) fn admit(&mut self, task: &DeliveryTask, now: Timestamp) -> Answer {
        if !self.breaker.admit(now) {
            return Answer::Shut;
        }
        let reserved = task.slot_reserved.then(|| from_proto(task.due_at.as_ref()));
        match self.pace.admit(now, turn(task), reserved) {
            Ok(()) => Answer::Go,
            Err(place) => {
                self.breaker.withdraw();
                Answer::At(place)
            }
        }
    }

    /// An operator has the route probed now; how it is shut then, if it is.
    pub(crate) fn hasten(&mut self, now: Timestamp) -> Option<Shut> {
        self.breaker.hasten(now)
    }

    /// A delivery that was admitted is not sent after all.
    pub(crate) fn withdraw(&mut self) {
        self.breaker.withdraw();
    }

    /// A delivery that was admitted goes out only now; or, where the pace does not allow that any more, then.
    pub(crate) fn delayed(&mut self, admitted: Timestamp, now: Timestamp) -> Result<(), Timestamp> {
        self.pace.delayed(admitted, now)
    }

    /// An attempt of an earlier owner was interrupted; its request may have gone out.
    pub(crate) fn sent(&mut self, now: Timestamp) {
        self.pace.sent(now);
    }

    /// Which of the route's secrets the next request is signed with.
    pub(crate) fn secret(&self, route: &Route) -> usize {
        self.rotation.secret(route.secrets.len())
    }

    /// What came of a request that was signed with this secret: whether the route has another to try.
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
    ) -> Lesson {
        let (sign, not_before) = match next {
            // The probe has another secret to try, at once.
            Next::OtherSecret => {
                self.breaker.withdraw();
                return Lesson { not_before: now, change: None };
            }
            Next::RouteFault { .. } => (Sign::Misconfigured, now),
            Next::Retry { .. } => (Sign::Failed, now),
            Next::Slower { retry_after } => (Sign::Well, self.pace.refused(now, turn(task), *retry_after)),
            Next::Delivered | Next::Ignored | Next::Ambiguous => {
                self.pace.accepted();
                (Sign::Well, now)
            }
        };
        let change = self.breaker.learn(route.breaker, sign, id, why, now);
        let not_before = match (&self.breaker, next) {
            (Breaker::Shut(shut), Next::RouteFault { .. }) => {
                breaker::own_turn(shut.until, task.route_faults)
            }
            _ => not_before,
        };
        Lesson { not_before, change }
    }

    /// The gate of the route's lane: nothing goes out before a time, and then so many at once.
    pub(crate) fn gate(&self) -> (Timestamp, usize) {
        match &self.breaker {
            Breaker::Admitting { .. } => OPEN,
            Breaker::Shut(shut) | Breaker::Probing(shut) => (shut.until, 1),
        }
    }
}

/// Whose turn a delivery's attempt is.
pub(crate) fn turn(task: &DeliveryTask) -> Turn {
    if task.counted_attempts == 0 && task.generation <= 1 { Turn::First } else { Turn::Again }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decisions::breaker::Cause, testing::route};
    use talaria_proto::time::to_proto;

    #[test]
    fn a_clock_that_was_set_back_holds_a_route_up_no_longer_than_one_that_was_right() {
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let ahead = after(now, Duration::from_secs(7_200));
        let (route, task) = (route("pace: 2/min"), DeliveryTask::default());
        let remembered = || Remembered { sent: vec![ahead; 2], reserved: Vec::new() };
        let mut admission = Admission::new(&route, remembered(), None, now);
        assert_eq!(admission.admit(&task, now), Answer::At(after(now, Duration::from_secs(61))));
        let shut = Shut { until: ahead, cause: Cause::Failures, tries: 1, why: "500".into() };
        let admission = Admission::new(&route, remembered(), Some(shut), now);
        assert_eq!(admission.gate(), (after(now, Duration::from_secs(300)), 1));
        let soon = after(now, Duration::from_secs(9));
        let shut = Shut { until: soon, cause: Cause::Failures, tries: 1, why: "500".into() };
        assert_eq!(Admission::new(&route, remembered(), Some(shut), now).gate(), (soon, 1));
        let reserved = DeliveryTask { due_at: Some(to_proto(now)), slot_reserved: true, ..task };
        assert_eq!(
            Admission::new(&route, Remembered::default(), None, now).admit(&reserved, now),
            Answer::Go
        );
    }
}
