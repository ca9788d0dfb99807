//! What is beyond a lane's window: turns among tenants, gates, and surveys.

use super::{Backend, Fixture, SECOND, never, routes};
use crate::{LEASE, Lane, Windows, time};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::v1::DeliveryTask;

fn lane(tenant: &str, route: &str) -> Lane {
    Lane { tenant: tenant.into(), route: route.into() }
}

pub async fn i06_an_event_for_many_routes_is_planned_for_all_of_them_at_once(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let names: Vec<String> = (0..200).map(|index| format!("r{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let seq = f.plan("wide", &names, f.clock.now()).await;
    drop(f);
    let f = Fixture::open(backend).await;
    let taken = f.bus.take(1_000, &never()).await.unwrap();
    assert_eq!(taken.len(), 200);
    assert!(taken.iter().all(|leased| leased.task.event_seq == seq));
}

pub async fn i08_tenants_take_turns_however_many_lanes_they_have(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let names: Vec<String> = (0..40).map(|index| format!("r{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let long_ago = time::before(f.clock.now(), 1000 * SECOND);
    for index in 0..2 {
        f.plan(&format!("backlog {index}"), &names, long_ago).await;
    }
    // Came last and is due last, but its tenant has had no turn yet.
    let seq = f.publish("quiet").await;
    let mut plan = f.plan_of(seq, "quiet", &[], f.clock.now());
    plan.deliveries.push(DeliveryTask {
        tenant: "quiet".into(),
        delivery_id: DeliveryId::new(EventId::new("quiet", "j", "t"), "r").to_string(),
        ..Fixture::task(seq, "r", f.clock.now())
    });
    f.bus.plan(vec![plan]).await.unwrap();
    let taken = f.bus.take(4, &never()).await.unwrap();
    assert!(taken.iter().any(|leased| leased.task.tenant == "quiet"), "{:?}", routes(&taken));
}

pub async fn i08_a_gate_holds_a_lane_back_and_no_other(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    for index in 0..3 {
        f.plan(&index.to_string(), &["gated", "free"], f.clock.now()).await;
    }
    let taken = f.bus.take(1, &never()).await.unwrap();
    f.bus.release(taken[0].lease).await.unwrap();
    f.bus.set_gate(lane("acme", "gated"), f.in_(10 * SECOND), 1).await.unwrap();
    assert_eq!(routes(&f.take().await), ["free"; 3]);
    assert!(f.nothing_is_due().await);
    // Whoever waits is woken when the gate opens, as when something comes due.
    let bus = f.bus.clone();
    let waiting = tokio::spawn(async move { bus.take(100, &never()).await.unwrap() });
    f.clock.advance(10 * SECOND);
    assert_eq!(waiting.await.unwrap().len(), 1, "the gate's window");
    assert!(f.nothing_is_due().await);
    f.bus.set_windows(Windows::default()).await.unwrap();
    assert!(f.nothing_is_due().await, "other windows leave the gate");
    f.bus.set_gate(lane("acme", "gated"), f.clock.now(), usize::MAX).await.unwrap();
    assert_eq!(routes(&f.take().await), ["gated"; 2]);
}

pub async fn i08_a_window_that_changes_counts_what_is_out(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let window =
        async |window| f.bus.set_windows(Windows([(lane("acme", "r"), window)].into())).await.unwrap();
    window(0).await;
    for index in 0..6 {
        f.plan(&index.to_string(), &["r"], f.clock.now()).await;
    }
    assert!(f.nothing_is_due().await, "it has no window");
    window(3).await;
    let taken = f.take().await;
    assert_eq!(taken.len(), 3);
    window(2).await;
    f.bus.settle(taken[0].lease, vec![]).await.unwrap();
    assert!(f.nothing_is_due().await, "two are out still");
    f.bus.settle(taken[1].lease, vec![]).await.unwrap();
    assert_eq!(f.take().await.len(), 1);
    assert!(f.nothing_is_due().await);
    // Nobody brings the two back. Whoever waits is woken when their leases are over.
    let bus = f.bus.clone();
    let waiting = tokio::spawn(async move { bus.take(100, &never()).await.unwrap() });
    f.clock.advance(LEASE);
    let again = waiting.await.unwrap();
    assert_eq!(again.len(), 2);
    assert!(!again.iter().any(|leased| leased.interrupted), "they have waited longest");
    window(9).await;
    let rest = f.take().await;
    assert_eq!(rest.len(), 2);
    assert!(rest.iter().all(|leased| leased.interrupted));
}

pub async fn i08_a_survey_finds_what_waits_and_not_what_is_held_here(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    f.plan("held", &["r", "other"], f.clock.now()).await;
    let taken = f.take().await;
    assert_eq!(taken.len(), 2);
    let (first, second) = (f.in_(5 * SECOND), f.in_(9 * SECOND));
    f.plan("second", &["r"], second).await;
    f.plan("first", &["r", "other"], first).await;
    let survey = f.bus.survey(lane("acme", "r"), |task| task.due_at).await.unwrap();
    assert_eq!(survey.found, [first, second].map(time::to_proto));
    assert_eq!(survey.held_elsewhere, 0);
    let some = f.bus.survey(lane("acme", "r"), |task| (task.event_seq == 2).then_some(())).await.unwrap();
    assert_eq!(some.found.len(), 1);
    assert!(f.bus.survey(lane("nobody", "r"), |_| Some(())).await.unwrap().found.is_empty());
    // The same process has the lane all the time.
    f.clock.advance(10 * SECOND);
    assert!(f.take().await.iter().all(|leased| leased.term == taken[0].term));
}
