//! Operators who do whatever comes into their heads, at any relay, while relays are killed: in the end every delivery has
//! one state, everywhere the same, and its history explains it.

use super::{fails, on_nats, pause, prefix, replay, resume};
use rand::{Rng as _, rngs::StdRng};
use std::collections::HashMap;
use talaria_proto::v1::{
    CancelDeliveryRequest, ControlAction, ControlKind, Delivery, DeliveryState as State, GetDeliveryRequest,
    GetDeliveryResponse,
};
use talaria_tests::{
    seeded,
    sink::{Does, Sink},
    stack::{Builder, Stack, stack},
    until,
};
use tonic::{Code, Status};

const STEPS: usize = 80;

#[tokio::test(flavor = "multi_thread")]
async fn random_commands_with_one_relay() {
    run("random_commands_with_one_relay", vec![stack()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_commands_with_two_relays() {
    let prefix = prefix();
    let builders = vec![on_nats(&prefix).await, on_nats(&prefix).await];
    run("random_commands_with_two_relays", builders).await;
}

async fn run(name: &str, builders: Vec<Builder>) {
    let (sink, mut random) = (Sink::start().await, seeded(name));
    let keys = "pace: off\nretry: {schedule: [50ms, 300ms]}";
    let mut relays = Vec::new();
    for builder in builders {
        relays.push(builder.tenant("acme", |t| t.route("a", &sink.url("a"), keys)).start().await);
    }
    let mut sent = 0;
    for _ in 0..STEPS {
        let index = random.random_range(0..relays.len());
        let relay = &mut relays[index];
        match random.random_range(0..100) {
            0..30 => {
                relay.openrouter("acme").send(&format!("job {sent}"), "completed").await;
                sent += 1;
            }
            30..38 => may_fail(pause(relay, "acme", ["", "a"][random.random_range(0..2)]).await),
            38..52 => resume_all(relay).await,
            52..75 => {
                if let Some(id) = any(relay, &mut random).await {
                    may_fail(replay(relay, &id).await);
                }
            }
            75..87 => {
                if let Some(delivery_id) = any(relay, &mut random).await {
                    let (requested_by, reason) = ("bob".into(), String::new());
                    let request = CancelDeliveryRequest { delivery_id, requested_by, reason };
                    may_fail(relay.control().await.cancel_delivery(request).await);
                }
            }
            87..96 => sink.set("a", if random.random_bool(0.5) { Does::Accept } else { fails() }),
            _ => relay.kill_and_restart().await,
        }
    }
    sink.set("a", Does::Accept);
    resume_all(&relays[0]).await;
    for relay in &relays {
        until("everything to end", async || {
            let deliveries = relay.deliveries().await;
            let ended = deliveries.iter().all(|delivery| delivery.state() != State::Waiting);
            (deliveries.len() == sent && ended).then_some(())
        })
        .await;
    }
    let mut seen: HashMap<String, Vec<u32>> = HashMap::new();
    for request in sink.requests() {
        let (id, generation) = request.id.split_once('.').unwrap();
        seen.entry(id.to_owned()).or_default().push(generation.parse().unwrap());
    }
    let mut done: HashMap<State, usize> = HashMap::new();
    for Delivery { id, .. } in relays[0].deliveries().await {
        let found = look(&relays[0], &id).await;
        for relay in &relays[1..] {
            assert_eq!(look(relay, &id).await, found, "all relays say the same");
        }
        *done.entry(found.delivery.as_ref().unwrap().state()).or_default() += 1;
        explained(&found, seen.get(&id).map_or(&[], Vec::as_slice));
    }
    eprintln!("{sent} events came to {done:?} in {} requests", sink.requests().len());
}

/// A refused command, or one about an unknown delivery, changes nothing.
fn may_fail<T>(outcome: Result<T, Status>) {
    if let Err(error) = outcome {
        let codes = [Code::FailedPrecondition, Code::NotFound, Code::Unavailable];
        assert!(codes.contains(&error.code()), "{error}");
    }
}

async fn resume_all(relay: &Stack) {
    until("the status to know everything", async || {
        (relay.admin_get("/readyz").await.0 == 200).then_some(())
    })
    .await;
    for route in ["", "a"] {
        resume(relay, "acme", route).await;
    }
}

async fn any(relay: &Stack, random: &mut StdRng) -> Option<String> {
    let deliveries = relay.deliveries().await;
    let index = random.random_range(0..deliveries.len().max(1));
    deliveries.get(index).map(|delivery| delivery.id.clone())
}

async fn look(relay: &Stack, id: &str) -> GetDeliveryResponse {
    let request = GetDeliveryRequest { delivery_id: id.to_owned() };
    relay.status().await.get_delivery(request).await.unwrap().into_inner()
}

/// Checks that a delivery's history and the requests to Hermes explain its state.
fn explained(found: &GetDeliveryResponse, seen: &[u32]) {
    let delivery = found.delivery.as_ref().unwrap();
    let replays = found.actions.iter().filter(|action| action.kind() == ControlKind::Replayed).count();
    assert_eq!(delivery.generation as usize, 1 + replays, "each replay is a generation: {found:#?}");
    assert!(seen.is_sorted() && seen.iter().all(|seen| *seen <= delivery.generation), "{seen:?}: {found:#?}");
    let numbers: Vec<_> = found.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=delivery.attempts).collect::<Vec<_>>(), "{found:#?}");
    assert!(found.attempts.iter().map(|attempt| attempt.generation).is_sorted(), "{found:#?}");
    let last = found.actions.last().map(ControlAction::kind);
    match delivery.state() {
        State::Cancelled => assert_eq!(last, Some(ControlKind::Cancelled), "{found:#?}"),
        _ => assert_ne!(last, Some(ControlKind::Cancelled), "{found:#?}"),
    }
    if delivery.state() == State::Delivered {
        assert_eq!(seen.last(), Some(&delivery.generation), "{found:#?}");
    }
}
