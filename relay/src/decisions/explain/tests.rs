use super::*;
use crate::{
    decisions::breaker::{Cause, Shut},
    test_config,
};
use std::time::Duration;
use talaria_core::{
    config::Config,
    id::{DeliveryId, EventId},
    json::parse,
    time::after,
};

const PAYLOAD: &str = r#"{"type":"video.done","data":{"id":"j","status":"failed"}}"#;

fn at(seconds: u64) -> Timestamp {
    after(Timestamp::from_second(1_777_000_000).unwrap(), Duration::from_secs(seconds))
}

/// An event with the route "video" unless another is named.
struct Case {
    config: Config,
    payload: bool,
    planned: Vec<(Delivery, Vec<Attempt>)>,
    blocks: BTreeMap<String, RouteBlock>,
}

fn case(route: &str) -> Case {
    Case { config: test_config::config(route), payload: true, planned: Vec::new(), blocks: BTreeMap::new() }
}

fn shut(why: &str, until: u64) -> RouteBlock {
    RouteBlock::Shut(Shut { until: at(until), cause: Cause::Configuration, tries: 1, why: why.into() })
}

fn delivery_to(route: &str, state: DeliveryState) -> Delivery {
    Delivery {
        id: DeliveryId::new(EventId::new("acme", "j", "video.done"), route).to_string(),
        route: route.into(),
        state: state.into(),
        reason: "planned".into(),
        generation: 1,
        received_at: Some(to_proto(at(0))),
        next_attempt_at: (state == DeliveryState::Waiting).then(|| to_proto(at(60))),
        ..Delivery::default()
    }
}

impl Case {
    fn planned(mut self, delivery: Delivery) -> Self {
        let attempts = (1..=delivery.attempts).map(|number| Attempt { number, ..Attempt::default() });
        let attempts = attempts.collect();
        self.planned.push((delivery, attempts));
        self
    }

    fn waits(self, change: impl FnOnce(&mut Delivery)) -> Self {
        let mut delivery = delivery_to("video", DeliveryState::Waiting);
        change(&mut delivery);
        self.planned(delivery)
    }

    fn explain_at(self, tenant: &str, now: Timestamp) -> Explanation {
        let document = parse(PAYLOAD.as_bytes()).unwrap();
        let known = ExplainInput {
            event: Event { tenant: tenant.into(), ..Event::default() },
            event_type: "video.done",
            payload: self.payload.then(|| document.root()),
            tenant: self.config.tenants.get(tenant).map(AsRef::as_ref),
            planned: self.planned,
            blocks: &self.blocks,
            conflicts: 2,
            only: None,
        };
        explain(known, now)
    }

    fn explain(self) -> Explanation {
        self.explain_at("acme", at(10))
    }

    /// The only route.
    fn route(self) -> RouteExplanation {
        let mut routes = self.explain().routes;
        assert_eq!(routes.len(), 1);
        routes.remove(0)
    }
}

#[test]
fn a_final_delivery_has_no_next_step_and_an_advice() {
    for (state, next) in [
        (DeliveryState::Delivered, "nothing more: Hermes has it"),
        (DeliveryState::Ignored, "nothing more: Hermes declined it"),
        (
            DeliveryState::Parked,
            "nothing by itself: once the cause is mended, replay it with `talaria replay dlv_",
        ),
        (DeliveryState::Cancelled, "nothing more: it was called off"),
        (DeliveryState::Ambiguous, "nothing by itself: look whether it arrived at the target"),
    ] {
        let route = case("").planned(delivery_to("video", state)).route();
        assert!(route.next.starts_with(next), "{state:?}: {}", route.next);
        assert_eq!((route.next_at, route.difference.as_str()), (None, ""), "{state:?}");
        assert_eq!((route.matches(), route.why.as_str()), (RouteMatch::Yes, "it takes every type"));
    }
    let unknown = Delivery { state: 99, ..delivery_to("video", DeliveryState::Parked) };
    assert_eq!(case("").planned(unknown).route().next, "");
}

#[test]
fn a_run_changes_the_next_step_of_a_delivered_delivery() {
    let with = |keys: &str, run: Option<(RunOutcome, u32)>| {
        let run =
            run.map(|(outcome, generation)| Run { outcome: outcome.into(), generation, ..Run::default() });
        let delivered = Delivery { run, ..delivery_to("video", DeliveryState::Delivered) };
        let route = case(keys).planned(delivered).route();
        (route.next, route.delivery.unwrap().run_overdue.is_some())
    };
    let next = |outcome| with("runs: 1h", Some((outcome, 1)));
    assert_eq!(
        next(RunOutcome::Finished),
        ("nothing more: Hermes has it, and the agent's run has finished".to_owned(), false)
    );
    for outcome in [RunOutcome::Failed, RunOutcome::Interrupted, RunOutcome::Command] {
        assert!(next(outcome).0.starts_with("nothing by itself: once the cause is mended, replay it"));
    }
    for run in [None, Some((RunOutcome::Failed, 7))] {
        let (next, is_overdue) = with("runs: 1h", run);
        assert!(is_overdue && next.starts_with("nothing by itself: look at Hermes"), "{next}");
        assert_eq!(with("", run), ("nothing more: Hermes has it".to_owned(), false));
    }
}

#[test]
fn a_waiting_delivery_has_a_next_step_and_its_time() {
    let retried = |counted| {
        move |delivery: &mut Delivery| {
            (delivery.attempts, delivery.counted_attempts) = (3, counted);
            delivery.reason = "retrying after attempt 3: 500".into();
        }
    };
    let keys = "retry: {schedule: [1m, 1m]}";
    for (keys, change, next) in [
        (
            keys,
            &retried(1) as &dyn Fn(&mut Delivery),
            "attempt 4 (retrying after attempt 3: 500); 1 of 3 that count are used up",
        ),
        (keys, &retried(2), "attempt 4 (retrying after attempt 3: 500); if it fails, the delivery is parked"),
        (
            "retry: {schedule: []}",
            &|delivery| delivery.reason = "waiting for its turn at the route's pace".into(),
            "attempt 1 (waiting for its turn at the route's pace); if it fails, the delivery is parked",
        ),
        (
            "in_flight: 3",
            &|delivery| delivery.next_attempt_at = Some(to_proto(at(10))),
            "attempt 1, which is under way or begins once fewer than 3 attempts of the route are",
        ),
        ("retry: {max_age: 59s}", &|_| {}, "it is parked: not delivered within 59s of the event"),
        ("retry: {max_age: 60s}", &|_| {}, "attempt 1 (planned)"),
    ] {
        let route = case(keys).waits(change).route();
        assert_eq!(route.next, next, "{keys}");
        assert!(route.next_at.is_some());
    }
    let route = case("").waits(retried(1)).route();
    assert_eq!((route.next_at, route.attempts.len()), (Some(to_proto(at(60))), 3));
    // Older than it may be when its turn comes, though it was due in time.
    let late = case("retry: {max_age: 1m}").waits(|_| {}).explain_at("acme", at(61));
    assert!(late.routes[0].next.starts_with("it is parked"), "{}", late.routes[0].next);
}

#[test]
fn a_shut_route_is_named_until_its_time_has_come() {
    let held = |until| {
        let mut case = case("").waits(|delivery| delivery.reason = "the route is shut: 401".into());
        case.blocks.insert("video".into(), shut("401", until));
        case.blocks.insert("other".into(), shut("404", 99));
        case.route()
    };
    let route = held(30);
    let because = "the route is shut: 401";
    assert_eq!((route.held_because.as_str(), route.held_until), (because, Some(to_proto(at(30)))));
    assert!(route.next.starts_with("a single delivery probes the route"), "{}", route.next);
    assert!(held(10).next.starts_with("a single delivery is probing the route"));
}

#[test]
fn a_route_that_does_not_take_it_says_why_and_has_no_next_step() {
    for (keys, why) in [
        ("events: [image.done]", r#"its events are image.done, and the type is "video.done""#),
        (
            "filters: {field: data.status, equals: completed}",
            r#"its filters do not hold: data.status should equal "completed", and is "failed""#,
        ),
    ] {
        let route = case(keys).route();
        assert_eq!((route.matches(), route.why.as_str()), (RouteMatch::No, why));
        assert_eq!((route.delivery, route.difference.as_str(), route.next.as_str()), (None, "", ""));
    }
}

#[test]
fn a_change_since_the_event_came_is_described() {
    // Added, or changed so that it takes it.
    let route = case("").route();
    assert_eq!(route.difference, "it did not take the event when that came: it was added or changed since");
    assert!(
        route
            .next
            .starts_with("nothing by itself: an event is planned once, when it comes; `talaria replay ")
    );
    // Changed so that it does not, and the delivery goes on.
    let route = case("events: [x]").waits(|_| {}).route();
    assert_eq!(route.difference, "it took the event when that came, and was changed since");
    assert_eq!((route.matches(), route.next.as_str()), (RouteMatch::No, "attempt 1 (planned)"));
    // Removed, with a waiting and a finished delivery.
    let explanation = case("events: [x]")
        .planned(delivery_to("gone", DeliveryState::Waiting))
        .planned(delivery_to("done", DeliveryState::Delivered))
        .explain();
    let names: Vec<_> = explanation.routes.iter().map(|route| route.route.as_str()).collect();
    assert_eq!(names, ["done", "gone", "video"]);
    assert_eq!(explanation.summary, "2 routes took it: 1 waiting, 1 delivered");
    let gone = &explanation.routes[1];
    assert_eq!(gone.matches(), RouteMatch::NotConfigured);
    assert_eq!(gone.why, "the configuration has no such route");
    assert_eq!(gone.difference, "it took the event when that came, and was removed since");
    assert!(gone.next.starts_with("it is parked, because the route is not configured any more"));
    // The tenant with all of them.
    let explanation = case("").planned(delivery_to("r", DeliveryState::Parked)).explain_at("left", at(10));
    assert_eq!(explanation.routes[0].why, "the configuration has no such tenant");
    let explanation = case("").explain_at("left", at(10));
    assert!(explanation.routes.is_empty() && explanation.summary == "no route took it");
}

#[test]
fn without_the_payload_only_journalled_facts_are_given() {
    let filters = "filters: {field: data.status, equals: failed}";
    for (keys, matches) in
        [(filters, RouteMatch::Unknown), ("", RouteMatch::Yes), ("events: [x]", RouteMatch::No)]
    {
        let mut case = case(keys).planned(delivery_to("video", DeliveryState::Delivered));
        case.payload = false;
        let explanation = case.explain();
        assert!(!explanation.payload_kept);
        assert_eq!(explanation.conflicts, 2);
        assert_eq!(explanation.routes[0].matches(), matches, "{keys}");
        assert_eq!(explanation.routes[0].difference.is_empty(), matches != RouteMatch::No, "{keys}");
    }
    let mut never = case(filters);
    never.payload = false;
    let route = never.route();
    assert_eq!((route.difference.as_str(), route.next.as_str()), ("", ""), "it is unknown");
}
