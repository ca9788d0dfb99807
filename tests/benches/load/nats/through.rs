//! How long a callback takes from its sending to its arrival at Hermes, when so many come a second.

use super::Side;
use crate::{
    arrived::{self, Journeys},
    generator::{self, Load},
    hermes,
    report::{Measured, Row, millis},
};
use std::{net::SocketAddr, time::Duration};
use talaria_tests::nats::server;

const ROUNDS: usize = 3;
const CONNECTIONS: usize = 64;
const AT_ONCE: usize = 256;
const TIME: Duration = Duration::from_secs(8);

/// Callbacks a second: the first rate that both sides carry is used.
const RATES: [usize; 3] = [1000, 500, 250];

/// How long both sides try a rate.
const TRY: Duration = Duration::from_secs(4);

/// How much later than it was sent the last one may arrive, if a rate is carried.
const BACKLOG: Duration = Duration::from_millis(250);

pub async fn run(hermes: SocketAddr) -> Measured {
    let rate = carried(hermes).await;
    let [mut p50s, mut p99s] = [const { [Vec::new(), Vec::new()] }; 2];
    for _ in 0..ROUNDS {
        for side in Side::BOTH {
            let run = send(side, hermes, rate, TIME).await;
            eprintln!("{rate}/s through, {side:?}: p50 {}, p99 {}", millis(run.at(50)), millis(run.at(99)));
            p50s[side as usize].push(run.at(50));
            p99s[side as usize].push(run.at(99));
        }
    }
    let row = |name: &str, [baseline, ours]: [Vec<f64>; 2]| {
        Row::compare(&format!("{name} from sending to arrival, {rate}/s"), &ours, &baseline, millis)
    };
    let rows = vec![row("p50", p50s).at_most(1.5), row("p99", p99s).at_most(1.5)];
    let wanted = if rate == RATES[0] {
        String::new()
    } else {
        format!(" This machine did not carry {}/s on both sides, so it was taken at {rate}/s.", RATES[0])
    };
    let how = format!(
        "*From sending to arrival*: {rate} callbacks a second over {CONNECTIONS} connections, {ROUNDS} rounds of {} \
         seconds, through one ingress and one relay to a stand-in Hermes, beside the two programs of the rows above; \
         default sync.{wanted}",
        TIME.as_secs()
    );
    Measured { how, rows }
}

/// The first rate that both sides carry.
async fn carried(hermes: SocketAddr) -> usize {
    let mut rates = RATES.into_iter();
    loop {
        let rate = rates.next().expect("no rate is carried");
        let mut all = true;
        for side in Side::BOTH {
            let run = send(side, hermes, rate, TRY).await;
            eprintln!("{rate}/s tried, {side:?}: the last one came after {:?}", run.last);
            all &= run.last < BACKLOG;
        }
        if all {
            return rate;
        }
    }
}

async fn send(side: Side, hermes: SocketAddr, rate: usize, time: Duration) -> Journeys {
    let nats = server().start().await;
    let ingress = side.ingress(&nats);
    let _relay = side.relay(&nats, hermes, AT_ONCE);
    warm_up(ingress.address, hermes).await;
    let each = rate * usize::try_from(time.as_secs()).unwrap() / CONNECTIONS;
    let load = load("job", each);
    let sent = generator::paced(ingress.address, &load, rate as f64).await;
    arrived::journeys(hermes, &sent).await
}

/// A few callbacks go through before the time counts, so that every connection is there and a relay works.
async fn warm_up(ingress: SocketAddr, hermes: SocketAddr) {
    hermes::arrivals(hermes, 0).await;
    let sent = generator::run(ingress, &load("warm-up", 10)).await.acknowledged.len();
    hermes::arrivals(hermes, sent).await;
}

fn load(name: &str, each: usize) -> Load {
    Load {
        tenants: Load::one_tenant(),
        name: name.into(),
        status: "completed",
        connections: CONNECTIONS,
        each,
        time: Duration::MAX,
    }
}
