//! The console's cost: for deliveries while many look, and for a page over a million deliveries.

use super::{names, pause, until_planned};
use crate::{
    TENANT,
    arrived::{self, Journeys},
    data_directory,
    generator::{self, Load},
    hermes,
    measure::{cpu, median},
    report::{Measured, Row, millis},
    role::{self, Other},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use talaria_tests::stack::{Stack, stack};
use tokio::task::JoinSet;

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(15);

/// Callbacks a second, to one route.
const RATE: usize = 500;
const CONNECTIONS: usize = 50;

const VIEWERS: usize = 50;

/// What the viewers look at, in turn.
const LOOKED_AT: [&str; 4] = ["/", "/deliveries", "/routes", "/inbox"];

/// Deliveries of the store whose pages are asked for: so many events, each to so many routes.
const EVENTS: usize = 10_000;
const ROUTES: usize = 100;

/// How often each page is asked for.
const ASKED: usize = 20;

pub async fn run() -> Measured {
    let mut rows = viewers().await;
    rows.extend(pages().await);
    let how = format!(
        "*Console*: {RATE} callbacks a second to one route, from a callback's sending to its arrival at a stand-in Hermes, with \
         {VIEWERS} live pages open (overview, deliveries, routes and inbox in turn) and with none; pace off; {ROUNDS} rounds of {} \
         seconds that take turns. *Pages*: the time until the last byte and the size of each page, asked for {ASKED} times one after \
         another, with {EVENTS} events that wait for {ROUTES} paused routes.",
        TIME.as_secs()
    );
    Measured { how, rows }
}

async fn viewers() -> Vec<Row> {
    let hermes = Other::start(role::HERMES);
    let [mut p50s, mut p99s, mut cpus] = [const { [const { Vec::new() }; 2] }; 3];
    for _ in 0..ROUNDS {
        for (side, viewers) in [(0, VIEWERS), (1, 0)] {
            let (run, used) = send(hermes.address, viewers).await;
            eprintln!(
                "{viewers} viewers: p50 {}, p99 {}, CPU {used:.1} %",
                millis(run.at(50)),
                millis(run.at(99))
            );
            p50s[side].push(run.at(50));
            p99s[side].push(run.at(99));
            cpus[side].push(used);
        }
    }
    let percent = |value| format!("{value:.0} %");
    let what = |name: &str| format!("{name} of a callback's way, with {VIEWERS} live pages");
    vec![
        Row::of_medians(&what("p50"), &p50s[0], &p50s[1], millis),
        Row::of_medians(&what("p99"), &p99s[0], &p99s[1], millis).at_most(1.1),
        Row::new(&what("CPU"), percent(median(cpus[0].clone()))).baseline(percent(median(cpus[1].clone()))),
    ]
}

/// How long callbacks took, and the CPU time that Talaria used, in per cent of one core.
async fn send(hermes: SocketAddr, viewers: usize) -> (Journeys, f64) {
    let directory = data_directory();
    let talaria = stack()
        .with(&format!("data_dir: {}", directory.path().display()))
        .tenant(TENANT, |tenant| tenant.route("r", &format!("http://{hermes}/webhooks/r"), "pace: off"))
        .start()
        .await;
    hermes::arrivals(hermes, 0).await;
    let warm_up = generator::run(talaria.ingress(), &Load { each: 20, ..load("warm-up") }).await;
    hermes::arrivals(hermes, warm_up.acknowledged.len()).await;
    let _looking = look(&talaria, viewers).await;
    let before = cpu(talaria.pid());
    let sent = generator::paced(talaria.ingress(), &load("job"), RATE as f64).await;
    let used = cpu(talaria.pid()).saturating_sub(before).as_secs_f64() / TIME.as_secs_f64() * 100.0;
    (arrived::journeys(hermes, &sent).await, used)
}

/// Live pages, each with its first content. They end when this is dropped.
async fn look(talaria: &Stack, viewers: usize) -> JoinSet<()> {
    let mut looking = JoinSet::new();
    for viewer in 0..viewers {
        let page = LOOKED_AT[viewer % LOOKED_AT.len()];
        let mut news = reqwest::get(format!("http://{}/live?page={page}", talaria.console())).await.unwrap();
        assert_eq!(news.status(), 200);
        assert!(news.chunk().await.unwrap().is_some());
        looking.spawn(async move { while let Ok(Some(_)) = news.chunk().await {} });
    }
    looking
}

fn load(name: &str) -> Load {
    Load {
        tenants: Load::one_tenant(),
        name: name.into(),
        status: "completed",
        connections: CONNECTIONS,
        each: RATE * usize::try_from(TIME.as_secs()).unwrap() / CONNECTIONS,
        time: Duration::MAX,
    }
}

async fn pages() -> Vec<Row> {
    let directory = data_directory();
    let talaria = stack()
        .with(&format!("data_dir: {}", directory.path().display()))
        .tenant(TENANT, |tenant| {
            let url = "http://127.0.0.1:9/webhooks/r";
            names("r", ROUTES).iter().fold(tenant, |tenant, name| tenant.route(name, url, "pace: off"))
        })
        .start()
        .await;
    let tenants = [TENANT.to_owned()];
    pause(&talaria, &tenants).await;
    let sent =
        generator::run(talaria.ingress(), &Load { each: EVENTS / CONNECTIONS, ..load("stored") }).await;
    until_planned(&talaria, &tenants, sent.acknowledged.len()).await;
    let mut rows = Vec::new();
    let first = text(&talaria, "/deliveries").await;
    let delivery = first.split('"').find(|part| part.starts_with("/deliveries/dlv_")).unwrap().to_owned();
    let event = text(&talaria, "/inbox").await;
    let event = event.split('"').find(|part| part.starts_with("/events/evt_")).unwrap().to_owned();
    for (name, page) in [
        ("overview", "/"),
        ("inbox", "/inbox"),
        ("deliveries", "/deliveries"),
        ("deliveries, filtered", "/deliveries?route=r7&state=waiting"),
        ("a delivery", &delivery),
        ("an event", &event),
        ("routes", "/routes"),
        ("a route", "/routes/acme/r7"),
        ("jobs", "/jobs"),
    ] {
        let (mut times, mut size) = (Vec::new(), 0);
        for _ in 0..ASKED {
            let began = Instant::now();
            size = text(&talaria, page).await.len();
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        let worst = times.iter().copied().fold(0.0, f64::max);
        eprintln!("{name}: {}, at most {}, {size} bytes", millis(median(times.clone())), millis(worst));
        let is_met = if worst <= 200.0 && size <= 100_000 { "met" } else { "missed" };
        rows.push(
            Row::new(
                &format!("page with {} deliveries: {name}", EVENTS * ROUTES),
                format!(
                    "{}, at most {}; {:.0} KB",
                    millis(median(times)),
                    millis(worst),
                    size as f64 / 1000.0
                ),
            )
            .aim(&format!("at most 200 ms and 100 KB: {is_met}")),
        );
    }
    rows
}

async fn text(talaria: &Stack, page: &str) -> String {
    let answer = reqwest::get(format!("http://{}{page}", talaria.console())).await.unwrap();
    assert_eq!(answer.status(), 200, "{page}");
    answer.text().await.unwrap()
}
