//! Takes deliveries as they come due, sends each, and records what came of it before letting it go.
//!
//! The decisions are elsewhere ([`crate::step`], [`crate::prepare`]); this is the shell that asks them in order.

use crate::{
    conclude::{self, Conclusion},
    forward::Forwarder,
    pause::Pauses,
    prepare,
    routes::{RouteInHand, Routes, lane},
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
use tokio::sync::watch;
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
    /// This is recorded.
    Record(Box<Conclusion>, Option<Box<Fact>>),
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
        let routes = Routes::new(bus.clone(), view, clock.clone());
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
        let hands = Arc::new(tokio::sync::Semaphore::new(inner.config().relay.in_flight + SPARE));
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
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Sets them until the bus takes it.
    async fn set_windows(&self, pauses: &mut watch::Receiver<Arc<Pauses>>) {
        loop {
            let windows = windows(&self.config(), &pauses.borrow_and_update());
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

    async fn deliver(&self, leased: Leased) {
        let task = &leased.task;
        let Ok(id) = task.delivery_id.parse::<DeliveryId>() else {
            // Fan-out made the id; should this ever happen, the lease ends and it is seen again.
            tracing::error!(delivery = task.delivery_id, "a delivery without a valid id");
            return;
        };
        let config = self.config();
        let step = match config.route(&task.tenant, &task.route) {
            None => Step::record(step::without_route(task, id, leased.interrupted, self.clock.now())),
            Some(_) if self.is_paused(task) && !leased.interrupted => Step::GiveBack,
            Some(route) => self.go_on(&leased, id, route).await,
        };
        if leased.interrupted && matches!(step, Step::Record(..)) {
            counter!("talaria_attempts_total", "outcome" => "interrupted").increment(1);
        }
        match step {
            Step::Record(conclusion, more) => self.record(&leased, *conclusion, more).await,
            Step::GiveBack => self.give_back(&leased).await,
            Step::TakenOver => {
                tracing::warn!(delivery = task.delivery_id, "another relay has taken the delivery over");
            }
        }
    }

    /// One step of a delivery: put off, parked, or attempted.
    async fn go_on(&self, leased: &Leased, id: DeliveryId, route: &Arc<Route>) -> Step {
        let task = &leased.task;
        let in_hand = self.routes.route(lane(&task.tenant, &task.route), route, leased.term);
        let age_from = self.pauses.borrow().age_from(task);
        let delivery = InHand { task, id, route, age_from };
        let mut admission = self.routes.admission(&in_hand).await;
        // Recalling a route takes a moment, so the time is asked for here.
        let before =
            step::before(delivery, leased.interrupted, &mut admission, self.clock.now(), rand::random());
        drop(admission);
        match before {
            Before::Attempt => {}
            Before::GiveBack => return Step::GiveBack,
            Before::Conclude(conclusion) => {
                if conclusion.task.as_ref().is_some_and(|task| task.slot_reserved) {
                    counter!("talaria_pace_waits_total").increment(1);
                }
                return Step::Record(conclusion, None);
            }
        }
        let event = self.event(task.event_seq).await;
        // The last look before what cannot be undone. It may take long, and a signature has its time.
        if !self.holds(leased.lease).await {
            self.routes.admission(&in_hand).await.withdraw();
            return Step::TakenOver;
        }
        if self.is_paused(task) {
            self.routes.admission(&in_hand).await.withdraw();
            return Step::GiveBack;
        }
        let secret = self.routes.admission(&in_hand).await.secret(route);
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
            Ok(request) => self.attempt(delivery, &in_hand, request, secret, span).await,
            Err(why) => {
                span.fail("not_sent");
                self.routes.admission(&in_hand).await.withdraw();
                Step::record(conclude::park(task, self.clock.now(), format!("cannot be sent: {why}")))
            }
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
        let mut admission = self.routes.admission(in_hand).await;
        let After { conclusion, change, verdict } =
            step::after(delivery, sent, &mut admission, now, rand::random());
        drop(admission);
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
        let changed = match change {
            Some(change) => Some(self.routes.changed(in_hand, change).await),
            None => None,
        };
        let changed = changed.map(|it| {
            Box::new(Fact { at: Some(to_proto(now)), event_seq: 0, what: Some(What::RouteChanged(it)) })
        });
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
    async fn record(&self, leased: &Leased, conclusion: Conclusion, more: Option<Box<Fact>>) {
        let state = standing_of(&conclusion.fact).map(Standing::state);
        let facts: Vec<Fact> = [conclusion.fact].into_iter().chain(more.map(|fact| *fact)).collect();
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
}
