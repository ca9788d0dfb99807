//! CPU time an event, from its callback to its delivery, with few and with many events stored.

use crate::{
    TENANT, data_directory,
    generator::{self, Load},
    hermes::count,
    measure::{cpu, median, memory},
    report::Row,
    role::{self, Other},
};
use std::time::Duration;
use talaria_proto::v1::GetSummaryRequest;
use talaria_tests::{
    stack::{Stack, stack},
    until,
};
use tempfile::TempDir;

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const ROUNDS: usize = 5;
const CONNECTIONS: usize = 64;
/// Callbacks that one connection sends in a round.
const EACH: usize = 200;

pub async fn run() -> Vec<Row> {
    let hermes = Other::start(role::HERMES);
    let (_many_data, many) = filled(&hermes, MANY).await;
    let memory_with_many = memory(many.pid());
    let [mut with_few, mut with_many, mut ratios] = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        // A fresh one each time, so that its size is constant.
        let (_few_data, few) = filled(&hermes, FEW).await;
        let few = cost(&hermes, &few, "few", FEW).await;
        let many = cost(&hermes, &many, &round.to_string(), MANY + round * CONNECTIONS * EACH).await;
        eprintln!("CPU an event: {few:.1} µs with {FEW} stored, {many:.1} µs with {MANY}");
        with_few.push(few);
        with_many.push(many);
        ratios.push(many / few);
    }
    vec![
        Row::new("CPU an event, to its delivery, 10⁶ stored", format!("{:.0} µs", median(with_many)))
            .baseline(format!("{:.0} µs with 10³ stored", median(with_few)))
            .ratio(median(ratios))
            .at_most(1.05),
        Row::new("resident memory, 10⁶ stored, just stored", format!("{memory_with_many:.0} MB")),
    ]
}

/// A Talaria that has stored so many events, which went nowhere. Completed jobs go to Hermes.
async fn filled(hermes: &Other, events: usize) -> (TempDir, Stack) {
    let directory = data_directory();
    let url = format!("http://{}/webhooks/r", hermes.address);
    let keys = format!("pace: off\nin_flight: {CONNECTIONS}\nevents: [video.generation.completed]");
    let talaria = stack()
        .with(&format!("data_dir: {}", directory.path().display()))
        .tenant(TENANT, |tenant| tenant.route("r", &url, &keys))
        .start()
        .await;
    let connections = 250;
    let load = Load {
        tenants: Load::one_tenant(),
        name: "stored".into(),
        status: "failed",
        connections,
        each: events / connections,
        time: Duration::MAX,
    };
    generator::run(talaria.ingress(), &load).await;
    until_known(&talaria, events).await;
    (directory, talaria)
}

/// Microseconds of CPU time an event, until everything about it is written.
async fn cost(hermes: &Other, talaria: &Stack, name: &str, stored: usize) -> f64 {
    let load = Load {
        tenants: Load::one_tenant(),
        name: name.into(),
        status: "completed",
        connections: CONNECTIONS,
        each: EACH,
        time: Duration::MAX,
    };
    let before = (cpu(talaria.pid()), count(hermes.address).await);
    let sent = generator::run(talaria.ingress(), &load).await.acknowledged.len();
    until("all to be forwarded", async || (count(hermes.address).await >= before.1 + sent).then_some(()))
        .await;
    until_known(talaria, stored + sent).await;
    let used = cpu(talaria.pid()).saturating_sub(before.0);
    used.as_secs_f64() * 1e6 / sent as f64
}

/// Waits until the status knows so many events, and nothing waits.
async fn until_known(talaria: &Stack, events: usize) {
    let mut status = talaria.status().await;
    until("the status to know everything", async || {
        let summary =
            status.get_summary(GetSummaryRequest { tenant: TENANT.into() }).await.unwrap().into_inner();
        let waiting: u64 = summary.routes.iter().map(|route| route.backlog).sum();
        let known: u64 = summary.tenants.iter().map(|tenant| tenant.events).sum();
        (waiting == 0 && known >= events as u64).then_some(())
    })
    .await;
}
