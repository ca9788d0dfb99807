//! What is known of each route while its deliveries are in hand, and recalled when they come into hand: from the view
//! what was sent and whether the route is shut, from the queue which places are reserved.

use crate::{
    admission::{Admission, turn},
    breaker::{Change, Shut},
    pace::Remembered,
    projector,
    view::{View, recall},
};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    iter,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use talaria_bus::{
    Bus, Clock, Error, Lane,
    time::{before, from_proto, to_proto},
};
use talaria_core::config::Route;
use talaria_proto::v1::RouteChanged;
use tokio::sync::MappedMutexGuard;

/// How long to wait for a bus that does not work.
const PATIENCE: Duration = Duration::from_secs(1);

/// A route's admission with the term in which it was recalled; none before the first time.
type Known = tokio::sync::Mutex<Option<(u64, Admission)>>;

/// The routes of one relay.
pub(crate) struct Routes {
    bus: Bus,
    view: View,
    clock: Clock,
    known: Mutex<HashMap<Lane, Arc<Known>>>,
}

/// One of them. Whoever has it has it alone.
pub(crate) struct RouteInHand {
    known: Arc<Known>,
    lane: Lane,
    route: Arc<Route>,
    term: u64,
}

impl Routes {
    pub(crate) fn new(bus: Bus, view: View, clock: Clock) -> Self {
        Self { bus, view, clock, known: Mutex::default() }
    }

    /// The route of a delivery that was handed out in a term.
    pub(crate) fn route(&self, lane: Lane, route: &Arc<Route>, term: u64) -> RouteInHand {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Arc::clone(known.entry(lane.clone()).or_default());
        RouteInHand { known, lane, route: Arc::clone(route), term }
    }

    /// What is known of it; recalled if it is not, or if others have had the route in between.
    pub(crate) async fn admission<'a>(&self, route: &'a RouteInHand) -> MappedMutexGuard<'a, Admission> {
        let mut known = route.known.lock().await;
        let admission = match known.take() {
            Some((term, admission)) if term == route.term => admission,
            _ => {
                let admission = self.recall(route).await;
                self.set_gate(&route.lane, admission.gate()).await;
                admission
            }
        };
        tokio::sync::MutexGuard::map(known, |known| &mut known.insert((route.term, admission)).1)
    }

    /// Lets the queue know how a route's breaker stands.
    pub(crate) async fn changed(&self, route: &RouteInHand, change: Change) -> RouteChanged {
        // Another change may have come since; what stands now is what counts, and nobody changes it meanwhile.
        let admission = self.admission(route).await;
        self.set_gate(&route.lane, admission.gate()).await;
        drop(admission);
        let Lane { tenant, route: name } = &route.lane;
        let mut changed =
            RouteChanged { tenant: tenant.to_string(), route: name.to_string(), ..RouteChanged::default() };
        match change {
            Change::Admitting => tracing::info!(%tenant, route = %name, "the route is open again"),
            Change::Shut(Shut { until, cause, tries, why }) => {
                tracing::warn!(%tenant, route = %name, reason = why, %until, "the route is shut");
                changed.held_because = why;
                changed.held_until = Some(to_proto(until));
                changed.set_cause(cause.into());
                changed.tries = tries;
            }
        }
        changed
    }

    async fn recall(&self, route: &RouteInHand) -> Admission {
        loop {
            match self.try_to_recall(route).await {
                Ok(admission) => return admission,
                Err(error) => tracing::error!(%error, route = %route.lane.route, "cannot recall a route"),
            }
            self.clock.sleep(PATIENCE).await;
        }
    }

    async fn try_to_recall(&self, route: &RouteInHand) -> Result<Admission, Error> {
        let Lane { tenant, route: name } = route.lane.clone();
        // Whoever had the route before has journalled what he did.
        projector::caught_up(self.view.position(), self.bus.journal_bounds().await?.newest).await;
        let now = self.clock.now();
        let window = route.route.pace.map_or(Duration::ZERO, |pace| pace.window);
        let since = before(now, 2 * window);
        let recalled = self.view.read(move |view| recall::recall(view, &tenant, &name, since)).await;
        let mut recalled = recalled.unwrap_or_else(|error| {
            tracing::error!(%error, "the status view cannot tell what was sent: waiting for a window");
            let count = route.route.pace.map_or(0, |pace| pace.count as usize);
            recall::Recalled { sent: vec![now; count], shut: None }
        });
        let survey = self.bus.survey(route.lane.clone(), |task| {
            task.slot_reserved.then(|| (from_proto(task.due_at.as_ref()), turn(task)))
        });
        let survey = survey.await?;
        recalled.sent.extend(iter::repeat_n(now, survey.held_elsewhere));
        let remembered = Remembered { sent: recalled.sent, reserved: survey.found };
        Ok(Admission::new(&route.route, remembered, recalled.shut, now))
    }

    async fn set_gate(&self, lane: &Lane, (until, window): (Timestamp, usize)) {
        while let Err(error) = self.bus.set_gate(lane.clone(), until, window).await {
            tracing::error!(%error, route = %lane.route, "cannot hold a route's deliveries back");
            self.clock.sleep(PATIENCE).await;
        }
    }
}

pub(crate) fn lane(tenant: &str, route: &str) -> Lane {
    Lane { tenant: tenant.into(), route: route.into() }
}
