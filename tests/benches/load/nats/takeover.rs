//! How long deliveries wait when one of three relays is killed or leaves, with much that is retained and much that waits.

use crate::{
    generator::{self, Load, Sent},
    hermes,
    report::{Measured, Row},
    role::Other,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};
use talaria_tests::{nats::server, stack::stack};

/// Events that no route wants, and that are kept.
const RETAINED: usize = 1_000_000;
/// Deliveries that wait for their next attempt.
const WAITING: usize = 10_000;
const TENANTS: usize = 16;
const RELAYS: usize = 3;
const CONNECTIONS: usize = 250;
/// Callbacks a second meanwhile, over so many connections, for so long.
const RATE: usize = 200;
const RATE_CONNECTIONS: usize = 16;
const TIME: Duration = Duration::from_secs(24);
/// When it happens.
const HAPPENS: Duration = Duration::from_secs(4);
/// For the arrival of all callbacks.
const PATIENCE: Duration = Duration::from_secs(600);

const KINDS: [(&str, f64); 2] = [("is killed", 10.0), ("leaves", 2.0)];

pub async fn run(hermes: SocketAddr) -> Measured {
    let nats = server().start().await;
    let tenants: Vec<String> = (0..TENANTS).map(|tenant| format!("t{tenant}")).collect();
    let start = |role: &str| {
        let top = stack().with(&format!("bus: {{nats: {{servers: [\"{}\"]}}}}", nats.url()));
        let config = tenants.iter().fold(top, |config, name| {
            config.tenant(name, |tenant| {
                let wants = |status: &str, keys: &str| {
                    format!("pace: off\nevents: [video.generation.{status}]{keys}")
                };
                let url = format!("http://{hermes}/webhooks/r");
                // A port that refuses connections.
                let nowhere = "http://127.0.0.1:9/webhooks/r";
                let keys = "\nbreaker: off\nretry: {schedule: [1h]}";
                tenant.route("r", &url, &wants("completed", "")).route(
                    "waits",
                    nowhere,
                    &wants("expired", keys),
                )
            })
        });
        Other::talaria(role, config.write())
    };
    let ingress = start("ingress");
    let mut relays: Vec<Option<Other>> = (0..RELAYS).map(|_| Some(start("relay"))).collect();
    let load = |name: &str, status, count: usize, connections: usize| Load {
        tenants: tenants.clone().into(),
        name: name.into(),
        status,
        connections,
        each: count / connections,
        time: Duration::MAX,
    };
    let filled = Instant::now();
    generator::run(ingress.address, &load("kept", "failed", RETAINED, CONNECTIONS)).await;
    generator::run(ingress.address, &load("waits", "expired", WAITING, CONNECTIONS)).await;
    hermes::arrivals(hermes, 0).await;
    // These are planned behind all others.
    let behind = load("behind", "completed", TENANTS, TENANTS);
    longest(hermes, &generator::paced(ingress.address, &behind, RATE as f64).await).await;
    eprintln!("takeover: {RETAINED} events are planned after {:?}", filled.elapsed());

    let mut rows = Vec::new();
    for (index, (kind, aim)) in KINDS.into_iter().enumerate() {
        let each = RATE * usize::try_from(TIME.as_secs()).unwrap();
        let load = load(&format!("job-{index}"), "completed", each, RATE_CONNECTIONS);
        let sending = generator::paced(ingress.address, &load, RATE as f64);
        let happening = async {
            tokio::time::sleep(HAPPENS).await;
            let relay = relays[index].take().unwrap();
            if index == 1 {
                let pid = relay.pid().to_string();
                assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
                tokio::time::sleep(TIME.saturating_sub(HAPPENS)).await;
            }
            // Otherwise it is killed here.
            drop(relay);
        };
        let (sent, ()) = tokio::join!(sending, happening);
        let (longest, repeated) = longest(hermes, &sent).await;
        eprintln!("takeover: one {kind}: the longest wait was {longest:?}, {repeated} were repeated");
        let met = if longest.as_secs_f64() <= aim { "met" } else { "missed" };
        rows.push(
            Row::new(
                &format!("longest wait when one of three relays {kind}"),
                format!("{:.1} s", longest.as_secs_f64()),
            )
            .aim(&format!("at most {aim} s: {met}")),
        );
        rows.push(Row::new(&format!("deliveries that were repeated when it {kind}"), repeated.to_string()));
        relays[index] = Some(start("relay"));
        // It has its share again, and no takeover is under way.
        tokio::time::sleep(HAPPENS).await;
    }
    let how = format!(
        "*A relay is gone*: {RELAYS} relays share {TENANTS} tenants; {RETAINED} events that no route wants are kept, and \
         {WAITING} deliveries wait for their next attempt. {RATE} callbacks a second come for {} seconds, each for one \
         delivery; one relay is killed (`kill -9`) or stopped (SIGTERM) after {}. The longest wait is the longest time \
         from a callback's sending to its arrival at a stand-in Hermes.",
        TIME.as_secs(),
        HAPPENS.as_secs()
    );
    Measured { how, rows }
}

/// Waits until all have arrived. The longest time from sending to the first arrival, and how many arrived more than once.
async fn longest(hermes: SocketAddr, sent: &[Sent]) -> (Duration, usize) {
    let end = Instant::now() + PATIENCE;
    let (mut first, mut times): (HashMap<String, u64>, BTreeMap<String, usize>) = Default::default();
    let wanted: Vec<(String, u64)> = sent.iter().map(|sent| (sent.delivery(), sent.at)).collect();
    loop {
        for (id, at) in hermes::arrivals(hermes, 0).await {
            first.entry(id.clone()).or_insert(at);
            *times.entry(id).or_default() += 1;
        }
        if wanted.iter().all(|(id, _)| first.contains_key(id)) {
            break;
        }
        assert!(Instant::now() < end, "{} of {} have arrived", first.len(), wanted.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let longest = wanted.iter().map(|(id, at)| first[id].saturating_sub(*at)).max().unwrap_or_default();
    (Duration::from_micros(longest), times.values().filter(|times| **times > 1).count())
}
