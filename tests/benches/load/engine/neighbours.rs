//! How long a callback takes to a healthy route, alone and while hundreds of other tenants' routes are broken.

use super::{broken, names, until_planned};
use crate::{
    arrived::{self, Journeys},
    data_directory,
    generator::{self, Load},
    hermes,
    measure::{cpu, median},
    report::{Measured, Row, millis},
    role::{self, Other},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use talaria_tests::stack::{Builder, Stack, stack};

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(15);

const HEALTHY: usize = 20;
/// Callbacks a second to the healthy routes together.
const RATE: usize = 500;
const CONNECTIONS: usize = 50;

const OTHERS: usize = 500;
/// Callbacks a second to the others together.
const OTHERS_RATE: usize = 150;
const OTHERS_CONNECTIONS: usize = 10;
/// Deliveries of each other route before the measurement.
const BACKLOG: usize = 30;

/// How the others do.
#[derive(Clone, Copy, Debug)]
enum Others {
    /// They have no traffic.
    Quiet,
    Working,
    Broken,
}

impl Others {
    /// As they take turns.
    const ALL: [Self; 3] = [Self::Quiet, Self::Working, Self::Broken];
}

/// The processes at the other end, separate, so that none delays another.
struct Ends {
    healthy: Other,
    working: Other,
    broken: Other,
}

pub async fn run() -> Measured {
    let ends = Ends {
        healthy: Other::start(role::HERMES),
        working: Other::start(role::HERMES),
        broken: Other::start(role::BROKEN),
    };
    let [mut p50s, mut p99s, mut cpus] = [const { [const { Vec::new() }; 3] }; 3];
    for _ in 0..ROUNDS {
        for others in Others::ALL {
            let (run, used) = send(others, &ends).await;
            eprintln!(
                "{others:?} neighbours: p50 {}, p99 {}, CPU {used:.1} %",
                millis(run.at(50)),
                millis(run.at(99))
            );
            p50s[others as usize].push(run.at(50));
            p99s[others as usize].push(run.at(99));
            cpus[others as usize].push(used);
        }
    }
    let [quiet, working, broken] = Others::ALL.map(|others| others as usize);
    let compare = |what: &str, values: &[Vec<f64>; 3], side: usize, write| {
        Row::of_medians(what, &values[side], &values[quiet], write)
    };
    let percent = |value| format!("{value:.0} %");
    let what = |name: &str, others: &str| format!("{name} of a healthy route, beside {OTHERS} that {others}");
    let least = |side: usize| p99s[side].iter().copied().fold(f64::INFINITY, f64::min);
    let best = |others: &str, side: usize| {
        Row::new(&what("p99, best round,", others), millis(least(side)))
            .baseline(millis(least(quiet)))
            .ratio(least(side) / least(quiet))
    };
    let rows = vec![
        compare(&what("p50", "are broken"), &p50s, broken, millis),
        compare(&what("p99", "are broken"), &p99s, broken, millis),
        best("are broken", broken).at_most(1.3),
        compare(&what("p50", "work"), &p50s, working, millis),
        compare(&what("p99", "work"), &p99s, working, millis),
        best("work", working),
        Row::new("CPU of it all, broken neighbours", percent(median(cpus[broken].clone())))
            .baseline(percent(median(cpus[quiet].clone()))),
        Row::new("CPU of it all, working neighbours", percent(median(cpus[working].clone())))
            .baseline(percent(median(cpus[quiet].clone()))),
    ];
    let how = format!(
        "*Healthy routes*: {RATE} callbacks a second to {HEALTHY} routes, each its own tenant's, from a callback's sending \
         to its arrival at a stand-in Hermes; pace off; {ROUNDS} rounds of {} seconds on a new store, with {OTHERS} other \
         tenants' routes configured each time. Those are quiet (the side that the others stand beside), or take \
         {OTHERS_RATE} callbacks a second together and had {BACKLOG} each at once before; then they work, or they are \
         broken, a quarter each by refused connections, by 500, by 401, and by no answer for their timeout of 5 s. Half \
         of the broken ones have `breaker: off`. The ratio is that of the medians; \
         the aim counts for the best rounds, \
         those which the rest of the machine disturbed least.",
        TIME.as_secs()
    );
    Measured { how, rows }
}

/// Sends for a while. How long it took, and the CPU time that Talaria used, in per cent of one core.
async fn send(others: Others, ends: &Ends) -> (Journeys, f64) {
    let directory = data_directory();
    let top = stack().with(&format!("data_dir: {}", directory.path().display()));
    let talaria = tenants(top, others, ends).start().await;
    let healthy = load("job", names("healthy", HEALTHY), CONNECTIONS, RATE);
    let of_others = load("other", names("other", OTHERS), OTHERS_CONNECTIONS, OTHERS_RATE);
    warm_up(talaria.ingress(), ends.healthy.address, &healthy).await;
    if !matches!(others, Others::Quiet) {
        fill(&talaria, &of_others, ends, others).await;
    }
    let before = cpu(talaria.pid());
    let ours = generator::paced(talaria.ingress(), &healthy, RATE as f64);
    let theirs = async {
        if !matches!(others, Others::Quiet) {
            generator::paced(talaria.ingress(), &of_others, OTHERS_RATE as f64).await;
        }
    };
    let (sent, ()) = tokio::join!(ours, theirs);
    let used = cpu(talaria.pid()).saturating_sub(before).as_secs_f64() / TIME.as_secs_f64() * 100.0;
    (arrived::journeys(ends.healthy.address, &sent).await, used)
}

fn tenants(stack: Builder, others: Others, ends: &Ends) -> Builder {
    let healthy = format!("http://{}/webhooks/r", ends.healthy.address);
    let working = format!("http://{}/webhooks/r", ends.working.address);
    let stack = names("healthy", HEALTHY)
        .iter()
        .fold(stack, |stack, name| stack.tenant(name, |tenant| tenant.route("r", &healthy, "pace: off")));
    names("other", OTHERS).iter().enumerate().fold(stack, |stack, (index, name)| {
        let url = match others {
            Others::Broken => broken::url(ends.broken.address, index),
            Others::Quiet | Others::Working => working.clone(),
        };
        // Without a breaker each delivery of a broken route follows its own schedule.
        let breaker = if index % 8 < 4 { "5" } else { "off" };
        let keys = format!("pace: off\ntimeout: 5s\nbreaker: {breaker}");
        stack.tenant(name, |tenant| tenant.route("r", &url, &keys))
    })
}

/// Gives the others their backlog, and waits until it was planned; and delivered, where they work.
async fn fill(talaria: &Stack, of_others: &Load, ends: &Ends, others: Others) {
    let each = OTHERS * BACKLOG / of_others.connections;
    let backlog = Load { name: "backlog".into(), each, ..of_others.clone() };
    hermes::arrivals(ends.working.address, 0).await;
    let sent = generator::run(talaria.ingress(), &backlog).await.acknowledged.len();
    until_planned(talaria, &of_others.tenants, sent).await;
    if matches!(others, Others::Working) {
        hermes::arrivals(ends.working.address, sent).await;
    }
}

/// A few callbacks go through before the time counts, so that every connection is there.
async fn warm_up(ingress: SocketAddr, hermes: SocketAddr, load: &Load) {
    hermes::arrivals(hermes, 0).await;
    let warm_up = Load { name: "warm-up".into(), each: 20, ..load.clone() };
    let sent = generator::run(ingress, &warm_up).await.acknowledged.len();
    hermes::arrivals(hermes, sent).await;
}

/// The number of callbacks in the time.
fn load(name: &str, tenants: Vec<String>, connections: usize, rate: usize) -> Load {
    Load {
        tenants: Arc::from(tenants),
        name: name.into(),
        status: "completed",
        connections,
        each: rate * usize::try_from(TIME.as_secs()).unwrap() / connections,
        time: Duration::MAX,
    }
}
