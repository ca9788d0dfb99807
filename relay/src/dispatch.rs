//! Takes deliveries as they come due, sends each, and records what came of it before letting it go.
//!
//! The decisions are elsewhere ([`crate::step`], [`crate::prepare`]); this is the shell that asks them in order.

use crate::{
    conclude::{self, Conclusion},
    forward::Forwarder,
    pause::Pauses,
    prepare,
    routes::{Hold, RouteInHand, Routes, lane},
    step::{self, After, Before, InHand, Sent},
    view::View,
};
use metrics::{counter, gauge, histogram};
use opentelemetry::KeyValue;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use talaria_bus::{
    Bus, Clock, Lease, Leased, Windows,
    time::{from_proto, since, to_proto},
    trace::{Kind, Span, Tracer, trace_id},
};
use talaria_core::{config::Config, config::Route, id::DeliveryId};
use talaria_proto::v1::{AttemptOutcome, DeliveryTask, Event, Fact, Standing, fact::What};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Beside `relay.in_flight`: deliveries of routes that were removed, which are parked at once.
const SPARE: usize = 64;

/// How long to wait for a bus that does not work.
const PATIENCE: Duration = Duration::from_secs(1);

/// The dispatcher. Clones share it.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    inner: Arc<Inner>,
}

struct Inner {
    /// As it is now.
    config: watch::Receiver<Arc<Config>>,
    bus: Bus,
    clock: Clock,
    forwarder: Forwarder,
    routes: Routes,
    pauses: watch::Receiver<Arc<Pauses>>,
    tracer: Tracer,
}

/// What becomes of a delivery that was taken.
enum Step {
    /// This is recorded, with what changed about its route, which is held until it is.
    Record(Box<Conclusion>, Option<Box<(Fact, Hold)>>),
    /// It waits on untouched.
    GiveBack,
    /// It is in somebody else's hands.
    TakenOver,
}

impl Step {
    fn record(conclusion: Conclusion) -> Self {
        Self::Record(Box::new(conclusion), None)
    }
}

impl Dispatcher {
    pub(crate) fn new(
        config: watch::Receiver<Arc<Config>>,
        bus: Bus,
        clock: Clock,
        forwarder: Forwarder,
        view: View,
    ) -> Self {
        let pauses = view.pauses();
        // Seen before the first one comes.
        gauge!("talaria_deliveries_in_hand").set(0.0);
        let routes = Routes::new(config.clone(), bus.clone(), view, clock.clone());
        Self {
            inner: Arc::new(Inner {
                config,
                bus,
                clock,
                forwarder,
                routes,
                pauses,
                tracer: Tracer::default(),
            }),
        }
    }

    /// Works until it is told to stop; then what is under way has the configured time to finish.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let inner = &self.inner;
        let (tracker, give_up) = (TaskTracker::new(), CancellationToken::new());
        let mut changes = Changes { config: inner.config.clone(), pauses: inner.pauses.clone() };
        let config = inner.set_windows(&mut changes).await;
        let hands = Arc::new(Semaphore::new(in_hand(&config)));
        let following = CancellationToken::new();
        let _end = following.clone().drop_guard();
        let follow = self.clone().follow(changes, Arc::clone(&config));
        tokio::spawn(following.clone().run_until_cancelled_owned(follow));
        tokio::spawn(following.run_until_cancelled_owned(resize(
            Arc::clone(&hands),
            in_hand(&config),
            inner.config.clone(),
        )));
        while !stop.is_cancelled() {
            let Ok(hand) = Arc::clone(&hands).acquire_owned().await else { break };
            drop(hand);
            let taken = match inner.bus.take(hands.available_permits().max(1), &stop).await {
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
        if tokio::time::timeout(inner.config().relay.drain, tracker.wait()).await.is_err() {
            tracing::warn!(attempts = tracker.len(), "giving up on attempts that did not finish in time");
            give_up.cancel();
            tracker.wait().await;
        }
    }
}

/// What is paused has a window of nothing.
fn windows(config: &Config, pauses: &Pauses) -> Windows {
    let count = config.routes().count();
    let window = |tenant: &str, route: &Route| {
        if pauses.hold(tenant, &route.name) {
            return 0;
        }
        window(route.in_flight, count, config.relay.in_flight)
    };
    let windows =
        config.routes().map(|(tenant, route)| (lane(&tenant.name, &route.name), window(&tenant.name, route)));
    Windows(windows.collect())
}

/// One of so many routes' window: what is configured, and no more than its share of what the relay has in hand, so
/// that routes which hang cannot take all there is.
fn window(in_flight: u16, routes: usize, in_hand: usize) -> usize {
    usize::from(in_flight).min(in_hand / routes.max(1)).max(1)
}

/// How many deliveries are in hand at once.
fn in_hand(config: &Config) -> usize {
    config.relay.in_flight + SPARE
}

/// Keeps as many hands as are configured, at first this many. Where there are to be fewer, those that are busy go when they
/// are done.
async fn resize(hands: Arc<Semaphore>, mut size: usize, mut config: watch::Receiver<Arc<Config>>) {
    loop {
        let wanted = in_hand(&config.borrow_and_update());
        hands.add_permits(wanted.saturating_sub(size));
        size = size.max(wanted);
        let fewer = u32::try_from(size - wanted).unwrap_or(u32::MAX);
        let changed = tokio::select! {
            Ok(gone) = hands.acquire_many(fewer), if fewer > 0 => {
                gone.forget();
                size = wanted;
                continue;
            }
            changed = config.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What is followed while deliveries go out.
struct Changes {
    config: watch::Receiver<Arc<Config>>,
    pauses: watch::Receiver<Arc<Pauses>>,
}

impl Dispatcher {
    /// Goes along with what is paused and resumed and with the configuration, from this one on.
    async fn follow(self, mut changes: Changes, mut before: Arc<Config>) {
        loop {
            let changed = tokio::select! {
                changed = changes.pauses.changed() => changed,
                // Where nobody changes it any more, it stays.
                Ok(()) = changes.config.changed() => Ok(()),
            };
            if changed.is_err() {
                return;
            }
            let now = self.inner.set_windows(&mut changes).await;
            if !Arc::ptr_eq(&before, &now) {
                self.inner.routes.configured_anew().await;
                self.inner.forwarder.keep_only(&now);
                before = now;
            }
        }
    }
}

impl Inner {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Sets them until the bus takes it, by the configuration that this gives.
    async fn set_windows(&self, changes: &mut Changes) -> Arc<Config> {
        loop {
            let config = Arc::clone(&changes.config.borrow_and_update());
            let windows = windows(&config, &changes.pauses.borrow_and_update());
            match self.bus.set_windows(windows).await {
                Ok(()) => return config,
                Err(error) => tracing::error!(%error, "cannot set up the queue"),
            }
            self.clock.sleep(PATIENCE).await;
        }
    }

    /// Whether nothing of the delivery's route may be sent.
    fn is_paused(&self, task: &DeliveryTask) -> bool {
        self.pauses.borrow().hold(&task.tenant, &task.route)
    }

    async fn deliver(&self, leased: Leased) {
        let task = &leased.task;
        let Ok(id) = task.delivery_id.parse::<DeliveryId>() else {
            // Fan-out made the id; should this ever happen, the lease ends and it is seen again.
            tracing::error!(delivery = task.delivery_id, "a delivery without a valid id");
            return;
        };
        let gone = || Step::record(step::without_route(task, id, leased.interrupted, self.clock.now()));
        let is_configured = self.config().route(&task.tenant, &task.route).is_some();
        // Kept until what became of it is journalled.
        let mut in_hand = None;
        let step = if is_configured && self.is_paused(task) && !leased.interrupted {
            Step::GiveBack
        } else if is_configured
            && let Some((route, hold)) = self.routes.open(lane(&task.tenant, &task.route), leased.term).await
        {
            self.go_on(&leased, id, in_hand.insert(route), hold).await
        } else {
            gone()
        };
        if leased.interrupted && matches!(step, Step::Record(..)) {
            counter!("talaria_attempts_total", "outcome" => "interrupted").increment(1);
        }
        match step {
            Step::Record(conclusion, changed) => self.record(&leased, *conclusion, changed).await,
            Step::GiveBack => self.give_back(&leased).await,
            Step::TakenOver => {
                tracing::warn!(delivery = task.delivery_id, "another relay has taken the delivery over");
            }
        }
    }

    /// One step of a delivery: put off, parked, or attempted.
    async fn go_on(&self, leased: &Leased, id: DeliveryId, in_hand: &RouteInHand, mut hold: Hold) -> Step {
        let (task, route) = (&leased.task, &*in_hand.route);
        let age_from = self.pauses.borrow().age_from(task);
        let delivery = InHand { task, id, route, age_from };
        // Recalling a route takes a moment, so the time is asked for here.
        let now = self.clock.now();
        match step::before(delivery, leased.interrupted, &mut hold, now, rand::random()) {
            Before::Attempt => in_hand.sends(now),
            Before::GiveBack => return Step::GiveBack,
            Before::Conclude(conclusion) => {
                if conclusion.task.as_ref().is_some_and(|task| task.slot_reserved) {
                    counter!("talaria_pace_waits_total").increment(1);
                }
                return Step::Record(conclusion, None);
            }
        }
        drop(hold);
        let event = self.event(task.event_seq).await;
        // The last look before what cannot be undone. It may take long, and a signature has its time.
        if !self.holds(leased.lease).await {
            self.withdraw(in_hand).await;
            return Step::TakenOver;
        }
        if self.is_paused(task) {
            self.withdraw(in_hand).await;
            return Step::GiveBack;
        }
        let secret = self.routes.again(in_hand).await.map_or(0, |hold| hold.secret(route));
        let signing = prepare::Signing { secret, now: self.clock.now() };
        let traceparent = event.as_ref().map_or("", |event| event.traceparent.as_str());
        // As part of the event's trace, however long after it, and the request as part of this.
        let mut span = self.tracer.span("attempt", Kind::Client, traceparent, SystemTime::now());
        let prepared = match &event {
            Some(event) => {
                let traceparent = span.traceparent().unwrap_or_default();
                prepare::request(route, event, task, id, &traceparent, signing)
            }
            None => Err("its event is not kept any more".to_owned()),
        };
        match prepared {
            Ok(request) => self.attempt(delivery, in_hand, request, secret, span).await,
            Err(why) => {
                span.fail("not_sent");
                self.withdraw(in_hand).await;
                Step::record(conclude::park(task, self.clock.now(), format!("cannot be sent: {why}")))
            }
        }
    }

    /// A delivery that was admitted is not sent after all.
    async fn withdraw(&self, in_hand: &RouteInHand) {
        if let Some(mut hold) = self.routes.again(in_hand).await {
            hold.withdraw();
        }
    }

    async fn attempt(
        &self,
        delivery: InHand<'_>,
        in_hand: &RouteInHand,
        request: prepare::Request,
        secret: usize,
        mut span: Span,
    ) -> Step {
        let InHand { task, route, .. } = delivery;
        let (started_at, start) = (self.clock.now(), Instant::now());
        if task.attempts == 0 {
            let lag = since(started_at, from_proto(task.received_at.as_ref()));
            histogram!("talaria_first_attempt_seconds").record(lag);
        }
        span.say(|| described(task, route));
        let traceparent = span.traceparent();
        let guarded = request.guarded.clone();
        let (exchange, timings) = self.forwarder.exchange(route, request).await;
        let (took, now) = (start.elapsed(), self.clock.now());
        let http_status = exchange.status();
        let sent = Sent { started_at, took, exchange, timings, secret, guarded };
        let mut hold = self.routes.again(in_hand).await;
        let After { conclusion, change, verdict } =
            step::after(delivery, sent, hold.as_deref_mut(), now, rand::random());
        let outcome = outcome(verdict.outcome);
        span.say(|| {
            let status =
                http_status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
            [KeyValue::new("talaria.outcome", outcome)].into_iter().chain(status).collect()
        });
        if is_failure(verdict.outcome) {
            span.fail(outcome);
        }
        drop(span);
        tracing::info!(
            delivery = task.delivery_id,
            tenant = task.tenant,
            route = task.route,
            attempt = task.attempts + 1,
            outcome,
            http_status,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            detail = verdict.detail,
            trace = traceparent.as_deref().and_then(trace_id),
            "attempt"
        );
        histogram!("talaria_attempt_seconds").record(took);
        counter!("talaria_attempts_total", "outcome" => outcome).increment(1);
        let changed = match change.zip(hold) {
            Some((change, hold)) => {
                let what = What::RouteChanged(self.routes.changed(in_hand, &hold, change).await);
                Some(Box::new((Fact { at: Some(to_proto(now)), event_seq: 0, what: Some(what) }, hold)))
            }
            None => None,
        };
        Step::Record(Box::new(conclusion), changed)
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

    /// Gives back until the bus takes it.
    async fn give_back(&self, leased: &Leased) {
        while let Err(error) = self.bus.release(leased.lease).await {
            tracing::error!(%error, delivery = leased.task.delivery_id, "cannot give a delivery back");
            self.clock.sleep(PATIENCE).await;
        }
    }

    /// Records until the bus takes it: what happened must not be forgotten.
    async fn record(&self, leased: &Leased, conclusion: Conclusion, changed: Option<Box<(Fact, Hold)>>) {
        let state = standing_of(&conclusion.fact).map(Standing::state);
        let (changed, _hold) = changed.map(|changed| *changed).unzip();
        let facts: Vec<Fact> = [conclusion.fact].into_iter().chain(changed).collect();
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

/// What a trace says of an attempt. The URL may hold secrets behind its host.
fn described(task: &DeliveryTask, route: &Route) -> Vec<KeyValue> {
    let url = &route.url;
    vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("url.scheme", url.scheme().to_owned()),
        KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
        KeyValue::new("server.port", i64::from(url.port_or_known_default().unwrap_or_default())),
        KeyValue::new("talaria.tenant", task.tenant.clone()),
        KeyValue::new("talaria.route", task.route.clone()),
        KeyValue::new("talaria.delivery.id", task.delivery_id.clone()),
        KeyValue::new("talaria.attempt", i64::from(task.attempts) + 1),
    ]
}

/// The contract's name, in lower case and without what all of them begin with.
fn outcome(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Unspecified => "unspecified",
        AttemptOutcome::Accepted => "accepted",
        AttemptOutcome::Delivered => "delivered",
        AttemptOutcome::Duplicate => "duplicate",
        AttemptOutcome::Ignored => "ignored",
        AttemptOutcome::RateLimited => "rate_limited",
        AttemptOutcome::RouteFault => "route_fault",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::AnswerLost => "answer_lost",
        AttemptOutcome::Interrupted => "interrupted",
        AttemptOutcome::NotUnderstood => "not_understood",
    }
}

fn is_failure(outcome: AttemptOutcome) -> bool {
    use AttemptOutcome::{AnswerLost, Failed, NotUnderstood, RateLimited, RouteFault};
    matches!(outcome, AnswerLost | Failed | NotUnderstood | RateLimited | RouteFault)
}

fn standing_of(fact: &Fact) -> Option<&Standing> {
    match fact.what.as_ref()? {
        What::AttemptFinished(finished) => finished.standing.as_ref(),
        What::DeliveryMoved(moved) => moved.standing.as_ref(),
        _ => None,
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
            assert_eq!(window(in_flight, routes, 4096), expected, "{routes} routes");
            assert!(routes > 4096 || window(in_flight, routes, 4096) * routes <= 4096);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_as_many_hands_as_are_configured_once_those_that_are_busy_are_done() {
        let config = |in_flight| {
            let mut config = crate::testing::config("");
            config.relay.in_flight = in_flight;
            Arc::new(config)
        };
        let (change, changes) = watch::channel(config(4));
        let hands = Arc::new(Semaphore::new(4 + SPARE));
        tokio::spawn(resize(Arc::clone(&hands), 4 + SPARE, changes));
        let settle = || tokio::time::sleep(Duration::from_secs(1));
        change.send_replace(config(9));
        settle().await;
        assert_eq!(hands.available_permits(), 9 + SPARE);
        let busy = Arc::clone(&hands).acquire_many_owned(8 + 64).await.unwrap();
        change.send_replace(config(2));
        settle().await;
        // Changed again while hands are waited for.
        change.send_replace(config(3));
        settle().await;
        assert!(hands.try_acquire().is_err(), "none for new deliveries");
        drop(busy);
        settle().await;
        assert_eq!(hands.available_permits(), 3 + SPARE);
    }
}
