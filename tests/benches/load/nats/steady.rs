//! How long a callback takes to its answer when so many come a second, beside an ingress that publishes each by itself.

use super::Side;
use crate::{
    generator::{self, Load},
    report::{Measured, Row, millis},
};
use std::time::Duration;
use talaria_tests::nats::server;

const ROUNDS: usize = 5;
const RATE: usize = 5000;
const CONNECTIONS: usize = 64;
const TIME: Duration = Duration::from_secs(6);

pub async fn run() -> Measured {
    let [mut p50s, mut p99s] = [const { [Vec::new(), Vec::new()] }; 2];
    for _ in 0..ROUNDS {
        for side in Side::BOTH {
            let [p50, p99] = send(side).await;
            eprintln!("{RATE}/s, {side:?}: p50 {}, p99 {}", millis(p50), millis(p99));
            p50s[side as usize].push(p50);
            p99s[side as usize].push(p99);
        }
    }
    let row = |name: &str, [baseline, ours]: [Vec<f64>; 2]| {
        Row::compare(
            &format!("{name} of durable callbacks, {RATE}/s, default sync"),
            &ours,
            &baseline,
            millis,
        )
    };
    let rows = vec![row("p50", p50s), row("p99", p99s).at_most(1.2)];
    let how = format!(
        "*Durable callbacks at a fixed rate*: {RATE} callbacks a second over {CONNECTIONS} connections, {ROUNDS} rounds of \
         {} seconds, from a callback's sending to its 204, beside the same ingress; no relay runs.",
        TIME.as_secs()
    );
    Measured { how, rows }
}

/// The median and the 99th percentile in milliseconds.
async fn send(side: Side) -> [f64; 2] {
    let nats = server().start().await;
    let ingress = side.ingress(&nats);
    // A few come before the time counts, so that every connection is there.
    generator::run(ingress.address, &load("warm-up", 20)).await;
    let each = RATE * usize::try_from(TIME.as_secs()).unwrap() / CONNECTIONS;
    let sent = generator::paced(ingress.address, &load("job", each), RATE as f64).await;
    let mut took: Vec<f64> = sent.iter().map(|sent| sent.took.as_secs_f64() * 1000.0).collect();
    took.sort_unstable_by(f64::total_cmp);
    [50, 99].map(|percent| took[took.len() * percent / 100])
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
