//! The pauses of routes and tenants, and the start of a delivery's age.
//!
//! The age of a paused delivery counts from when its route was resumed.

use crate::decisions::audit::{AuditInfo, record};
use jiff::Timestamp;
use std::collections::HashMap;
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{ControlKind, DeliveryTask, Pause, PauseChanged, Record, record::What},
};

/// The records of a pause that begins, changes or ends.
pub(crate) fn changed(audit: &AuditInfo, now: Timestamp, pause: Pause, paused: bool) -> Vec<Record> {
    let kind = if paused { ControlKind::Paused } else { ControlKind::Resumed };
    let action = audit.action(now, kind, &pause.tenant, &pause.route);
    let changed = PauseChanged { pause: Some(pause), paused };
    vec![record(now, What::PauseChanged(changed)), record(now, What::Acted(action))]
}

/// The records that end a pause.
pub(crate) fn resumed(audit: &AuditInfo, now: Timestamp, ended: &Pause) -> Vec<Record> {
    let resumed = Pause {
        since: Some(to_proto(now)),
        until: None,
        requested_by: audit.by.clone(),
        token_name: audit.token.clone(),
        reason: audit.reason.clone(),
        ..ended.clone()
    };
    changed(audit, now, resumed, false)
}

/// The records that end a pause whose time is over, on behalf of the operator who began it.
pub(crate) fn over(pause: &Pause, now: Timestamp) -> Vec<Record> {
    let audit = AuditInfo {
        by: pause.requested_by.clone(),
        token: pause.token_name.clone(),
        reason: "its time was over".to_owned(),
        job: String::new(),
    };
    resumed(&audit, now, pause)
}

pub(crate) fn is_over(pause: &Pause, now: Timestamp) -> bool {
    pause.until.as_ref().is_some_and(|until| from_proto(Some(until)) <= now)
}

/// The last change of each route and tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pauses(HashMap<String, HashMap<String, Last>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Paused,
    Resumed(Timestamp),
}

impl Pauses {
    /// Pauses a route or, with an empty name, the whole tenant.
    pub(crate) fn pause(&mut self, tenant: &str, route: &str) {
        self.set(tenant, route, Last::Paused);
    }

    /// Resumes a route or, with an empty name, the whole tenant.
    pub(crate) fn resume(&mut self, tenant: &str, route: &str, at: Timestamp) {
        self.set(tenant, route, Last::Resumed(at));
    }

    fn set(&mut self, tenant: &str, route: &str, last: Last) {
        self.0.entry(tenant.to_owned()).or_default().insert(route.to_owned(), last);
    }

    /// The last changes of a route and of its tenant.
    fn last(&self, tenant: &str, route: &str) -> impl Iterator<Item = Last> {
        let routes = self.0.get(tenant);
        [route, ""].into_iter().filter_map(move |name| routes?.get(name).copied())
    }

    /// Whether a route or its tenant is paused.
    pub(crate) fn is_paused(&self, tenant: &str, route: &str) -> bool {
        self.last(tenant, route).any(|last| last == Last::Paused)
    }

    /// The start of a delivery's age: its event's receipt, its replay, or the end of its route's pause, whichever came last.
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
    fn a_route_is_paused_by_its_own_pause_and_by_its_tenants() {
        let mut pauses = Pauses::default();
        let paused = |pauses: &Pauses| {
            [("acme", "a"), ("acme", "b"), ("other", "a")]
                .map(|(tenant, route)| pauses.is_paused(tenant, route))
        };
        assert_eq!(paused(&pauses), [false; 3]);
        pauses.pause("acme", "a");
        assert_eq!(paused(&pauses), [true, false, false]);
        pauses.pause("acme", "");
        assert_eq!(paused(&pauses), [true, true, false]);
        pauses.resume("acme", "a", at(9));
        assert_eq!(paused(&pauses), [true, true, false], "by the tenant's pause");
        pauses.resume("acme", "", at(9));
        assert_eq!(paused(&pauses), [false; 3]);
    }

    #[test]
    fn age_counts_from_the_last_of_receipt_replay_and_resumption() {
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
