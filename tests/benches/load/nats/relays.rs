//! Forwards a second of one relay, and of three that share the same work.

use super::{forwards, side};
use crate::{
    arrived, hermes,
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
/// Relays share the work by routes.
const ROUTES: usize = 16;
const AT_ONCE: usize = 16;
/// Events that one connection fills in; each goes to every route.
const EACH: usize = 10;

pub async fn run(hermes: SocketAddr) -> Measured {
    let mut rates = [const { Vec::new() }; 2];
    let mut deliveries = 0;
    for _ in 0..ROUNDS {
        for (relays, rates) in RELAYS.into_iter().zip(&mut rates) {
            let nats = server().start().await;
            let _relays = start(&nats, hermes, relays).await;
            hermes::arrivals(hermes, 0).await;
            deliveries = forwards::fill(&nats, EACH).await * ROUTES;
            let rate = arrived::rate(hermes, deliveries).await;
            eprintln!("{relays} relays: {rate:.0}/s");
            rates.push(rate);
        }
    }
    let [one, three] = rates;
    let what = format!("forwards of three relays, beside those of one, {} at once", ROUTES * AT_ONCE);
    let rows = vec![Row::compare(&what, &three, &one, per_second)];
    let how = format!(
        "*Three relays*: {ROUNDS} times, {} events come at once and each goes to {ROUTES} routes, {deliveries} deliveries, \
         after the relays have divided the routes; the time counts from the first to the last arrival. All share these \
         cores with NATS and with Hermes, so this is what sharing the work costs and not what more machines bring.",
        deliveries / ROUTES
    );
    Measured { how, rows }
}

/// Starts relays, and waits until they have divided the work.
async fn start(nats: &Server, hermes: SocketAddr, count: usize) -> Vec<Other> {
    let routes: Vec<String> = (0..ROUTES).map(|route| format!("r{route}")).collect();
    let relays = (0..count).map(|_| side::relay(nats, hermes, &routes, AT_ONCE)).collect();
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
