//! The pace of a route, against the real Hermes with its own default limit of 30 requests in 60 s.

use crate::hermes::{one_route, route};
use jiff::Timestamp;
use serde_json::json;
use std::{collections::BTreeMap, env, time::Duration};
use talaria_core::time::since;
use talaria_proto::{
    time::from_proto,
    v1::{Attempt, AttemptOutcome, Delivery, DeliveryState, GetDeliveryRequest},
};
use talaria_tests::{
    hermes::Gateway,
    nats,
    stack::{Stack, Tenant, stack},
    until, until_within,
};

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

/// The slots that twenty deliveries have reserved, once they have and the thirty before them are delivered: what is under way
/// when the process is killed is tried again.
fn twenty_places(deliveries: Vec<Delivery>) -> Option<BTreeMap<String, Timestamp>> {
    let delivered = deliveries.iter().filter(|delivery| delivery.state() == DeliveryState::Delivered).count();
    let waits = |delivery: &Delivery| {
        delivery.state() == DeliveryState::Waiting && delivery.reason.contains("waiting for its turn")
    };
    let waiting = deliveries.into_iter().filter(waits);
    let places: BTreeMap<_, _> =
        waiting.map(|delivery| (delivery.id, from_proto(delivery.next_attempt_at.as_ref()))).collect();
    (places.len() == 20 && delivered == LIMIT as usize).then_some(places)
}

fn no_window_has_more_than_hermes_allows(attempts: &[Attempt]) {
    let refused: Vec<_> =
        attempts.iter().filter(|attempt| attempt.outcome() != AttemptOutcome::Accepted).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    for window in attempts.windows(LIMIT as usize + 1) {
        assert!(since(started_at(&window[LIMIT as usize]), started_at(&window[0])) > Duration::from_secs(60));
    }
}

/// How many windows' worth of deliveries a backlog has. A third window shows no more but on a whole run.
fn windows() -> u32 {
    if env::var("TALARIA_WHOLE").is_ok() { 3 } else { 2 }
}

/// All windows but one have to go by between the first and the last, and little more does.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_goes_out_as_fast_as_hermes_allows_and_no_faster() {
    let hermes = Gateway::start(json!({"r": route(&json!({}))}), LIMIT).await;
    let stack = one_route(&hermes.url("r"), "prompt: '{data.id}'").await;
    let count = (windows() * LIMIT) as usize;
    send(&stack, count).await;
    let attempts = all_are_delivered(&stack, count, Duration::from_secs(240)).await;
    assert!(
        attempts.iter().all(|attempt| attempt.outcome() == AttemptOutcome::Accepted),
        "nobody was refused"
    );
    let took = since(started_at(&attempts[count - 1]), started_at(&attempts[0]));
    let least = Duration::from_secs(60) * (windows() - 1);
    assert!(took >= least && took <= least + Duration::from_secs(6), "{took:?}");
}

/// The slots that were reserved, and the requests that went out, outlive the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_pace_and_the_places() {
    let hermes = Gateway::start(json!({"r": route(&json!({}))}), LIMIT).await;
    let mut stack = one_route(&hermes.url("r"), "prompt: '{data.id}'").await;
    send(&stack, 50).await;
    let reserved = until("twenty places", async || twenty_places(stack.deliveries().await)).await;
    stack.kill_and_restart().await;
    assert_eq!(twenty_places(stack.deliveries().await), Some(reserved));
    // New deliveries go behind them: reserved slots are kept.
    let openrouter = stack.openrouter("acme");
    for index in 0..5 {
        openrouter.send(&format!("later {index}"), "completed").await;
    }
    no_window_has_more_than_hermes_allows(&all_are_delivered(&stack, 55, Duration::from_secs(150)).await);
}

/// The same over NATS, where another relay takes the route over.
#[tokio::test(flavor = "multi_thread")]
async fn another_owner_keeps_the_pace_and_the_places() {
    let hermes = Gateway::start(json!({"r": route(&json!({}))}), LIMIT).await;
    let bus = format!(
        "bus: {{nats: {{servers: [\"{}\"], prefix: pace-{:016x}}}}}",
        nats::shared().await,
        rand::random::<u64>()
    );
    let start = async || {
        let tenant = |t: Tenant| t.route("r", &hermes.url("r"), "prompt: '{data.id}'");
        stack().with(&bus).tenant("acme", tenant).start().await
    };
    let first = start().await;
    send(&first, 50).await;
    let reserved = until("twenty places", async || twenty_places(first.deliveries().await)).await;
    let second = start().await;
    until("the second one to know everything", async || {
        (second.admin_get("/readyz").await.0 == 200).then_some(())
    })
    .await;
    drop(first);
    let attempts = all_are_delivered(&second, 50, Duration::from_secs(150)).await;
    no_window_has_more_than_hermes_allows(&attempts);
    for attempt in attempts {
        let (delivery, _) = attempt.idempotency_key.rsplit_once('.').unwrap();
        assert!(reserved.get(delivery).is_none_or(|place| started_at(&attempt) >= *place), "{attempt:?}");
    }
}
