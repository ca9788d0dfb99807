//! The pauses of routes and tenants.

use super::time::{read, write};
use crate::decisions::pause::Pauses;
use std::collections::BTreeMap;
use talaria_proto::{
    time::from_proto,
    v1::{Pause, PauseChanged},
};

/// The last change of each tenant and route, also if it was resumed: ages count from then.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Paused {
    pub pauses: Pauses,
    last: BTreeMap<String, BTreeMap<String, PauseChanged>>,
}

impl Paused {
    pub(super) fn change(&mut self, changed: &PauseChanged) {
        let Some(pause) = &changed.pause else { return };
        let Pause { tenant, route, since, .. } = pause;
        if changed.paused {
            self.pauses.pause(tenant, route);
        } else {
            self.pauses.resume(tenant, route, from_proto(since.as_ref()));
        }
        self.last.entry(tenant.clone()).or_default().insert(route.clone(), changed.clone());
    }

    /// The pause of this route alone; with an empty route, the tenant's.
    #[cfg(test)]
    pub(super) fn of(&self, tenant: &str, route: &str) -> Option<&Pause> {
        self.last.get(tenant)?.get(route).filter(|last| last.paused)?.pause.as_ref()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PauseChanged> {
        self.last.values().flat_map(BTreeMap::values)
    }

    pub(super) fn current(&self) -> impl Iterator<Item = &Pause> {
        self.all().filter(|last| last.paused).filter_map(|last| last.pause.as_ref())
    }

    /// The changes by a clock that is `by` nanoseconds behind: a pause with an end keeps its remaining time.
    pub(super) fn set_back(&self, by: i64) -> Vec<PauseChanged> {
        let mut all: Vec<PauseChanged> = self.all().cloned().collect();
        for until in all.iter_mut().filter_map(|last| last.pause.as_mut()?.until.as_mut()) {
            *until = write(read(Some(&*until)).saturating_sub(by));
        }
        all
    }
}
