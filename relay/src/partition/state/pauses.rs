//! The pauses of routes and tenants.

use crate::decisions::pause::Pauses;
use std::collections::BTreeMap;
use talaria_bus::time::from_proto;
use talaria_proto::v1::{Pause, PauseChanged};

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
    pub(super) fn of(&self, tenant: &str, route: &str) -> Option<&Pause> {
        self.last.get(tenant)?.get(route).filter(|last| last.paused)?.pause.as_ref()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PauseChanged> {
        self.last.values().flat_map(BTreeMap::values)
    }
}
