//! Durable callbacks a second and their latency, beside an ingress that publishes each by itself. No relay runs.

use super::{EVENTS, Side};
use crate::{
    generator::{self, Load, Run},
    measure::median,
    report::{Measured, Row, millis, per_second},
};
use async_nats::jetstream;
use std::time::Duration;
use talaria_tests::nats::{Server, server};

const ROUNDS: usize = 3;
const CONNECTIONS: [usize; 2] = [64, 256];
const TIME: Duration = Duration::from_secs(4);

/// The server's sync interval, and the goal for the ratio of the rates.
const SYNCS: [(&str, bool, Option<f64>); 2] =
    [("default sync", false, Some(0.9)), ("sync always", true, None)];

pub async fn run() -> Measured {
    let mut rows = Vec::new();
    let [mut acknowledged, mut stored] = [0; 2];
    for (sync, always, aim) in SYNCS {
        for connections in CONNECTIONS {
            let what = format!("{connections} connections, {sync}");
            let [mut rates, mut p99s] = [const { [Vec::new(), Vec::new()] }; 2];
            for _ in 0..ROUNDS {
                for side in Side::BOTH {
                    let builder = if always { server().sync_always() } else { server() };
                    let nats = builder.start().await;
                    let mut run = load(side, &nats, connections).await;
                    let there = count(&nats).await;
                    acknowledged += run.acknowledged.len();
                    stored += there.min(run.acknowledged.len());
                    assert_eq!(there, run.acknowledged.len(), "{side:?}: not what was acknowledged");
                    eprintln!("{what}, {side:?}: {:.0}/s, p99 {}", run.rate(), millis(run.p99()));
                    rates[side as usize].push(run.rate());
                    p99s[side as usize].push(run.p99());
                }
            }
            let [baseline, ours] = rates;
            let row = Row::compare(&format!("durable callbacks, {what}"), &ours, &baseline, per_second);
            rows.push(match aim {
                Some(aim) => row.at_least(aim),
                None => row,
            });
            let [baseline, ours] = p99s.map(median);
            rows.push(Row::new(&format!("p99, {what}"), millis(ours)).baseline(millis(baseline)));
        }
    }
    let lost = format!("{} of {acknowledged}", acknowledged - stored);
    rows.push(Row::new("acknowledged callbacks that are not in the stream", lost).aim("0"));
    let how = format!(
        "*Durable callbacks*: `talaria ingress` beside the same axum stack that verifies, awaits one JetStream publish \
         with a message id for each request before its 204, and keeps no account; no relay runs; {ROUNDS} rounds of {} \
         seconds each. *Default sync* is a NATS server as it comes, *sync always* one with `sync_interval: always`, \
         which has every message on the disk before it acknowledges it. Afterwards the stream has to hold as many \
         events as were acknowledged.",
        TIME.as_secs()
    );
    Measured { how, rows }
}

async fn load(side: Side, nats: &Server, connections: usize) -> Run {
    let ingress = side.ingress(nats);
    let load = Load {
        tenants: Load::one_tenant(),
        name: "job".into(),
        status: "completed",
        connections,
        each: usize::MAX,
        time: TIME,
    };
    generator::run(ingress.address, &load).await
}

async fn count(nats: &Server) -> usize {
    let jetstream = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let stream = jetstream.get_stream(EVENTS).await.unwrap();
    usize::try_from(stream.cached_info().state.messages).unwrap()
}
