//! Forwards a second of one relay from a stream that is full of events, beside a relay that keeps no account.

use super::{Side, side};
use crate::{
    TENANT, arrived,
    generator::{self, Load},
    hermes,
    report::{Measured, Row, per_second},
};
use std::{net::SocketAddr, time::Duration};
use talaria_tests::nats::{Server, server};

const ROUNDS: usize = 3;
const AT_ONCE: usize = 256;
const CONNECTIONS: usize = 256;
/// Events that one connection fills in.
const EACH: usize = 120;

pub async fn run(hermes: SocketAddr) -> Measured {
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for side in Side::BOTH {
            let nats = server().start().await;
            let events = fill(&nats, &[TENANT.to_owned()], EACH).await;
            hermes::arrivals(hermes, 0).await;
            let _relay = side.relay(&nats, hermes, AT_ONCE);
            let rate = arrived::rate(hermes, events).await;
            eprintln!("forwards, {side:?}: {rate:.0}/s");
            rates[side as usize].push(rate);
        }
    }
    let [baseline, ours] = rates;
    let rows = vec![
        Row::compare(&format!("forwards, {AT_ONCE} at once"), &ours, &baseline, per_second).at_least(0.85),
    ];
    let how = format!(
        "*Forwards*: {ROUNDS} times, {} events are in the stream before one relay starts, and the time counts from the \
         first to the last arrival at a stand-in Hermes; beside `talaria relay` (one route, pace off) a program with a \
         durable pull consumer that decodes, signs, posts and acknowledges, tries nothing again and keeps no account. \
         Both send the raw body, up to {AT_ONCE} at once.",
        CONNECTIONS * EACH
    );
    Measured { how, rows }
}

/// Fills the stream through Talaria's ingress. How many events there are then.
pub async fn fill(nats: &Server, tenants: &[String], each: usize) -> usize {
    let ingress = side::ingress(nats, tenants);
    let load = Load {
        tenants: tenants.into(),
        name: "job".into(),
        status: "completed",
        connections: CONNECTIONS,
        each,
        time: Duration::MAX,
    };
    generator::run(ingress.address, &load).await.acknowledged.len()
}
