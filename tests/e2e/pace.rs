//! The pace of a route, against the real Hermes with its own default limit of 30 requests in 60 s.

use crate::hermes::{one_route, route};
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;
use talaria_bus::time::{from_proto, since};
use talaria_proto::v1::{Attempt, AttemptOutcome, Delivery, DeliveryState, GetDeliveryRequest};
use talaria_tests::{hermes::Gateway, stack::Stack, until_within};

const LIMIT: u32 = 30;

async fn send(stack: &Stack, count: usize) {
    let openrouter = stack.openrouter("acme");
    for index in 0..count {
        openrouter.send(&format!("job {index}"), "completed").await;
    }
}

async fn all_are_delivered(stack: &Stack, count: usize, patience: Duration) -> Vec<Attempt> {
    let delivered: Vec<Delivery> = until_within(patience, "all to be delivered", async || {
        let mut deliveries = stack.deliveries().await;
        deliveries.retain(|delivery| delivery.state() == DeliveryState::Delivered);
        (deliveries.len() == count).then_some(deliveries)
    })
    .await;
    let mut attempts = Vec::new();
    for delivery in delivered {
        let request = GetDeliveryRequest { delivery_id: delivery.id };
        attempts.extend(stack.status().await.get_delivery(request).await.unwrap().into_inner().attempts);
    }
    attempts.sort_by_key(started_at);
    attempts
}

fn started_at(attempt: &Attempt) -> Timestamp {
    from_proto(attempt.started_at.as_ref())
}

/// Three windows' worth: two whole windows have to go by between the first and the last, and little more does.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_goes_out_as_fast_as_hermes_allows_and_no_faster() {
    let hermes = Gateway::start(json!({"r": route(&json!({}))}), LIMIT).await;
    let stack = one_route(&hermes.url("r"), "prompt: '{data.id}'").await;
    send(&stack, 90).await;
    let attempts = all_are_delivered(&stack, 90, Duration::from_secs(240)).await;
    assert!(
        attempts.iter().all(|attempt| attempt.outcome() == AttemptOutcome::Accepted),
        "nobody was refused"
    );
    let took = since(started_at(&attempts[89]), started_at(&attempts[0]));
    let least = Duration::from_secs(120);
    assert!(took >= least && took <= least.mul_f64(1.05), "{took:?}");
}

/// The places that were reserved, and the requests that went out, outlive the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_pace_and_the_places() {
    let hermes = Gateway::start(json!({"r": route(&json!({}))}), LIMIT).await;
    let mut stack = one_route(&hermes.url("r"), "prompt: '{data.id}'").await;
    send(&stack, 50).await;
    let places = |deliveries: Vec<Delivery>| {
        let waits = |delivery: &Delivery| delivery.reason.contains("waiting for its turn");
        let mut places: Vec<_> = deliveries
            .into_iter()
            .filter(|delivery| delivery.state() == DeliveryState::Waiting && waits(delivery))
            .map(|delivery| (delivery.id, from_proto(delivery.next_attempt_at.as_ref())))
            .collect();
        places.sort();
        (places.len() == 20).then_some(places)
    };
    let reserved =
        until_within(Duration::from_secs(30), "twenty places", async || places(stack.deliveries().await))
            .await;
    stack.kill_and_restart().await;
    assert_eq!(places(stack.deliveries().await), Some(reserved));
    // What comes now comes behind them, and not at once because nobody remembers.
    let openrouter = stack.openrouter("acme");
    for index in 0..5 {
        openrouter.send(&format!("later {index}"), "completed").await;
    }
    let attempts = all_are_delivered(&stack, 55, Duration::from_secs(150)).await;
    assert!(
        attempts.iter().all(|attempt| attempt.outcome() == AttemptOutcome::Accepted),
        "nobody was refused"
    );
    for window in attempts.windows(LIMIT as usize + 1) {
        assert!(since(started_at(&window[LIMIT as usize]), started_at(&window[0])) > Duration::from_secs(60));
    }
}
