//! Memory of `talaria up` while a million deliveries wait, beside the same one with an empty store.

use super::{PATIENCE, names, pause, resume, until_planned};
use crate::{
    TENANT, data_directory,
    generator::{self, Load},
    measure::{anonymous, memory},
    report::{Measured, Row},
};
use std::time::{Duration, Instant};
use talaria_tests::{
    stack::{Stack, stack},
    until_within,
};

const WAITING: usize = 1_000_000;
const CONNECTIONS: usize = 100;

/// How long a process may settle before it is looked at.
const SETTLING: Duration = Duration::from_secs(5);

/// Time of work on the backlog between two measurements.
const WORKING: Duration = Duration::from_secs(30);

/// Bytes of memory a delivery that we want at most.
const AIM: f64 = 300.0;

pub async fn run() -> Measured {
    let mut rows = Vec::new();
    for routes in [100, 1] {
        rows.extend(measure(routes).await);
    }
    let how = format!(
        "*Memory*: what a waiting delivery costs is the difference between the same process started on a store with \
         {WAITING} deliveries and on an empty one, {} seconds after it is ready, divided by their number; once with every \
         event waiting for 100 paused routes, once with as many events as deliveries. Then the routes, which lead to where \
         nobody listens, are resumed, and it is looked at again after {} seconds. *Anonymous* leaves out what is mapped \
         from files: the program, and the index of SQLite's log.",
        SETTLING.as_secs(),
        WORKING.as_secs()
    );
    Measured { how, rows }
}

/// The memory of a process, in MB.
#[derive(Clone, Copy)]
struct Memory {
    resident: f64,
    anonymous: f64,
}

impl Memory {
    fn of(talaria: &Stack) -> Self {
        Self { resident: memory(talaria.pid()), anonymous: anonymous(talaria.pid()) }
    }

    /// The lines that compare it with an empty one.
    fn rows(self, what: &str, empty: Self) -> [Row; 2] {
        let row = |kind: &str, [ours, theirs]: [f64; 2]| {
            let each = (ours - theirs) * 1e6 / WAITING as f64;
            let met = if each < AIM { "met" } else { "missed" };
            Row::new(&format!("{kind} memory, {what}"), format!("{ours:.0} MB, {each:.0} bytes each"))
                .baseline(format!("{theirs:.0} MB"))
                .aim(&format!("under {AIM} bytes each: {met}"))
        };
        [
            row("resident", [self.resident, empty.resident]),
            row("anonymous", [self.anonymous, empty.anonymous]),
        ]
    }
}

async fn measure(routes: usize) -> Vec<Row> {
    let directory = data_directory();
    let mut talaria = stack()
        .with(&format!("data_dir: {}", directory.path().display()))
        .tenant(TENANT, |tenant| {
            let url = "http://127.0.0.1:9/webhooks/r";
            names("r", routes).iter().fold(tenant, |tenant, name| tenant.route(name, url, "pace: off"))
        })
        .start()
        .await;
    until_ready(&talaria).await;
    talaria.terminate().await;
    let starts_empty = restart(&mut talaria).await;
    let empty = Memory::of(&talaria);

    let tenants = [TENANT.to_owned()];
    pause(&talaria, &tenants).await;
    let events = WAITING / routes;
    let load = Load {
        tenants: Load::one_tenant(),
        name: "job".into(),
        status: "completed",
        connections: CONNECTIONS,
        each: events / CONNECTIONS,
        time: Duration::MAX,
    };
    let sent = generator::run(talaria.ingress(), &load).await.acknowledged.len();
    assert_eq!(sent, events);
    until_planned(&talaria, &tenants, events).await;
    talaria.terminate().await;
    let starts_full = restart(&mut talaria).await;
    let waiting = Memory::of(&talaria);
    resume(&talaria, TENANT).await;
    tokio::time::sleep(WORKING).await;
    let working = Memory::of(&talaria);

    let what = format!("{events} events waiting for {routes} routes");
    let mut rows = Vec::from(waiting.rows(&what, empty));
    rows.extend(working.rows(&format!("{what}, at work"), empty));
    rows.push(
        Row::new(&format!("from the start to ready, {what}"), format!("{starts_full:.1} s"))
            .baseline(format!("{starts_empty:.1} s"))
            .aim(&format!("at most 3 s: {}", if starts_full <= 3.0 { "met" } else { "missed" })),
    );
    rows
}

/// Restarts it, and waits for its caches. Returns the seconds until it was ready.
async fn restart(talaria: &mut Stack) -> f64 {
    let start = Instant::now();
    talaria.kill_and_restart().await;
    until_ready(talaria).await;
    let took = start.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLING).await;
    took
}

async fn until_ready(talaria: &Stack) {
    let ready = async || (talaria.admin_get("/readyz").await.0 == 200).then_some(());
    until_within(PATIENCE, "talaria to be ready", ready).await;
}
