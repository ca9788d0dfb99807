//! What is known of each route while its deliveries are in hand, and recalled when they come into hand: from the view
//! what was sent and whether the route is shut, from the queue which places are reserved.

use crate::{
    admission::{Admission, OPEN, turn},
    breaker::{Change, Shut},
    pace::Remembered,
    projector,
    view::{View, recall},
};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    iter,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use talaria_bus::{
    Bus, Clock, Error, Lane,
    time::{before, from_proto, to_proto},
};
use talaria_core::config::{Config, Route};
use talaria_proto::v1::RouteChanged;
use tokio::sync::{OwnedMappedMutexGuard, OwnedMutexGuard, watch};

/// How long to wait for a bus that does not work.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of one route.
#[derive(Default)]
struct Known {
    /// None before the first time, and once the route is configured otherwise.
    recalled: Arc<tokio::sync::Mutex<Option<Recalled>>>,
    /// Requests that may have gone out and are not journalled yet, by the number of whoever sends them.
    under_way: Mutex<HashMap<u64, Timestamp>>,
}

/// A route's admission, with the term in which it was recalled and the configuration that it is for.
pub(crate) struct Recalled {
    term: u64,
    route: Arc<Route>,
    admission: Admission,
}

/// Whoever has it has the route alone.
pub(crate) type Hold = OwnedMappedMutexGuard<Option<Recalled>, Admission>;

/// The routes of one relay.
pub(crate) struct Routes {
    config: watch::Receiver<Arc<Config>>,
    bus: Bus,
    view: View,
    clock: Clock,
    known: Mutex<HashMap<Lane, Arc<Known>>>,
    /// Numbers those who send.
    senders: AtomicU64,
}

/// One of them, as it was configured when a delivery came into hand, until what became of that is journalled.
pub(crate) struct RouteInHand {
    /// As the delivery goes out.
    pub route: Arc<Route>,
    known: Arc<Known>,
    lane: Lane,
    term: u64,
    sender: u64,
}

impl RouteInHand {
    /// A request may go out from now on.
    pub(crate) fn sends(&self, now: Timestamp) {
        self.known.under_way().insert(self.sender, now);
    }
}

impl Drop for RouteInHand {
    fn drop(&mut self) {
        self.known.under_way().remove(&self.sender);
    }
}

impl Known {
    fn under_way(&self) -> MutexGuard<'_, HashMap<u64, Timestamp>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>, bus: Bus, view: View, clock: Clock) -> Self {
        Self { config, bus, view, clock, known: Mutex::default(), senders: AtomicU64::default() }
    }

    fn configured(&self, lane: &Lane) -> Option<Arc<Route>> {
        self.config.borrow().route(&lane.tenant, &lane.route).map(Arc::clone)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Lane, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The route of a delivery that was handed out in a term, as it is configured now, with what is known of it: recalled
    /// if it is not, or if the route is configured otherwise since, or others have had it in between.
    pub(crate) async fn open(&self, lane: Lane, term: u64) -> Option<(RouteInHand, Hold)> {
        let known = Arc::clone(self.known().entry(lane.clone()).or_default());
        let recalled = Arc::clone(&known.recalled).lock_owned().await;
        // Asked for while nobody else has it, so that nobody goes back to what was before.
        let route = self.configured(&lane)?;
        let sender = self.senders.fetch_add(1, Relaxed);
        let in_hand = RouteInHand { route, known, lane, term, sender };
        let hold = self.hold(&in_hand, recalled).await;
        Some((in_hand, hold))
    }

    /// The same once more. None where the route has been removed or configured otherwise since: what an old
    /// configuration meets says nothing of the new one.
    pub(crate) async fn again(&self, in_hand: &RouteInHand) -> Option<Hold> {
        let recalled = Arc::clone(&in_hand.known.recalled).lock_owned().await;
        let is_current =
            self.configured(&in_hand.lane).is_some_and(|route| Arc::ptr_eq(&route, &in_hand.route));
        if is_current { Some(self.hold(in_hand, recalled).await) } else { None }
    }

    async fn hold(&self, in_hand: &RouteInHand, mut recalled: OwnedMutexGuard<Option<Recalled>>) -> Hold {
        let RouteInHand { route, term, lane, .. } = in_hand;
        let admission = match recalled.take() {
            Some(known) if known.term == *term && Arc::ptr_eq(&known.route, route) => known.admission,
            _ => {
                let admission = self.recall(in_hand).await;
                self.set_gate(lane, admission.gate()).await;
                admission
            }
        };
        OwnedMutexGuard::map(recalled, |recalled| {
            &mut recalled.insert(Recalled { term: *term, route: Arc::clone(route), admission }).admission
        })
    }

    /// Lets the queue know how a route's breaker stands. Until this is journalled the route is to be held: whoever recalls
    /// it next has to find it there.
    pub(crate) async fn changed(
        &self,
        in_hand: &RouteInHand,
        hold: &Admission,
        change: Change,
    ) -> RouteChanged {
        self.set_gate(&in_hand.lane, hold.gate()).await;
        let Lane { tenant, route: name } = &in_hand.lane;
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

    /// After a change of the configuration: what is configured otherwise is recalled by its next delivery, which nothing
    /// holds back; and so nothing holds back what is to be parked because its route is gone.
    pub(crate) async fn configured_anew(&self) {
        let lanes: Vec<(Lane, Arc<Known>)> =
            self.known().iter().map(|(lane, known)| (lane.clone(), Arc::clone(known))).collect();
        for (lane, known) in lanes {
            let mut recalled = known.recalled.lock().await;
            let route = self.configured(&lane);
            let is_current =
                |known: &Recalled| route.as_ref().is_some_and(|route| Arc::ptr_eq(route, &known.route));
            if recalled.as_ref().is_some_and(|known| !is_current(known)) {
                *recalled = None;
                self.set_gate(&lane, OPEN).await;
            }
        }
        let is_configured = |lane: &Lane| self.configured(lane).is_some();
        // Whoever still has one in hand counts for it if it comes back.
        self.known().retain(|lane, known| is_configured(lane) || Arc::strong_count(known) > 1);
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
        // Before the journal is looked at, so that each is in the one or in the other.
        let under_way: Vec<Timestamp> = route.known.under_way().values().copied().collect();
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
        recalled.sent.extend(iter::repeat_n(now, survey.held_elsewhere).chain(under_way));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admission::Answer, testing};
    use std::collections::BTreeMap;
    use talaria_proto::v1::DeliveryTask;

    /// Two requests are under way when the configuration changes, and the pace allows two.
    #[tokio::test]
    async fn what_is_under_way_counts_for_the_route_as_it_is_configured_now() {
        let directory = tempfile::tempdir().unwrap();
        let bus = Bus::embedded(directory.path(), Clock::System).await.unwrap();
        let view = View::open(directory.path(), &bus.journal_bounds().await.unwrap()).unwrap();
        let (change, config) = watch::channel(Arc::new(testing::config("pace: 2/min")));
        let routes = Routes::new(config, bus, view, Clock::System);
        let lane = lane("acme", "video");
        let open = async || routes.open(lane.clone(), 0).await.unwrap();
        let reload = async |keys| {
            change.send_replace(Arc::new(testing::config(keys)));
            routes.configured_anew().await;
        };
        let without = async || {
            let none = Config { tenants: BTreeMap::new(), ..testing::config("") };
            change.send_replace(Arc::new(none));
            routes.configured_anew().await;
        };
        let admit = |hold: &mut Hold| hold.admit(&DeliveryTask::default(), Clock::System.now());

        let mut under_way = Vec::new();
        for _ in 0..2 {
            let (in_hand, mut hold) = open().await;
            assert_eq!(admit(&mut hold), Answer::Go);
            in_hand.sends(Clock::System.now());
            under_way.push(in_hand);
        }
        assert!(routes.again(&under_way[0]).await.is_some(), "nothing has changed");
        reload("pace: 2/min\nprompt: another").await;
        assert!(routes.again(&under_way[0]).await.is_none(), "what it meets says nothing of the new one");
        let (in_hand, mut hold) = open().await;
        assert!(matches!(admit(&mut hold), Answer::At(_)), "two are under way");
        assert_eq!(in_hand.route.prompt.leading_text().unwrap().to_str_lossy(), "another");
        drop((in_hand, hold));

        // Removed and back while they still are.
        without().await;
        assert!(routes.open(lane.clone(), 0).await.is_none());
        reload("pace: 2/min").await;
        assert!(matches!(admit(&mut open().await.1), Answer::At(_)), "they still are");

        // They were never sent, and nothing is journalled of them.
        under_way.clear();
        reload("pace: 2/min\nprompt: third").await;
        assert_eq!(admit(&mut open().await.1), Answer::Go);
        // What is removed is forgotten.
        without().await;
        assert!(routes.known().is_empty());
    }
}
