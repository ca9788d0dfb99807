//! Durable callbacks a second and their latency, beside a stack that keeps nothing.
//!
//! Twice: without a route (verify, normalize, commit, plan, status), and with one whose pace lets next to nothing
//! out, so that each event also leaves a delivery that waits.

use crate::{
    TENANT, data_directory,
    generator::{self, Load},
    measure::{median, memory, peak_memory},
    report::{Row, millis, per_second},
    role::{self, Other},
};
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};
use std::{collections::HashSet, time::Duration};
use talaria_proto::v1::Event;
use talaria_tests::stack::{Stack, stack};

const ROUNDS: usize = 5;
const CONNECTIONS: [usize; 2] = [64, 256];
const TIME: Duration = Duration::from_secs(4);

pub async fn run() -> Vec<Row> {
    let bare = Other::start(role::BARE);
    let mut rows = Vec::new();
    for (kind, route) in [("no route", None), ("a route that waits", Some("http://127.0.0.1:9/webhooks/r"))] {
        let directory = data_directory();
        let data = format!("data_dir: {}", directory.path().display());
        let tenant = stack()
            .with(&data)
            .tenant(TENANT, |tenant| route.iter().fold(tenant, |tenant, url| tenant.route("r", url, "")));
        let mut talaria = tenant.start().await;
        let idle = memory(talaria.pid());
        let mut acknowledged = Vec::new();
        for connections in CONNECTIONS {
            rows.extend(compare(&bare, &talaria, kind, connections, &mut acknowledged).await);
        }
        let peak = peak_memory(talaria.pid());
        rows.push(
            Row::new(&format!("resident memory idle, {kind}"), format!("{idle:.0} MB")).aim("under 40 MB"),
        );
        rows.push(Row::new(&format!("resident memory, most under load, {kind}"), format!("{peak:.0} MB")));
        talaria.kill_and_restart().await;
        let lost = lost(directory.path(), &acknowledged);
        rows.push(
            Row::new(
                &format!("acknowledged callbacks that were gone after a kill -9, {kind}"),
                format!("{lost} of {}", acknowledged.len()),
            )
            .aim("0"),
        );
        assert_eq!(lost, 0, "acknowledged callbacks were lost");
    }
    rows
}

async fn compare(
    bare: &Other,
    talaria: &Stack,
    kind: &str,
    connections: usize,
    acknowledged: &mut Vec<String>,
) -> Vec<Row> {
    let [mut rates, mut bare_rates, mut ratios, mut p99s, mut bare_p99s] = [const { Vec::new() }; 5];
    for round in 0..ROUNDS {
        let load = Load {
            tenants: Load::one_tenant(),
            name: format!("{connections}-{round}"),
            status: "completed",
            connections,
            each: usize::MAX,
            time: TIME,
        };
        let mut beside = generator::run(bare.address, &load).await;
        let mut ours = generator::run(talaria.ingress(), &load).await;
        eprintln!("{kind}, {connections} connections: {:.0}/s beside {:.0}/s", ours.rate(), beside.rate());
        rates.push(ours.rate());
        bare_rates.push(beside.rate());
        ratios.push(ours.rate() / beside.rate());
        p99s.push(ours.p99());
        bare_p99s.push(beside.p99());
        acknowledged.append(&mut ours.acknowledged);
    }
    let what = |what: &str| format!("{what}, {connections} connections, {kind}");
    vec![
        Row::new(&what("durable callbacks"), per_second(median(rates)))
            .baseline(per_second(median(bare_rates)))
            .ratio(median(ratios))
            .at_least(0.45),
        Row::new(&what("p99"), millis(median(p99s))).baseline(millis(median(bare_p99s))),
    ]
}

/// How many of these jobs' events the bus does not have.
fn lost(directory: &std::path::Path, jobs: &[String]) -> usize {
    let bus =
        Connection::open_with_flags(directory.join("bus.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = bus.prepare("SELECT bytes FROM events WHERE kind = 0").unwrap();
    let job = |row: &rusqlite::Row<'_>| Ok(Event::decode(row.get_ref(0)?.as_blob()?).unwrap().job_id);
    let kept: HashSet<String> = statement.query_map((), job).unwrap().map(Result::unwrap).collect();
    let is_kept = |job: &&String| kept.contains(*job);
    jobs.len() - jobs.iter().filter(is_kept).count()
}
