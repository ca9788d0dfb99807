//! Several ingresses and relays over one NATS, with load, while one after another of them is killed, frozen, cut off,
//! added and taken away.

use std::{
    env,
    time::{Duration, Instant},
};
use talaria_tests::{
    fleet::{Balancer, Fleet, Ledger, Load, fleet},
    gate::Gate,
    nats::Server,
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_work_is_shared_and_the_account_balances() {
    // The whole takes a few minutes, and a release build that TALARIA_BINARY names.
    let whole = env::var("TALARIA_WHOLE").is_ok();
    let (events, per_second) = if whole { (100_000, 1_000) } else { (2_500, 250) };
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let fleet = fleet(&ledger).over(&[server.url()]).tenants(50).routes(4).start().await;
    let start = Instant::now();
    let load = fleet.load().per_second(per_second).connections(32).events(events).start();
    let sent = load.end().await;
    let account = fleet.account(&ledger, &sent).await;
    eprintln!("{events} events to 4 routes each took {:?}", start.elapsed());
    assert_eq!(account.events as u64, events);
    assert_eq!(sent.refused + sent.unanswered, 0, "nothing was wrong");
    let mut shares = Vec::new();
    for relay in &fleet.relays {
        shares.push(relay.attempts().await);
    }
    let even = (account.deliveries + account.repeats) as f64 / shares.len() as f64;
    eprintln!("attempts by relay: {shares:?}, where {even:.0} would be even");
    // Tenants are divided by hashes, so 50 of them come out as even as dice.
    for share in shares {
        assert!(share as f64 >= even / 4.0, "{share} is next to nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_is_killed_and_starts_again() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let mut fleet = fleet(&ledger).over(&[server.url()]).relays(2).start().await;
    let load = fleet.load().start();
    for ingress in [0, 1, 0] {
        load.goes_on(100).await;
        fleet.ingresses[ingress].kill();
        // The other one accepts the callbacks.
        load.goes_on(100).await;
        fleet.ingresses[ingress].start_again().await;
    }
    load.goes_on(100).await;
    fleet.account(&ledger, &load.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_killed_others_take_its_work_over_and_it_comes_back() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let mut fleet = fleet(&ledger).over(&[server.url()]).start().await;
    let load = fleet.load().start();
    load.goes_on(200).await;
    // With requests under way.
    ledger.takes(Duration::from_millis(300));
    ledger.is_busy_with(20).await;
    fleet.relays[0].kill();
    ledger.takes(Duration::ZERO);
    taken_over(&fleet, &load, &ledger).await;
    fleet.relays[0].start_again().await;
    load.goes_on(200).await;
    // Two at once, of which one is back before it was missed.
    fleet.relays[1].kill();
    fleet.relays[2].kill();
    fleet.relays[2].start_again().await;
    taken_over(&fleet, &load, &ledger).await;
    fleet.relays[1].start_again().await;
    fleet.account(&ledger, &load.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_frozen_for_longer_than_others_wait_sends_nothing_under_another_id() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let mut fleet = fleet(&ledger).over(&[server.url()]).start().await;
    let load = fleet.load().start();
    load.goes_on(200).await;
    ledger.takes(Duration::from_secs(1));
    ledger.is_busy_with(50).await;
    fleet.relays[0].freeze();
    ledger.takes(Duration::ZERO);
    taken_over(&fleet, &load, &ledger).await;
    // Its answers have arrived, and its commits are overtaken.
    fleet.relays[0].thaw();
    load.goes_on(200).await;
    fleet.account(&ledger, &load.stop().await).await;
    works_again(&fleet, 0, &ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_join_and_leave_under_load() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let mut fleet = fleet(&ledger).over(&[server.url()]).relays(1).start().await;
    let load = fleet.load().start();
    load.goes_on(100).await;
    ledger.takes(Duration::from_millis(200));
    fleet.join().await;
    until("the second relay to have work", async || (fleet.relays[1].attempts().await > 50).then_some(()))
        .await;
    fleet.join().await;
    load.goes_on(200).await;
    // The one that planned and owned all.
    assert_eq!(fleet.relays[0].terminate().await, Some(0));
    load.goes_on(200).await;
    assert_eq!(fleet.relays[1].terminate().await, Some(0));
    load.goes_on(200).await;
    fleet.relays[0].start_again().await;
    load.goes_on(200).await;
    let account = fleet.account(&ledger, &load.stop().await).await;
    assert_eq!(account.repeats, 0, "whoever leaves finishes what it began");
}

/// As Kubernetes does it: one after another gets SIGTERM, while connections still reach it for a while, and the
/// next one only when the one before is ready again.
#[tokio::test(flavor = "multi_thread")]
async fn each_ingress_and_each_relay_is_restarted_in_turn_and_no_callback_fails() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let mut fleet = fleet(&ledger).over(&[server.url()]).relays(2).linger("3s").start().await;
    let balancer = Balancer::start().await;
    for ingress in &fleet.ingresses {
        balancer.add(ingress).await;
    }
    let load = fleet.load_through(&balancer).per_second(200).connections(16).start();
    load.goes_on(200).await;
    for ingress in &mut fleet.ingresses {
        let late = balancer.late();
        assert_eq!(ingress.terminate().await, Some(0));
        assert!(balancer.late() > late, "connections came to an ingress that was stopping");
        ingress.start_again().await;
        balancer.add(ingress).await;
        load.goes_on(200).await;
    }
    for relay in &mut fleet.relays {
        assert_eq!(relay.terminate().await, Some(0));
        relay.start_again().await;
        until("it to be ready", async || (relay.admin_get("/readyz").await.0 == 200).then_some(())).await;
        load.goes_on(200).await;
    }
    let sent = load.stop().await;
    assert_eq!((sent.refused, sent.unanswered), (0, 0), "each callback was taken at the first try");
    let account = fleet.account(&ledger, &sent).await;
    assert_eq!(account.repeats, 0, "whoever leaves finishes what it began");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_cut_off_loses_its_work_to_others_and_goes_on_when_it_is_back() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let gate = Gate::to(server.url().trim_start_matches("nats://").parse().unwrap()).await;
    let mut fleet = fleet(&ledger).over(&[server.url()]).relays(2).start().await;
    fleet.join_over(format!("nats://{}", gate.address)).await;
    let load = fleet.load().start();
    until("its first attempts", async || (fleet.relays[2].attempts().await > 50).then_some(())).await;
    ledger.takes(Duration::from_millis(500));
    ledger.is_busy_with(30).await;
    gate.close();
    ledger.takes(Duration::ZERO);
    taken_over(&fleet, &load, &ledger).await;
    gate.open();
    load.goes_on(200).await;
    fleet.account(&ledger, &load.stop().await).await;
    works_again(&fleet, 2, &ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(has_faketime),
    ignore = "needs Debian's package libfaketime; after installing it, `touch tests/build.rs`"
)]
async fn relays_whose_clocks_are_minutes_apart_work_together() {
    let library = crate::clock::LIBFAKETIME.unwrap();
    let shifted = |by: &str| {
        let variables = [("LD_PRELOAD", library), ("FAKETIME", by), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    };
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let mut fleet = fleet(&ledger).over(&[server.url()]).relays(1).start().await;
    fleet.join_with(shifted("+90s")).await;
    fleet.join_with(shifted("-90s")).await;
    ledger.refuses_some_once();
    let load = fleet.load().start();
    load.goes_on(300).await;
    // Its waiting deliveries are due by its clock, and continue by another one.
    assert_eq!(fleet.relays[1].terminate().await, Some(0));
    load.goes_on(200).await;
    let account = fleet.account(&ledger, &load.stop().await).await;
    assert!(account.repeats >= account.deliveries / 8, "many were refused once");
}

/// Waits until other relays deliver the events of every tenant, and so of the tenants of a relay that is gone.
async fn taken_over(fleet: &Fleet, load: &Load, ledger: &Ledger) {
    load.goes_on(200).await;
    let took = fleet.delivers(load, ledger).await;
    eprintln!("taken over after {took:?}");
}

/// Waits until a relay that is back has work again.
async fn works_again(fleet: &Fleet, relay: usize, ledger: &Ledger) {
    let before = fleet.relays[relay].attempts().await;
    let load = fleet.load().jobs("again").start();
    until("it to have work again", async || (fleet.relays[relay].attempts().await > before).then_some(()))
        .await;
    let sent = load.stop().await;
    fleet.account(ledger, &sent).await;
}
