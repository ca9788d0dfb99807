//! Ingresses and relays whose NATS fails: killed, frozen, stopped, a cluster that loses one node after another. None of
//! them is restarted for it.

use std::{env, time::Duration};
use talaria_tests::{
    fleet::{Fleet, Ledger, Load, Sent, fleet},
    nats::{Cluster, Server},
    until,
};
use tokio::time::sleep;

/// The longest that a callback may wait for its answer, whatever happens: the ingress' own deadline, and what a busy
/// machine adds.
const DEADLINE: Duration = Duration::from_secs(12);

/// How soon others take the work of a relay over that is gone: some six seconds, and what a busy machine adds.
const TAKEN_OVER: Duration = Duration::from_secs(15);

/// How long the log stays silent when all is well. What is tried again is tried sooner.
const QUIET: Duration = Duration::from_millis(2_500);

/// How long NATS is away. A longer time shows no more but on a whole run.
fn outage() -> Duration {
    Duration::from_secs(if env::var("TALARIA_WHOLE").is_ok() { 30 } else { 8 })
}

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
    // While the connection is down and its loss is not noticed yet, all requests on it are lost.
    load.goes_on(100).await;
    server.kill();
    sleep(Duration::from_secs(2)).await;
    server.start_again().await;
    load.goes_on(200).await;
    // And they still notice who is gone.
    fleet.relays[0].kill();
    load.goes_on(100).await;
    let took = fleet.delivers(&load, &ledger).await;
    eprintln!("its work was taken over within {took:?}");
    assert!(took < TAKEN_OVER, "{took:?}");
    recovered(&fleet, &ledger, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_get_503_while_nats_is_frozen_and_all_goes_on_when_it_is_thawed() {
    let (server, ledger) = (Server::start().await, Ledger::start().await);
    let fleet = fleet(&ledger).over(&[server.url()]).start().await;
    let load = fleet.load().start();
    load.goes_on(200).await;
    server.freeze().await;
    sleep(outage()).await;
    server.thaw();
    load.goes_on(200).await;
    let sent = recovered(&fleet, &ledger, load).await;
    assert!(sent.refused > 0, "callbacks were told to come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_get_503_while_nats_is_away_and_all_goes_on_when_it_is_back() {
    let (mut server, ledger) = (Server::start().await, Ledger::start().await);
    let fleet = fleet(&ledger).over(&[server.url()]).start().await;
    let load = fleet.load().start();
    load.goes_on(200).await;
    server.stop().await;
    sleep(outage()).await;
    for part in fleet.ingresses.iter().chain(&fleet.relays) {
        assert_eq!(part.admin_get("/readyz").await.0, 503, "{}", part.name());
        assert_eq!(part.admin_get("/healthz").await.0, 200, "{}", part.name());
    }
    server.start_again().await;
    load.goes_on(200).await;
    let sent = recovered(&fleet, &ledger, load).await;
    assert!(sent.refused > 0, "callbacks were told to come again");
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

/// Whether everybody is ready again, and the account balances.
async fn recovered(fleet: &Fleet, ledger: &Ledger, load: Load) -> Sent {
    for part in fleet.ingresses.iter().chain(fleet.live_relays()) {
        let ready = async || (part.admin_get("/readyz").await.0 == 200).then_some(());
        until(&format!("{} to be ready", part.name()), ready).await;
    }
    let sent = load.stop().await;
    assert!(sent.slowest < DEADLINE, "a callback had its answer after {:?}", sent.slowest);
    fleet.account(ledger, &sent).await;
    // The fault is over, and the log says no more of it.
    let before = fleet.complaints();
    sleep(QUIET).await;
    let after = fleet.complaints();
    assert_eq!(before, after, "somebody still complains");
    sent
}
