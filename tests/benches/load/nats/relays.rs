//! Forwards a second of one relay, and of three that share the same work.

use super::{forwards, side};
use crate::{
    arrived, hermes,
    report::{Measured, Row, per_second},
    role::Other,
};
use async_nats::jetstream;
use prost::Message as _;
use std::net::SocketAddr;
use talaria_proto::v1::{Commit, operation::What};
use talaria_tests::{
    nats::{Server, server},
    until,
};

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
    let jetstream = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let journal = jetstream.get_stream("talaria-journal").await.unwrap();
    until("the relays to divide the work", async || {
        let message = journal.get_last_raw_message_by_subject("talaria.journal.membership").await.ok()?;
        let commit = Commit::decode(message.payload).unwrap();
        let What::Membership(membership) = commit.operations.into_iter().next()?.what? else { return None };
        (membership.members.len() == count).then_some(())
    })
    .await;
    relays
}
