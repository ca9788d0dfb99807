//! What was recorded, folded as the view folds it.

use crate::{decisions::breaker::{Change, Shut}, decisions::fold::Folded};
use jiff::Timestamp;
use std::collections::HashMap;
use talaria_bus::{Lane, time::from_proto};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::v1::{DeliveryRef, DeliveryState, Fact, fact::What};

#[derive(Default)]
pub(super) struct Journal {
    pub deliveries: HashMap<DeliveryId, Folded>,
    pub starts: HashMap<Lane, Vec<Timestamp>>,
    pub shut: HashMap<Lane, Shut>,
}

impl Journal {
    pub(super) fn record(&mut self, fact: &Fact) {
        let at = from_proto(fact.at.as_ref());
        match fact.what.as_ref().unwrap() {
            What::EventPlanned(planned) => {
                let event = planned.event.as_ref().unwrap();
                let id: EventId = event.id.parse().unwrap();
                for route in &planned.routes {
                    let delivery = DeliveryRef {
                        id: DeliveryId::new(id, route).to_string(),
                        tenant: event.tenant.clone(),
                        route: route.clone(),
                    };
                    self.folded(&delivery).plan(event, at);
                }
            }
            What::AttemptFinished(finished) => {
                let delivery = finished.delivery.as_ref().unwrap();
                self.folded(delivery).stand(finished.standing.as_ref().unwrap(), at);
                let started_at = from_proto(finished.attempt.as_ref().unwrap().started_at.as_ref());
                let lane =
                    Lane { tenant: delivery.tenant.as_str().into(), route: delivery.route.as_str().into() };
                self.starts.entry(lane).or_default().push(started_at);
            }
            What::DeliveryMoved(moved) => {
                self.folded(moved.delivery.as_ref().unwrap()).stand(moved.standing.as_ref().unwrap(), at);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn changed(&mut self, lane: &Lane, change: Change) {
        match change {
            Change::Shut(shut) => self.shut.insert(lane.clone(), shut),
            Change::Admitting => self.shut.remove(lane),
        };
    }

    fn folded(&mut self, delivery: &DeliveryRef) -> &mut Folded {
        let folded = self.deliveries.entry(delivery.id.parse().unwrap());
        let folded = folded.or_insert_with(|| Folded::new(delivery));
        let state = folded.delivery.state();
        assert_eq!(state, DeliveryState::Waiting, "{} moves on from its end", delivery.id);
        folded
    }

    pub(super) fn count(&self, state: DeliveryState) -> usize {
        self.deliveries.values().filter(|folded| folded.delivery.state() == state).count()
    }
}
