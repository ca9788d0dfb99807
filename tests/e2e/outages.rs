//! Ingresses and relays whose NATS fails: killed, frozen, stopped, a cluster that loses one node after another. None of
//! them is restarted for it.

use std::time::Duration;
use talaria_tests::{
    fleet::{Fleet, Ledger, Load, fleet},
    nats::{Cluster, Server},
    until,
};
use tokio::time::sleep;

/// Longer than the longest retry delay, so that an unfinished fault would be logged. The absence of a line cannot be awaited.
const SILENCE: Duration = Duration::from_millis(2_500);

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_killed_and_starts_again() {
    let (mut server, ledger) = (Server::start().await, Ledger::start().await);
    let mut fleet = fleet(&ledger).over(&[server.url()]).start().await;
    let load = fleet.load().start();
    for _ in 0..3 {
        load.goes_on(100).await;
        server.kill();
        server.start_again().await;
    }
    // The length of the fault: the server is away before clients notice it, and their requests are lost.
    load.goes_on(100).await;
    server.kill();
    sleep(Duration::from_secs(2)).await;
    server.start_again().await;
    load.goes_on(200).await;
    // They still notice a relay that is gone.
    fleet.relays[0].kill();
    load.goes_on(100).await;
    let took = fleet.delivers(&load, &ledger).await;
    eprintln!("its work was taken over within {took:?}");
    recovered(&fleet, &ledger, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_get_503_while_nats_is_frozen_and_all_goes_on_when_it_is_thawed() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let fleet = fleet(&ledger).over(&[server.url()]).start().await;
    let load = fleet.load().start();
    load.goes_on(200).await;
    server.freeze().await;
    load.is_refused().await;
    server.thaw();
    load.goes_on(200).await;
    recovered(&fleet, &ledger, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_get_503_while_nats_is_away_and_all_goes_on_when_it_is_back() {
    let (mut server, ledger) = (Server::start().await, Ledger::start().await);
    let fleet = fleet(&ledger).over(&[server.url()]).start().await;
    let load = fleet.load().start();
    load.goes_on(200).await;
    server.stop().await;
    load.is_refused().await;
    for part in fleet.ingresses.iter().chain(&fleet.relays) {
        let unready = async || (part.admin_get("/readyz").await.0 == 503).then_some(());
        until(&format!("{} to be unready", part.name()), unready).await;
        assert_eq!(part.admin_get("/healthz").await.0, 200, "{}", part.name());
    }
    server.start_again().await;
    load.goes_on(200).await;
    recovered(&fleet, &ledger, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_loses_the_leaders_of_its_streams_one_after_another() {
    let (mut cluster, ledger) = (Cluster::start(3).await, Ledger::start().await);
    let fleet = fleet(&ledger).over(&cluster.urls()).replicas(3).start().await;
    let load = fleet.load().start();
    for stream in ["talaria-events", "talaria-journal"] {
        load.goes_on(200).await;
        let leader = cluster.leader_of(stream).await;
        cluster.node(leader).kill();
        load.goes_on(200).await;
        cluster.node(leader).start_again().await;
        cluster.healthy().await;
    }
    load.goes_on(200).await;
    recovered(&fleet, &ledger, load).await;
}

/// As an upgrade does it.
#[tokio::test(flavor = "multi_thread")]
async fn each_server_of_a_cluster_is_restarted_in_turn() {
    let (mut cluster, ledger) = (Cluster::start(3).await, Ledger::start().await);
    let fleet = fleet(&ledger).over(&cluster.urls()).replicas(3).start().await;
    let load = fleet.load().start();
    for server in 0..3 {
        load.goes_on(200).await;
        cluster.node(server).stop().await;
        load.goes_on(200).await;
        cluster.node(server).start_again().await;
        cluster.healthy().await;
    }
    load.goes_on(200).await;
    recovered(&fleet, &ledger, load).await;
}

/// Waits until all are ready again, and checks the account.
async fn recovered(fleet: &Fleet, ledger: &Ledger, load: Load) {
    for part in fleet.ingresses.iter().chain(fleet.live_relays()) {
        let ready = async || (part.admin_get("/readyz").await.0 == 200).then_some(());
        until(&format!("{} to be ready", part.name()), ready).await;
    }
    let sent = load.stop().await;
    assert_eq!(sent.unanswered, 0, "every callback is answered");
    fleet.account(ledger, &sent).await;
    // The fault is over, and nothing more is logged about it.
    let before = fleet.complaints();
    sleep(SILENCE).await;
    let after = fleet.complaints();
    assert_eq!(before, after, "a part still complains");
}
