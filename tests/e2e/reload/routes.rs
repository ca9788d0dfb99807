//! Waiting deliveries and exchanges under way when their route changes.

use serde_json::json;
use talaria_proto::v1::{
    AttemptOutcome, BreakerCause, DeliveryState as State, GetSummaryRequest, ReplayDeliveryRequest,
    RouteSummary,
};
use talaria_tests::{
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};

async fn summary(stack: &Stack) -> RouteSummary {
    let summary = stack.status().await.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
    summary.routes.into_iter().find(|route| route.route == "r").unwrap_or_default()
}

/// Without the route `r`, which is the last one.
fn without(text: &str) -> String {
    text.split_once("      r:").unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_shut_route_parks_its_backlog_and_works_again_once_it_is_back() {
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(404, json!({})));
    let stack = stack()
        .tenant("acme", |t| {
            t.route("stays", &sink.url("stays"), "pace: off").route("r", &sink.url("r"), "pace: off")
        })
        .start()
        .await;
    let mut events = Vec::new();
    for job in 0..20 {
        events.push(stack.openrouter("acme").send(&job.to_string(), "completed").await);
    }
    until("the route to be shut", async || {
        (summary(&stack).await.breaker_cause() == BreakerCause::Configuration).then_some(())
    })
    .await;
    let before = stack.rewrite(|text| without(&text) + "# and nothing else\n");
    stack.generation(2).await;
    // All but those that met the fault, which have a later turn of their own.
    until("what waits to be parked", async || {
        let all = stack.deliveries().await;
        let waits = |state| all.iter().filter(|found| found.route == "r" && found.state() == state).count();
        (waits(State::Parked) >= 15).then_some(())
    })
    .await;
    let parked = stack.deliveries().await.into_iter().find(|found| found.state() == State::Parked).unwrap();
    assert!(parked.reason.contains("not configured any more; replay once it is back"), "{}", parked.reason);
    // Events that come now do not go there.
    let without_it = stack.openrouter("acme").send("without", "completed").await;
    assert!(stack.event(&without_it).await.deliveries.iter().all(|found| found.route != "r"));

    sink.set("r", Does::Accept);
    stack.rewrite(|_| {
        let route = format!(
            "      r:\n        url: {}\n        secret: {{file: hermes}}\n        pace: off\n",
            sink.url("r")
        );
        before.replace("# and nothing else\n", "") + &route
    });
    stack.generation(3).await;
    let request = ReplayDeliveryRequest {
        delivery_id: parked.id.clone(),
        requested_by: "a test".into(),
        reason: "it is back".into(),
        ..ReplayDeliveryRequest::default()
    };
    stack.control().await.replay_delivery(request).await.unwrap();
    let found = stack.finished(&parked.event_id, "r").await;
    assert_eq!(found.delivery.unwrap().state(), State::Delivered);
    let new = stack.openrouter("acme").send("new", "completed").await;
    assert_eq!(stack.finished(&new, "r").await.delivery.unwrap().state(), State::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_configuration_is_probed_at_once() {
    let sink = Sink::start().await;
    sink.set("wrong", Does::Answer(404, json!({"error": "Unknown route: wrong"})));
    let stack = stack().tenant("acme", |t| t.route("r", &sink.url("wrong"), "pace: off")).start().await;
    stack.openrouter("acme").send("met it", "completed").await;
    until("the route to be shut", async || {
        (summary(&stack).await.breaker_cause() == BreakerCause::Configuration).then_some(())
    })
    .await;
    let event = stack.openrouter("acme").send("came behind", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.reason.contains("is shut")).await;
    let until = summary(&stack).await.held_until;
    stack.rewrite(|text| text.replace("webhooks/wrong", "webhooks/right"));
    let found = stack.finished(&event, "r").await;
    assert_eq!(found.delivery.unwrap().state(), State::Delivered);
    let sent = found.attempts.last().unwrap().started_at.unwrap();
    assert!((sent.seconds, sent.nanos) < until.map(|at| (at.seconds, at.nanos)).unwrap(), "it did not wait");
    assert_eq!(summary(&stack).await.held_because, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_under_way_ends_by_the_old_configuration() {
    let sink = Sink::start().await;
    sink.set("old", Does::Hang);
    let stack =
        stack().tenant("acme", |t| t.route("r", &sink.url("old"), "pace: off\ntimeout: 60s")).start().await;
    let event = stack.openrouter("acme").send("under way", "completed").await;
    until("the attempt to begin", async || (sink.requests().len() == 1).then_some(())).await;
    stack.rewrite(|text| text.replace("webhooks/old", "webhooks/new"));
    stack.generation(2).await;
    let behind = stack.openrouter("acme").send("behind", "completed").await;
    assert_eq!(stack.finished(&behind, "r").await.delivery.unwrap().state(), State::Delivered);
    // The old one turns out to have been wrong. The new one is right all the same, and is tried at once.
    sink.set("old", Does::Answer(404, json!({})));
    let found = stack.finished(&event, "r").await;
    assert_eq!(found.delivery.unwrap().state(), State::Delivered);
    let outcomes: Vec<_> = found.attempts.iter().map(talaria_proto::v1::Attempt::outcome).collect();
    assert_eq!(outcomes, [AttemptOutcome::RouteFault, AttemptOutcome::Accepted]);
    assert_eq!((sink.requests_to("old").len(), sink.requests_to("new").len()), (1, 2));
    assert_eq!(summary(&stack).await.held_because, "", "it is not shut");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_route_and_of_all_are_others_from_then_on() {
    let sink = Sink::start().await;
    sink.set("r", Does::Hang);
    let stack = stack()
        .with("relay: {grpc: 127.0.0.1:0, in_flight: 2}")
        .tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off\ntimeout: 60s\nin_flight: 2"))
        .start()
        .await;
    for job in 0..12 {
        stack.openrouter("acme").send(&job.to_string(), "completed").await;
    }
    let under_way = async |count: usize| {
        until(&format!("{count} requests"), async || (sink.requests().len() >= count).then_some(())).await;
        assert_eq!(sink.requests().len(), count);
    };
    under_way(2).await;
    stack.rewrite(|text| text.replace("in_flight: 2", "in_flight: 5"));
    under_way(5).await;
    stack.logged("changed relay.in_flight, route acme/r").await;
    stack.rewrite(|text| text.replace("in_flight: 5", "in_flight: 1"));
    stack.generation(3).await;
    sink.set("r", Does::Accept);
    until("all to be delivered", async || {
        let all = stack.deliveries().await;
        (all.len() == 12 && all.iter().all(|found| found.state() == State::Delivered)).then_some(())
    })
    .await;
}
