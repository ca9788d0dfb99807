//! The invariants at the end of a week.

use super::{World, route_name};
use crate::{
    decisions::fold::Folded,
    simulation::agenda::{DELIVER_ONLY, ROUTES},
};
use std::collections::HashMap;
use talaria_core::id::DeliveryId;
use talaria_proto::v1::DeliveryState;

impl World {
    /// Checks that every delivery has one end, and that every run of Hermes belongs to one. Gives a summary.
    pub(super) fn account(&self) -> String {
        let counts = [DeliveryState::Delivered, DeliveryState::Parked, DeliveryState::Ambiguous]
            .map(|state| format!("{} {}", self.journal.count(state), state.name()));
        let summary = format!(
            "{} events, {} requests, {} owners: {}",
            self.last_event,
            self.requests,
            self.runs,
            counts.join(", ")
        );
        if self.journal.has_lost {
            // Deliveries may be lost with the journal's end.
            return summary;
        }
        assert_eq!(self.journal.count(DeliveryState::Waiting), 0);
        assert!(self.journal.unpublished.is_empty(), "not told: {:?}", self.journal.unpublished);
        let is_told = |delivery: &&Folded| delivery.delivery.route == format!("r{ROUTES}");
        let told = self.journal.deliveries.values().filter(is_told).count();
        let summary = format!("{summary}; {told} notices");
        let summary = format!("{summary}; jobs {}", self.account_of_jobs());
        let mut ran: HashMap<DeliveryId, u32> = HashMap::new();
        for ((tenant, route), hermes) in &self.hermes {
            let is_exact = !self.surprised.contains(&route_name(*tenant, *route)) && !self.was_clock_set;
            if is_exact {
                assert_eq!(hermes.refusals, 0, "t{tenant}/r{route} was faster than agreed");
            }
            for (key, times) in &hermes.ran {
                let (id, _) = key.rsplit_once('.').unwrap();
                *ran.entry(id.parse().unwrap()).or_default() += times;
            }
        }
        for (id, folded) in &self.journal.deliveries {
            if self.journal.planned_again.contains(id) {
                // Its event came again after it was forgotten.
                ran.remove(id);
                continue;
            }
            let (times, delivery) = (ran.remove(id).unwrap_or(0), &folded.delivery);
            let known = [delivery.state() == DeliveryState::Delivered, times > 0];
            let lost = delivery.attempts > 0;
            // A deliver_only route whose failure's answer was lost calls the repeat a duplicate, too.
            let unheard = delivery.reason.contains("whose answer was lost") && delivery.route == DELIVER_ONLY;
            assert!(known != [true, false] || unheard, "{delivery:?} was never taken");
            assert!(known != [false, true] || lost, "{delivery:?} was never sent");
            let is_told = delivery.reason.contains("twice") || delivery.state() != DeliveryState::Delivered;
            assert!(
                times <= 1 || is_told || self.was_clock_set,
                "{delivery:?} ran {times} times, and nothing says so"
            );
        }
        assert!(ran.is_empty(), "Hermes ran deliveries that were not planned: {ran:?}");
        summary
    }
}
