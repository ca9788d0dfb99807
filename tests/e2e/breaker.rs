//! Routes whose Hermes fails are shut, and open again.

use serde_json::json;
use std::collections::HashSet;
use talaria_proto::v1::{
    BreakerCause, BreakerState, Delivery, DeliveryState, GetSummaryRequest, RouteSummary,
};
use talaria_tests::{
    binary::run,
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};

const EVENTS: usize = 40;

async fn summary(stack: &Stack) -> RouteSummary {
    let summary = stack.status().await.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
    summary.routes.into_iter().find(|route| route.route == "r").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_shut_a_route_over_a_restart_until_a_probe_gets_through() {
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(500, json!({})));
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off")).start().await;
    let openrouter = stack.openrouter("acme");
    for index in 0..EVENTS {
        openrouter.send(&format!("job {index}"), "completed").await;
    }
    let shut = until("the route to be shut", async || {
        let is_shut = |route: &RouteSummary| route.breaker() == BreakerState::Shut;
        Some(summary(&stack).await).filter(|route| is_shut(route) && route.backlog == EVENTS as u64)
    })
    .await;
    assert_eq!(shut.breaker_cause(), BreakerCause::Failures);
    assert!(shut.held_because.contains("500") && shut.held_until.is_some(), "{shut:?}");
    let shown = run(stack.written.path(), &["status", "--routes", "--relay", &stack.relay()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("acme/r") && shown.contains("shut") && shown.contains("500"), "{shown}");
    let (_, metrics) = stack.admin_get("/metrics").await;
    assert!(metrics.contains("talaria_route_shut{tenant=\"acme\",route=\"r\"} 1"), "{metrics}");

    // Another process knows it from the journal, and does not find out again with every delivery.
    stack.kill_and_restart().await;
    let tried = sink.requests_to("r").len();
    let probes = until("two probes", async || {
        let requests = sink.requests_to("r").len();
        (requests >= tried + 2).then_some(requests - tried)
    })
    .await;
    assert!(probes <= 3, "{probes} requests, one after another");
    assert_ne!(summary(&stack).await.breaker(), BreakerState::Admitting);

    sink.set("r", Does::Accept);
    until("everything to go out", async || {
        let deliveries = stack.deliveries().await;
        let delivered = deliveries.iter().filter(|delivery| delivery.state() == DeliveryState::Delivered);
        (delivered.count() == EVENTS).then_some(())
    })
    .await;
    let open = summary(&stack).await;
    assert_eq!((open.breaker(), open.held_because.as_str()), (BreakerState::Admitting, ""));
    let attempts: u32 = stack.deliveries().await.iter().map(|delivery| delivery.counted_attempts).sum();
    assert!(attempts < 40, "{attempts} attempts burnt, for {EVENTS} deliveries");
}

/// A proxy's default page, a parked name, another program on that port: with 200, and as long as they please.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_shuts_the_route_and_keeps_its_backlog() {
    for (status, page) in [
        (200, "<html><body>Welcome to nginx!</body></html>".to_owned()),
        (200, format!("<html>{}</html>", "x".repeat(100_000))),
        (202, String::new()),
    ] {
        let sink = Sink::start().await;
        sink.set("wrong", Does::Page(status, page));
        let mut stack =
            stack().tenant("acme", |t| t.route("r", &sink.url("wrong"), "pace: off")).start().await;
        let openrouter = stack.openrouter("acme");
        for index in 0..EVENTS {
            openrouter.send(&format!("job {index}"), "completed").await;
        }
        let shut = until("the route to be shut", async || {
            let route = summary(&stack).await;
            (route.breaker() == BreakerState::Shut && route.backlog == EVENTS as u64).then_some(route)
        })
        .await;
        assert_eq!(shut.breaker_cause(), BreakerCause::Configuration);
        let why = format!("{status}, but what answers is not Hermes; compare the route's url");
        assert!(shut.held_because.contains(&why), "{shut:?}");
        let deliveries = stack.deliveries().await;
        let waits = |delivery: &Delivery| {
            delivery.state() == DeliveryState::Waiting && delivery.counted_attempts == 0
        };
        assert!(deliveries.len() == EVENTS && deliveries.iter().all(waits), "{deliveries:?}");
        let tried = sink.requests_to("wrong").len();
        assert!(tried < EVENTS, "{tried} met the page");
        stack.restart_with(|text| text.replace("webhooks/wrong", "webhooks/right")).await;
        // Those that met the page have later turns of their own.
        until("the others to be delivered", async || {
            let deliveries = stack.deliveries().await;
            let delivered = deliveries.iter().filter(|delivery| delivery.state() == DeliveryState::Delivered);
            (delivered.count() >= EVENTS - tried).then_some(())
        })
        .await;
        let ids = sink.requests_to("right").into_iter().map(|request| request.id);
        assert_eq!(ids.collect::<HashSet<_>>().len(), sink.requests_to("right").len(), "each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_configuration_is_probed_at_once_after_a_restart() {
    let sink = Sink::start().await;
    sink.set("wrong", Does::Answer(404, json!({"error": "Unknown route: wrong"})));
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("wrong"), "pace: off")).start().await;
    stack.openrouter("acme").send("met it", "completed").await;
    until("the route to be shut", async || {
        let route = summary(&stack).await;
        (route.breaker_cause() == BreakerCause::Configuration).then_some(())
    })
    .await;
    // The delivery that met the fault has a later turn of its own.
    let event = stack.openrouter("acme").send("came behind", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.reason.contains("is shut")).await;
    let before = summary(&stack).await.held_until;
    stack.restart_with(|text| text.replace("webhooks/wrong", "webhooks/right")).await;
    let found = stack.finished(&event, "r").await;
    assert_eq!(found.delivery.unwrap().state(), DeliveryState::Delivered);
    let sent = found.attempts.last().unwrap().started_at.unwrap();
    assert!((sent.seconds, sent.nanos) < before.map(|at| (at.seconds, at.nanos)).unwrap(), "it did not wait");
}
