//! The windows of lanes, by the current configuration.

use super::{Machine, RouteAdmission};
use crate::partition::state::LaneId;
use std::sync::Arc;
use talaria_core::config::Config;

/// The window of lanes whose route is not configured any more.
const UNCONFIGURED: usize = 16;

impl Machine {
    /// Applies another configuration.
    pub(crate) fn configure(&mut self, config: Arc<Config>) {
        self.config = config;
        let is_current = |lane: &LaneId, known: &RouteAdmission| {
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
            // The next delivery restores the admission, and the gate is open until then.
            self.routes.remove(&lane);
            self.update_gate(lane);
        }
        self.set_windows();
    }

    /// Updates the agenda by the state's changes; new lanes get their windows.
    pub(super) fn refresh(&mut self) {
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

    /// A route's share of the relay's limit in flight, so that routes that hang cannot use all of it.
    fn share(&self) -> usize {
        (self.config.relay.in_flight / self.config.routes().count().max(1)).max(1)
    }

    pub(super) fn set_windows(&mut self) {
        let (share, lanes) = (self.share(), self.state.lanes().collect::<Vec<_>>());
        self.known_lanes = lanes.len();
        for lane in lanes {
            self.set_window(lane, share);
        }
    }

    fn set_window(&mut self, id: LaneId, share: usize) {
        let lane = self.state.lane(id);
        let window = match self.config.route(&lane.tenant, &lane.route) {
            Some(_) if self.state.pauses().is_paused(&lane.tenant, &lane.route) => 0,
            // Its secret cannot be read: its deliveries wait as if it were paused.
            Some(route) if route.down.is_some() => 0,
            Some(route) => usize::from(route.in_flight).min(share),
            None => UNCONFIGURED,
        };
        self.agenda.set_window(id, window);
    }
}
