//! Forwards a second when thousands of routes have something due, beside fifty that have all of it.

use super::{names, pause, until_planned};
use crate::{
    arrived, data_directory,
    generator::{self, Load},
    hermes,
    measure::cpu,
    report::{Measured, Row, per_second},
    role::{self, Other},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use talaria_tests::stack::{Builder, Stack, Tenant, stack};

const ROUNDS: usize = 3;
/// Each event goes to so many routes.
const ROUTES: usize = 50;
/// Tenants with so many routes each, beside the one.
const MANY: usize = 100;
const CONNECTIONS: usize = 10;
/// The events of each round.
const EVENTS: usize = 1_000;
const ONE: &str = "one";
/// The exchanges that may run at once.
const IN_HAND: usize = 512;

/// Whose the work is.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// One tenant has all of it, and no other has any.
    Few,
    /// Each of the many has its share.
    Many,
    /// One tenant has all of it, and as much is due for all others, which are paused.
    BesidePaused,
}

impl Work {
    /// As they take turns.
    const ALL: [Self; 3] = [Self::Few, Self::Many, Self::BesidePaused];
}

pub async fn run() -> Measured {
    let hermes = Other::start(role::HERMES);
    let [mut rates, mut costs] = [const { [const { Vec::new() }; 3] }; 2];
    for _ in 0..ROUNDS {
        for work in Work::ALL {
            let (rate, cost) = forward(work, hermes.address).await;
            eprintln!("{work:?}: {rate:.0}/s, {cost:.0} µs a forward");
            rates[work as usize].push(rate);
            costs[work as usize].push(cost);
        }
    }
    let [few, many, beside] = Work::ALL.map(|work| work as usize);
    let all = MANY * ROUTES;
    let micros = |value| format!("{value:.0} µs");
    let compare = |what: &str, values: &[Vec<f64>; 3], side: usize, write: fn(f64) -> String| {
        Row::of_medians(what, &values[side], &values[few], write)
    };
    let rows = vec![
        compare(&format!("forwards, {all} routes have something due"), &rates, many, per_second),
        compare(&format!("CPU a forward, {all} routes have something due"), &costs, many, micros),
        compare(&format!("forwards, {all} paused routes have something due"), &rates, beside, per_second),
        compare(&format!("CPU a forward, {all} paused routes have something due"), &costs, beside, micros),
    ];
    let how = format!(
        "*Many routes*: {ROUNDS} times, {EVENTS} events come at once, each for {ROUTES} routes, and the time counts from \
         the first to the last arrival at a stand-in Hermes; pace off, at most {IN_HAND} exchanges at once. The events are \
         {MANY} tenants', so that {all} routes have something due; or they are one tenant's, alone (the side that the \
         others stand beside) or while {all} routes of paused tenants have as much due. All these routes are configured \
         each time, on a new store. The ratio is that of the medians."
    );
    Measured { how, rows }
}

/// Forwards everything. Deliveries a second, and Talaria's CPU time for each in microseconds.
async fn forward(work: Work, hermes: SocketAddr) -> (f64, f64) {
    let directory = data_directory();
    let many = names("tenant", MANY);
    let talaria = tenants(hermes, &many)
        .with(&format!("data_dir: {}", directory.path().display()))
        .with(&format!("relay: {{grpc: 127.0.0.1:0, in_flight: {IN_HAND}}}"))
        .start()
        .await;
    let whose = match work {
        Work::Few => vec![ONE.to_owned()],
        Work::Many => many,
        Work::BesidePaused => {
            pause(&talaria, &many).await;
            let sent = send(&talaria, many.clone()).await;
            until_planned(&talaria, &many, sent).await;
            vec![ONE.to_owned()]
        }
    };
    hermes::arrivals(hermes, 0).await;
    let before = cpu(talaria.pid());
    let deliveries = send(&talaria, whose).await * ROUTES;
    let rate = arrived::rate(hermes, deliveries).await;
    let used = cpu(talaria.pid()).saturating_sub(before);
    (rate, used.as_secs_f64() * 1e6 / deliveries as f64)
}

fn tenants(hermes: SocketAddr, many: &[String]) -> Builder {
    let url = format!("http://{hermes}/webhooks/r");
    let routes = |tenant: Tenant| {
        names("r", ROUTES).iter().fold(tenant, |tenant, name| tenant.route(name, &url, "pace: off"))
    };
    many.iter().fold(stack().tenant(ONE, routes), |stack, name| stack.tenant(name, routes))
}

/// Sends the events of a round. Returns their number.
async fn send(talaria: &Stack, tenants: Vec<String>) -> usize {
    let load = Load {
        tenants: Arc::from(tenants),
        name: "job".into(),
        status: "completed",
        connections: CONNECTIONS,
        each: EVENTS / CONNECTIONS,
        time: Duration::MAX,
    };
    generator::run(talaria.ingress(), &load).await.acknowledged.len()
}
