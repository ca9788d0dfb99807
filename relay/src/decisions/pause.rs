//! What an operator has paused, and from when on a delivery's age counts.
//!
//! What is paused waits, and that is not its fault: its age counts from when it was let go on.

use crate::decisions::replay::{Wish, record};
use jiff::Timestamp;
use std::collections::HashMap;
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{ControlKind, DeliveryTask, Pause, PauseChanged, Record, record::What},
};

/// What is journalled of a pause that begins, changes or ends.
pub(crate) fn changed(wish: Wish<'_>, pause: Pause, paused: bool) -> Vec<Record> {
    let kind = if paused { ControlKind::Paused } else { ControlKind::Resumed };
    let action = wish.action(kind, &pause.tenant, &pause.route);
    let changed = PauseChanged { pause: Some(pause), paused };
    vec![record(wish.now, What::PauseChanged(changed)), record(wish.now, What::Acted(action))]
}

/// The record that ends a pause, with who ended it.
pub(crate) fn resumed(wish: Wish<'_>, ended: &Pause) -> Vec<Record> {
    let resumed = Pause {
        since: Some(to_proto(wish.now)),
        until: None,
        requested_by: wish.by.to_owned(),
        token_name: wish.token.to_owned(),
        reason: wish.reason.to_owned(),
        ..ended.clone()
    };
    changed(wish, resumed, false)
}

/// What is journalled of a pause whose time is over, which is what its operator asked for.
pub(crate) fn over(pause: &Pause, now: Timestamp) -> Vec<Record> {
    let (by, token) = (&pause.requested_by, &pause.token_name);
    resumed(Wish { now, by, token, reason: "its time was over", job: "" }, pause)
}

/// Whether a pause's time is over.
pub(crate) fn is_over(pause: &Pause, now: Timestamp) -> bool {
    pause.until.as_ref().is_some_and(|until| from_proto(Some(until)) <= now)
}

/// What is paused, and what was resumed when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pauses(HashMap<String, HashMap<String, Last>>);

/// What was done last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Paused,
    Resumed(Timestamp),
}

impl Pauses {
    /// A route, or with an empty name the whole tenant, was paused.
    pub(crate) fn pause(&mut self, tenant: &str, route: &str) {
        self.set(tenant, route, Last::Paused);
    }

    /// A route, or with an empty name the whole tenant, was resumed.
    pub(crate) fn resume(&mut self, tenant: &str, route: &str, at: Timestamp) {
        self.set(tenant, route, Last::Resumed(at));
    }

    fn set(&mut self, tenant: &str, route: &str, last: Last) {
        self.0.entry(tenant.to_owned()).or_default().insert(route.to_owned(), last);
    }

    /// What concerns a route: what was done last to itself, and to its tenant.
    fn last(&self, tenant: &str, route: &str) -> impl Iterator<Item = Last> {
        let routes = self.0.get(tenant);
        [route, ""].into_iter().filter_map(move |name| routes?.get(name).copied())
    }

    /// Whether nothing of a route may be sent.
    pub(crate) fn hold(&self, tenant: &str, route: &str) -> bool {
        self.last(tenant, route).any(|last| last == Last::Paused)
    }

    /// From when on a delivery's age counts: from its event's receipt, from its replay, or from when its route was
    /// resumed, whichever came last.
    pub(crate) fn age_from(&self, task: &DeliveryTask) -> Timestamp {
        let resumed = self.last(&task.tenant, &task.route).filter_map(|last| match last {
            Last::Resumed(at) => Some(at),
            Last::Paused => None,
        });
        let replayed = task.age_from.as_ref().map(|at| from_proto(Some(at)));
        resumed.chain(replayed).fold(from_proto(task.received_at.as_ref()), Timestamp::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::time::to_proto;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_777_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_route_is_held_by_its_own_pause_and_by_its_tenants() {
        let mut pauses = Pauses::default();
        let held = |pauses: &Pauses| {
            [("acme", "a"), ("acme", "b"), ("other", "a")].map(|(tenant, route)| pauses.hold(tenant, route))
        };
        assert_eq!(held(&pauses), [false; 3]);
        pauses.pause("acme", "a");
        assert_eq!(held(&pauses), [true, false, false]);
        pauses.pause("acme", "");
        assert_eq!(held(&pauses), [true, true, false]);
        pauses.resume("acme", "a", at(9));
        assert_eq!(held(&pauses), [true, true, false], "the tenant's pause holds it");
        pauses.resume("acme", "", at(9));
        assert_eq!(held(&pauses), [false; 3]);
    }

    #[test]
    fn age_counts_from_what_came_last() {
        let mut task = DeliveryTask {
            tenant: "acme".into(),
            route: "a".into(),
            received_at: Some(to_proto(at(10))),
            ..DeliveryTask::default()
        };
        let mut pauses = Pauses::default();
        pauses.pause("acme", "a");
        assert_eq!(pauses.age_from(&task), at(10));
        pauses.resume("acme", "a", at(5));
        assert_eq!(pauses.age_from(&task), at(10), "it came after that");
        pauses.resume("acme", "a", at(20));
        assert_eq!(pauses.age_from(&task), at(20));
        pauses.resume("acme", "", at(30));
        pauses.resume("acme", "b", at(99));
        pauses.resume("other", "a", at(99));
        assert_eq!(pauses.age_from(&task), at(30));
        task.age_from = Some(to_proto(at(40)));
        assert_eq!(pauses.age_from(&task), at(40));
    }
}
