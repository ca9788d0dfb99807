//! Callbacks a second all the way to Hermes, beside a client that only signs and posts.

use crate::{
    TENANT, bare, data_directory,
    generator::{self, Load},
    hermes::count,
    measure::{cpu, median},
    report::{Row, per_second},
    role::{self, Other},
};
use std::time::{Duration, Instant};
use talaria_tests::{openrouter::payload, sink::SECRET, stack::stack, until};

const ROUNDS: usize = 3;
const CONNECTIONS: usize = 64;
/// Callbacks that one connection sends in a round.
const EACH: usize = 300;

pub async fn run() -> Vec<Row> {
    let hermes = Other::start(role::HERMES);
    let directory = data_directory();
    let talaria = stack()
        .with(&format!("data_dir: {}", directory.path().display()))
        .tenant(TENANT, |tenant| {
            let url = format!("http://{}/webhooks/r", hermes.address);
            tenant.route("r", &url, &format!("pace: off\nin_flight: {CONNECTIONS}"))
        })
        .start()
        .await;
    let [mut rates, mut bare_rates, mut ratios, mut costs] = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let jobs = (0..CONNECTIONS * EACH).map(|index| payload(&format!("bare-{index}"), "completed"));
        let bodies = jobs.map(|body| body.to_string().into()).collect();
        let beside = bare::forward(hermes.address, SECRET, bodies, CONNECTIONS).await;
        let load = Load {
            tenants: Load::one_tenant(),
            name: round.to_string(),
            status: "completed",
            connections: CONNECTIONS,
            each: EACH,
            time: Duration::MAX,
        };
        let (start, before, used) = (Instant::now(), count(hermes.address).await, cpu(talaria.pid()));
        let sent = generator::run(talaria.ingress(), &load).await.acknowledged.len();
        until("all to be forwarded", async || (count(hermes.address).await >= before + sent).then_some(()))
            .await;
        let ours = sent as f64 / start.elapsed().as_secs_f64();
        let cost = cpu(talaria.pid()).saturating_sub(used).as_secs_f64() * 1e6 / sent as f64;
        eprintln!("end to end: {ours:.0}/s beside {beside:.0}/s, {cost:.0} µs of CPU time an event");
        costs.push(cost);
        rates.push(ours);
        bare_rates.push(beside);
        ratios.push(ours / beside);
    }
    vec![
        Row::new(
            &format!("end to end to a stand-in Hermes, {CONNECTIONS} at once"),
            per_second(median(rates)),
        )
        .baseline(per_second(median(bare_rates)))
        .ratio(median(ratios))
        .at_least(0.18),
        Row::new("CPU an event, end to end", format!("{:.0} µs", median(costs))).aim("at most 110 µs"),
    ]
}
