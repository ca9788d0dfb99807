//! Takes deliveries as they come due, sends each, and records what came of it before letting it go.
//!
//! The decisions are elsewhere ([`crate::pace`], [`crate::hold`], [`crate::prepare`], [`crate::classify`],
//! [`crate::conclude`]); this is the shell that asks them in order.

use crate::{
    classify::{Context, Exchange, Next, classify},
    conclude::{self, Conclusion, Ended, Timing},
    forward::Forwarder,
    hold::Hold,
    pace::Pace,
    pause::Pauses,
    prepare,
    retry::{is_too_old, too_old, within_age},
};
use jiff::Timestamp;
use metrics::{counter, gauge, histogram};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use talaria_bus::{
    Bus, Clock, Lane, Lease, Leased, Windows,
    time::{from_proto, since, to_proto},
};
use talaria_core::{config::Config, config::Route, id::DeliveryId};
use talaria_proto::v1::{DeliveryTask, Event, Fact, RouteChanged, Standing, fact::What};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How many deliveries of configured routes are in hand at once. They share it evenly: a few hundred routes have
/// the windows that they are configured with, more have less.
const IN_HAND: usize = 4096;

/// Beside these: deliveries of routes that were removed, which are parked at once.
const SPARE: usize = 64;

/// How long to wait for a bus that does not work.
const PATIENCE: Duration = Duration::from_secs(1);

/// The dispatcher. Clones share it.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Config>,
    bus: Bus,
    clock: Clock,
    forwarder: Forwarder,
    pauses: watch::Receiver<Arc<Pauses>>,
    lanes: Mutex<HashMap<Lane, Arc<Mutex<LaneState>>>>,
}

/// What is known of a route while the process runs.
#[derive(Default)]
struct LaneState {
    pace: Pace,
    hold: Hold,
}

/// What stands in the way of an attempt.
enum Wait {
    Held(Timestamp, String),
    Paced(Timestamp),
}

impl Dispatcher {
    pub(crate) fn new(
        config: Arc<Config>,
        bus: Bus,
        clock: Clock,
        forwarder: Forwarder,
        pauses: watch::Receiver<Arc<Pauses>>,
    ) -> Self {
        Self { inner: Arc::new(Inner { config, bus, clock, forwarder, pauses, lanes: Mutex::default() }) }
    }

    /// Works until it is told to stop; then what is under way has the configured time to finish.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let inner = &self.inner;
        let (tracker, give_up) = (TaskTracker::new(), CancellationToken::new());
        let hands = windows(&inner.config, &Pauses::default()).0.values().sum::<usize>() + SPARE;
        let hands = Arc::new(tokio::sync::Semaphore::new(hands));
        let mut pauses = inner.pauses.clone();
        inner.set_windows(&mut pauses).await;
        let following = CancellationToken::new();
        let _end = following.clone().drop_guard();
        tokio::spawn(self.clone().follow_pauses(pauses, following));
        while !stop.is_cancelled() {
            let Ok(hand) = Arc::clone(&hands).acquire_owned().await else { break };
            drop(hand);
            let taken = match inner.bus.take(hands.available_permits(), &stop).await {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::error!(%error, "cannot take deliveries");
                    tokio::select! { () = stop.cancelled() => {}, () = inner.clock.sleep(PATIENCE) => {} }
                    continue;
                }
            };
            for leased in taken {
                let Ok(hand) = Arc::clone(&hands).acquire_owned().await else { break };
                let (dispatcher, give_up) = (self.clone(), give_up.clone());
                tracker.spawn(async move {
                    gauge!("talaria_deliveries_in_hand").increment(1);
                    // What is dropped here stays leased, and is interrupted for whoever takes it next.
                    tokio::select! { () = give_up.cancelled() => {}, () = dispatcher.inner.deliver(leased) => {} }
                    gauge!("talaria_deliveries_in_hand").decrement(1);
                    drop(hand);
                });
            }
        }
        tracker.close();
        if tokio::time::timeout(inner.config.relay.drain, tracker.wait()).await.is_err() {
            tracing::warn!(attempts = tracker.len(), "giving up on attempts that did not finish in time");
            give_up.cancel();
            tracker.wait().await;
        }
    }
}

/// What is paused has a window of nothing.
fn windows(config: &Config, pauses: &Pauses) -> Windows {
    let routes =
        config.tenants.values().flat_map(|tenant| tenant.routes.values().map(move |route| (tenant, route)));
    let count = routes.clone().count();
    let window = |tenant: &str, route: &Route| {
        if pauses.hold(tenant, &route.name) { 0 } else { window(route.in_flight, count) }
    };
    let windows =
        routes.map(|(tenant, route)| (lane(&tenant.name, &route.name), window(&tenant.name, route)));
    Windows(windows.collect())
}

/// One of so many routes' window: what is configured, and no more than its share, so that routes which hang cannot
/// take all there is.
fn window(in_flight: u16, routes: usize) -> usize {
    usize::from(in_flight).min(IN_HAND / routes.max(1)).max(1)
}

fn lane(tenant: &str, route: &str) -> Lane {
    Lane { tenant: tenant.into(), route: route.into() }
}

impl Dispatcher {
    /// Sets the windows anew whenever something is paused or resumed.
    async fn follow_pauses(self, mut pauses: watch::Receiver<Arc<Pauses>>, end: CancellationToken) {
        let follow = async {
            while pauses.changed().await.is_ok() {
                self.inner.set_windows(&mut pauses).await;
            }
        };
        tokio::select! { () = end.cancelled() => {}, () = follow => {} }
    }
}

impl Inner {
    /// Sets them until the bus takes it.
    async fn set_windows(&self, pauses: &mut watch::Receiver<Arc<Pauses>>) {
        loop {
            let windows = windows(&self.config, &pauses.borrow_and_update());
            match self.bus.set_windows(windows).await {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "cannot set up the queue"),
            }
            self.clock.sleep(PATIENCE).await;
        }
    }

    /// Whether nothing of the delivery's route may be sent.
    fn is_paused(&self, task: &DeliveryTask) -> bool {
        self.pauses.borrow().hold(&task.tenant, &task.route)
    }

    /// From when on its age counts.
    fn age_from(&self, task: &DeliveryTask) -> Timestamp {
        self.pauses.borrow().age_from(task)
    }

    /// Gives a delivery back that was taken just before its route was paused.
    async fn give_back(&self, leased: &Leased) {
        while let Err(error) = self.bus.release(leased.lease).await {
            tracing::error!(%error, delivery = leased.task.delivery_id, "cannot give a delivery back");
            self.clock.sleep(PATIENCE).await;
        }
    }

    async fn deliver(&self, leased: Leased) {
        let task = &leased.task;
        let Ok(id) = task.delivery_id.parse::<DeliveryId>() else {
            // Fan-out made the id; should this ever happen, the lease ends and it is seen again.
            tracing::error!(delivery = task.delivery_id, "a delivery without a valid id");
            return;
        };
        let concluded = match self.config.route(&task.tenant, &task.route) {
            None => {
                let why = "the route is not configured any more; replay once it is back".to_owned();
                Some((conclude::park(task, self.clock.now(), why), None))
            }
            Some(_) if self.is_paused(task) && !leased.interrupted => return self.give_back(&leased).await,
            Some(route) => self.go_on(&leased, id, route).await,
        };
        match concluded {
            Some((conclusion, more)) => self.record(&leased, conclusion, more).await,
            None if self.is_paused(task) => self.give_back(&leased).await,
            None => tracing::warn!(delivery = task.delivery_id, "another relay has taken the delivery over"),
        }
    }

    /// One step of a delivery: put off, parked, or attempted. `None` when it is in somebody else's hands, or paused.
    async fn go_on(
        &self,
        leased: &Leased,
        id: DeliveryId,
        route: &Route,
    ) -> Option<(Conclusion, Option<Fact>)> {
        let (task, now) = (&leased.task, self.clock.now());
        let age_from = self.age_from(task);
        if leased.interrupted {
            let timing =
                Timing { now, retry: &route.retry, random: rand::random(), not_before: now, age_from };
            return Some((conclude::interrupted(task, id, timing), None));
        }
        if is_too_old(&route.retry, age_from, now) {
            return Some((conclude::park(task, now, too_old(&route.retry)), None));
        }
        let lane = self.lane(&task.tenant, &task.route);
        let put_off = match locked(&lane).admit(route, task, now) {
            Ok(()) => None,
            Err(Wait::Held(until, why)) => Some((until, format!("the route is held: {why}"), false)),
            Err(Wait::Paced(place)) => {
                Some((place, "waiting for its turn at the route's pace".to_owned(), true))
            }
        };
        if let Some((until, why, reserved)) = put_off {
            let until = within_age(&route.retry, age_from, until);
            return Some((conclude::put_off(task, now, until, why, reserved), None));
        }
        let prepared = match self.event(task.event_seq).await {
            Some(event) => prepare::request(route, &event, task, id),
            None => Err("its event is not kept any more".to_owned()),
        };
        match prepared {
            // The last look before what cannot be undone.
            Ok(_) if !self.holds(leased.lease).await || self.is_paused(task) => None,
            Ok(request) => Some(self.attempt(task, id, route, &lane, request).await),
            Err(why) => {
                Some((conclude::park(task, self.clock.now(), format!("cannot be sent: {why}")), None))
            }
        }
    }

    async fn attempt(
        &self,
        task: &DeliveryTask,
        id: DeliveryId,
        route: &Route,
        lane: &Mutex<LaneState>,
        request: prepare::Request,
    ) -> (Conclusion, Option<Fact>) {
        let (started_at, start) = (self.clock.now(), Instant::now());
        let guarded = request.guarded.clone();
        let exchange = self.forwarder.exchange(&route.url, request, route.timeout).await;
        let (took, now) = (start.elapsed(), self.clock.now());
        let context = Context {
            deliver_only: route.deliver_only,
            idempotency_key: &id.idempotency_key(task.generation),
            lost_attempt: (task.lost_attempt > 0).then_some(task.lost_attempt),
        };
        let verdict = classify(&exchange, context);
        let outcome = verdict.outcome.as_str_name().trim_start_matches("ATTEMPT_OUTCOME_").to_lowercase();
        let http_status = match &exchange {
            Exchange::Answered(answer) => Some(answer.status),
            _ => None,
        };
        tracing::info!(
            delivery = task.delivery_id,
            tenant = task.tenant,
            route = task.route,
            attempt = task.attempts + 1,
            outcome,
            http_status,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            detail = verdict.detail,
            "attempt"
        );
        histogram!("talaria_attempt_seconds").record(took);
        counter!("talaria_attempts_total", "outcome" => outcome).increment(1);

        let (not_before, change) =
            locked(lane).learn(route, task, &verdict.detail, &verdict.next, http_status, now);
        if let Some(RouteChanged { tenant, route, held_because, .. }) = &change {
            if held_because.is_empty() {
                tracing::info!(tenant, route, "the route is open again");
            } else {
                tracing::warn!(tenant, route, reason = held_because, "the route is held");
            }
        }
        let ended = Ended { started_at, took: Some(took), http_status, guarded, verdict };
        let age_from = self.age_from(task);
        let not_before = within_age(&route.retry, age_from, not_before);
        let timing = Timing { now, retry: &route.retry, random: rand::random(), not_before, age_from };
        let changed = change.map(|changed| Fact {
            at: Some(to_proto(now)),
            event_seq: 0,
            what: Some(What::RouteChanged(changed)),
        });
        (conclude::attempt(task, id, ended, timing), changed)
    }

    fn lane(&self, tenant: &str, route: &str) -> Arc<Mutex<LaneState>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(lane(tenant, route)).or_default())
    }

    /// Asks until the bus answers.
    async fn holds(&self, lease: Lease) -> bool {
        loop {
            match self.bus.holds(lease).await {
                Ok(holds) => return holds,
                Err(error) => tracing::error!(%error, "cannot tell whether a delivery is still ours"),
            }
            self.clock.sleep(PATIENCE).await;
        }
    }

    /// Asks until the bus answers: the lease is ours in the meantime.
    async fn event(&self, seq: u64) -> Option<Arc<Event>> {
        loop {
            match self.bus.event(seq).await {
                Ok(event) => return event,
                Err(error) => tracing::error!(%error, seq, "cannot read an event"),
            }
            self.clock.sleep(PATIENCE).await;
        }
    }

    /// Records until the bus takes it: what happened must not be forgotten.
    async fn record(&self, leased: &Leased, conclusion: Conclusion, more: Option<Fact>) {
        let state = standing_of(&conclusion.fact).map(Standing::state);
        let facts: Vec<Fact> = [conclusion.fact].into_iter().chain(more).collect();
        loop {
            let recorded = match &conclusion.task {
                Some(task) => self.bus.later(leased.lease, task.clone(), facts.clone()).await,
                None => self.bus.settle(leased.lease, facts.clone()).await,
            };
            match recorded {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(%error, delivery = leased.task.delivery_id, "cannot record an attempt");
                }
            }
            self.clock.sleep(PATIENCE).await;
        }
        if let (None, Some(state)) = (&conclusion.task, state) {
            let name = state.as_str_name().trim_start_matches("DELIVERY_STATE_").to_lowercase();
            counter!("talaria_deliveries_total", "state" => name).increment(1);
            let age = since(self.clock.now(), from_proto(leased.task.received_at.as_ref()));
            histogram!("talaria_delivery_seconds").record(age);
        }
    }
}

fn standing_of(fact: &Fact) -> Option<&Standing> {
    match fact.what.as_ref()? {
        What::AttemptFinished(finished) => finished.standing.as_ref(),
        What::DeliveryMoved(moved) => moved.standing.as_ref(),
        _ => None,
    }
}

fn locked(lane: &Mutex<LaneState>) -> std::sync::MutexGuard<'_, LaneState> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LaneState {
    /// Whether an attempt may begin. A held route reserves nobody a place, or its backlog would reserve hours.
    fn admit(&mut self, route: &Route, task: &DeliveryTask, now: Timestamp) -> Result<(), Wait> {
        if let Some((until, why)) = self.hold.blocks(now) {
            return Err(Wait::Held(until, why));
        }
        let reserved = task.slot_reserved.then(|| from_proto(task.due_at.as_ref()));
        self.pace.admit(route.pace, now, reserved).map_err(Wait::Paced)?;
        self.hold.begin(now, route.timeout);
        Ok(())
    }

    /// What an answer tells about the route: when this delivery may go on, and whether the route's hold changed.
    fn learn(
        &mut self,
        route: &Route,
        task: &DeliveryTask,
        detail: &str,
        next: &Next,
        http_status: Option<u16>,
        now: Timestamp,
    ) -> (Timestamp, Option<RouteChanged>) {
        let changed = |held_because: &str, held_until: Option<Timestamp>| {
            Some(RouteChanged {
                tenant: task.tenant.clone(),
                route: task.route.clone(),
                held_because: held_because.to_owned(),
                held_until: held_until.map(to_proto),
            })
        };
        match next {
            Next::RouteFault => {
                let until = self.hold.fault(now, detail);
                (crate::hold::own_turn(until, task.route_faults), changed(detail, Some(until)))
            }
            // No answer tells nothing about the route's configuration.
            _ if http_status.is_none() => (now, None),
            _ => {
                let not_before = match next {
                    Next::Slower { retry_after } => self.pace.refused(route.pace, now, *retry_after),
                    _ => {
                        self.pace.accepted();
                        now
                    }
                };
                let change = if self.hold.clear() { changed("", None) } else { None };
                (not_before, change)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paused_has_no_window_and_keeps_its_place_among_the_others() {
        let config = crate::testing::config("in_flight: 7");
        let mut pauses = Pauses::default();
        assert_eq!(windows(&config, &pauses).0, [(lane("acme", "video"), 7)].into());
        pauses.pause("acme", "");
        assert_eq!(windows(&config, &pauses).0, [(lane("acme", "video"), 0)].into());
    }

    #[test]
    fn routes_that_hang_leave_every_other_its_share() {
        for (in_flight, routes, expected) in
            [(16, 1, 16), (16, 256, 16), (16, 260, 15), (1024, 5, 819), (9, 9_999, 1)]
        {
            assert_eq!(window(in_flight, routes), expected, "{routes} routes");
            assert!(routes > IN_HAND || window(in_flight, routes) * routes <= IN_HAND);
        }
    }
}
