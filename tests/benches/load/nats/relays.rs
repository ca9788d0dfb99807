//! Forwards a second of one relay, and of three that share the same work.

use super::{forwards, side};
use crate::{
    arrived, hermes,
    measure::cpu,
    report::{Measured, Row, per_second},
    role::Other,
};
use futures_util::StreamExt as _;
use prost::Message as _;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use talaria_proto::v1::RelayAnnouncement;
use talaria_tests::nats::{Server, server};

const ROUNDS: usize = 3;
const RELAYS: [usize; 2] = [1, 3];
/// Relays share the work by tenants, each with one route.
const TENANTS: usize = 16;
const AT_ONCE: usize = 16;
/// Events that one connection fills in.
const EACH: usize = 120;

pub async fn run(hermes: SocketAddr) -> Measured {
    let tenants: Vec<String> = (0..TENANTS).map(|tenant| format!("t{tenant}")).collect();
    let [mut rates, mut costs] = [const { [const { Vec::new() }; 2] }; 2];
    let mut deliveries = 0;
    for _ in 0..ROUNDS {
        for (index, relays) in RELAYS.into_iter().enumerate() {
            let nats = server().start().await;
            let running = start(&nats, hermes, &tenants, relays).await;
            hermes::arrivals(hermes, 0).await;
            let used = || running.iter().map(|relay| cpu(relay.pid())).sum::<Duration>();
            let before = used();
            deliveries = forwards::fill(&nats, &tenants, EACH).await;
            let rate = arrived::rate(hermes, deliveries).await;
            let cost = used().saturating_sub(before).as_secs_f64() * 1e6 / deliveries as f64;
            eprintln!("{relays} relays: {rate:.0}/s, {cost:.0} µs a forward");
            rates[index].push(rate);
            costs[index].push(cost);
        }
    }
    let [one, three] = rates;
    let rate = Row::compare("forwards of three relays, beside those of one", &three, &one, per_second);
    let [one, three] = costs;
    let micros = |value| format!("{value:.0} µs");
    let cost = Row::compare("CPU of the relays a forward, three beside one", &three, &one, micros);
    let rows = vec![rate.at_least(0.9), cost.at_most(1.15)];
    let how = format!(
        "*Three relays*: {ROUNDS} times, {deliveries} events of {TENANTS} tenants come at once, after the relays have \
         divided the tenants; the time counts from the first to the last arrival. All share these cores with NATS and with \
         Hermes, so this is what sharing the work costs and not what more machines bring."
    );
    Measured { how, rows }
}

/// Starts relays, and waits until they have divided the work.
async fn start(nats: &Server, hermes: SocketAddr, tenants: &[String], count: usize) -> Vec<Other> {
    let relays = (0..count).map(|_| side::relay(nats, hermes, tenants, AT_ONCE)).collect();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut announcements = client.subscribe("talaria.relays.*").await.unwrap();
    let mut owned: BTreeMap<String, usize> = BTreeMap::new();
    let divided = async {
        // All partitions have owners, and each relay has some.
        while owned.len() < count || owned.values().sum::<usize>() != 64 || owned.values().any(|it| *it == 0)
        {
            let message = announcements.next().await.unwrap();
            let announced = RelayAnnouncement::decode(message.payload).unwrap();
            owned.insert(message.subject.to_string(), announced.owned.len());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), divided).await.expect("the relays divide the work");
    relays
}
