//! While configurations change, at random and without a pause, no callback is refused and none is lost.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use talaria_proto::v1::DeliveryState as State;
use talaria_tests::{
    openrouter::{OpenRouter, event_id},
    seeded,
    sink::Sink,
    stack::{Stack, openrouter_secret, stack},
    until_within,
};
use tokio::task::JoinSet;

const TENANTS: usize = 3;
const ROUTES: usize = 3;
const CHANGES: usize = 40;
const SENDERS: usize = 6;

/// The present configuration: the first route of each tenant, and others by `routes`.
struct Configured {
    head: String,
    hermes: String,
    routes: Vec<[bool; ROUTES]>,
    paces: Vec<&'static str>,
    /// A tenant without callbacks.
    has_idle: bool,
    retention: &'static str,
    number: usize,
}

impl Configured {
    fn text(&self) -> String {
        let mut text = format!("{}retention: {}\ntenants:\n", self.head, self.retention);
        for (tenant, routes) in self.routes.iter().enumerate() {
            let pace = self.paces[tenant];
            writeln!(text, "  t{tenant}:\n    openrouter: {{secrets: [{{file: openrouter-t{tenant}}}]}}")
                .unwrap();
            writeln!(text, "    networks: [loopback]\n    routes:").unwrap();
            for (route, _) in routes.iter().enumerate().filter(|(_, is_there)| **is_there) {
                writeln!(
                    text,
                    "      r{route}: {{url: '{}', secret: {{file: hermes}}, pace: {pace}, prompt: 'change {}', \
                     retry: {{schedule: [100ms, 1s, 5s]}}}}",
                    self.hermes, self.number
                )
                .unwrap();
            }
        }
        if self.has_idle {
            text += "  idle:\n    openrouter: {secrets: [{file: openrouter-t0}]}\n";
        }
        text
    }

    fn change(&mut self, random: &mut StdRng) {
        self.number += 1;
        let tenant = random.random_range(0..TENANTS);
        match random.random_range(0..5) {
            0 => self.routes[tenant][random.random_range(1..ROUTES)] ^= true,
            1 => self.paces[tenant] = ["off", "200/s", "50/s", "1000/min"].choose(random).unwrap(),
            2 => self.has_idle ^= true,
            3 => self.retention = ["7d", "6d", "5d"].choose(random).unwrap(),
            // The prompts alone, which have the number in them.
            _ => {}
        }
    }
}

/// Sends until `stop`: each callback once, and each is acknowledged.
async fn send(stack: Arc<Stack>, sender: usize, stop: Arc<AtomicBool>, sent: Arc<Mutex<Vec<String>>>) {
    let client = talaria_tests::http();
    for number in 0.. {
        if stop.load(Relaxed) {
            return;
        }
        let tenant = format!("t{}", (sender + number) % TENANTS);
        let openrouter =
            OpenRouter::with(client.clone(), stack.ingress(), &tenant, &openrouter_secret(&tenant));
        let job = format!("{sender}-{number}");
        assert_eq!(openrouter.try_send(&job, "completed").await, Some(204), "{tenant} {job}");
        sent.lock().unwrap().push(event_id(&tenant, &job, "completed"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_callback_is_refused_or_lost_while_the_configuration_changes() {
    let mut random = seeded("changes of the configuration");
    let sink = Sink::start().await;
    let mut builder = stack();
    for tenant in 0..TENANTS {
        builder = builder.tenant(&format!("t{tenant}"), |t| t.route("r0", &sink.url("r"), ""));
    }
    let stack = Arc::new(builder.start().await);
    let text = fs::read_to_string(&stack.written.config).unwrap();
    let mut configured = Configured {
        head: text.split_once("tenants:").unwrap().0.to_owned(),
        hermes: sink.url("r"),
        routes: vec![[true, false, false]; TENANTS],
        paces: vec!["off"; TENANTS],
        has_idle: false,
        retention: "7d",
        number: 0,
    };
    let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(send(Arc::clone(&stack), sender, Arc::clone(&stop), Arc::clone(&sent)));
    }
    let mut generation = 1;
    for _ in 0..CHANGES {
        configured.change(&mut random);
        let good = configured.text();
        if random.random_bool(0.2) {
            // A fault in between, which changes nothing.
            stack.rewrite(|_| good.replace("tenants:", "tenants: [\n"));
            stack.config_when("the fault", |config| !config["fault"].is_null()).await;
        }
        if random.random_bool(0.5) {
            stack.rewrite(|_| good.clone());
        } else {
            fs::write(&stack.written.config, &good).unwrap();
            stack.signal("-HUP");
        }
        // Whether it was seen at once or on the second look.
        let config = stack
            .config_when("the change", |config| {
                config["fault"].is_null() && config["generation"].as_u64().unwrap() > generation
            })
            .await;
        generation = config["generation"].as_u64().unwrap();
    }
    stop.store(true, Relaxed);
    senders.join_all().await;
    let sent: Vec<String> = std::mem::take(&mut *sent.lock().unwrap());
    assert!(sent.len() > CHANGES, "{}", sent.len());
    // Every event has its delivery to the route that was always there, and that has arrived, once.
    let deliveries = until_within(Duration::from_secs(120), "everything to come to its end", async || {
        let all = stack.deliveries().await;
        let firsts = all.iter().filter(|found| found.route == "r0").count();
        (firsts == sent.len() && all.iter().all(|found| found.state() != State::Waiting)).then_some(all)
    })
    .await;
    let by_event: HashMap<_, _> =
        deliveries.iter().filter(|found| found.route == "r0").map(|found| (&found.event_id, found)).collect();
    for event in &sent {
        assert_eq!(by_event[event].state(), State::Delivered, "{:?}", by_event[event]);
    }
    // To the others either so, or parked because the route was gone.
    for delivery in &deliveries {
        let is_parked =
            delivery.state() == State::Parked && delivery.reason.contains("not configured any more");
        assert!(delivery.state() == State::Delivered || is_parked, "{delivery:?}");
    }
    let ran = sink.requests().iter().filter(|request| request.ran).count();
    let delivered = deliveries.iter().filter(|found| found.state() == State::Delivered).count();
    assert_eq!(ran, delivered, "Hermes ran each once");
    assert!(sink.requests().iter().all(|request| request.signed));
    eprintln!("{} callbacks, {} deliveries, {generation} configurations", sent.len(), deliveries.len());
}
