//! Several ingresses and relays, each a process of its own, over one NATS, with load and an account at the end.
//!
//! ```ignore
//! let mut fleet = fleet(&ledger).over(&[server.url()]).tenants(4).routes(2).relays(3).start().await;
//! let load = fleet.load().per_second(100).start();
//! fleet.relays[0].kill();
//! let sent = load.stop().await;
//! fleet.account(&ledger, &sent).await;
//! ```
//!
//! - [`Part`]: one of the processes, which can be killed, frozen and restarted.
//! - [`Ledger`]: the Hermes of all routes, which always accepts, with a line for each delivery.
//! - [`Load`]: signed callbacks, each of another job, at a steady rate.
//! - [`Balancer`]: a cluster's load balancer.
//! - [`Fleet::account`]: checks that every acknowledged event has one final state, the same in every relay.

mod account;
mod balancer;
mod ledger;
mod load;
mod part;

pub use account::Account;
pub use balancer::Balancer;
pub use ledger::Ledger;
pub use load::{Load, Sent, load_on};
pub use part::Part;

use crate::{
    openrouter::OpenRouter,
    openrouter_api::OpenRouterApi,
    stack::{self, Written},
};
use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Fleets that run at once. Each has half a dozen processes, and a process without CPU time looks dead.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Frequent retries, for long.
const KEYS: &str = "\
pace: off
prompt: '{data.id}'
retry: {schedule: [100ms, 100ms, 500ms, 1s, 1s, 1s, 5s, 5s, 5s, 5s, 5s, 5s]}";

/// Builds a fleet.
#[derive(Debug)]
pub struct Builder {
    hermes: SocketAddr,
    servers: Vec<String>,
    replicas: usize,
    tenants: usize,
    routes: usize,
    ingresses: usize,
    relays: usize,
    linger: &'static str,
    top: String,
    environment: Vec<(String, String)>,
    openrouter: Option<(OpenRouterApi, String)>,
    media: Option<String>,
}

/// Begins a fleet whose routes lead to this ledger, by default with two ingresses and three relays.
pub fn fleet(ledger: &Ledger) -> Builder {
    leading_to(ledger.address)
}

/// Begins a fleet whose routes lead to the Hermes at this address.
pub fn leading_to(hermes: SocketAddr) -> Builder {
    Builder {
        hermes,
        top: String::new(),
        environment: Vec::new(),
        openrouter: None,
        media: None,
        servers: Vec::new(),
        replicas: 1,
        tenants: 24,
        routes: 4,
        ingresses: 2,
        relays: 3,
        linger: "0s",
    }
}

impl Builder {
    /// NATS' addresses.
    #[must_use]
    pub fn over(mut self, servers: &[String]) -> Self {
        self.servers = servers.to_vec();
        self
    }

    /// Replicas of the streams.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// The number of tenants. With many, each relay is likely to own some.
    #[must_use]
    pub fn tenants(mut self, tenants: usize) -> Self {
        self.tenants = tenants;
        self
    }

    /// Routes of each tenant. Every event goes to all of them.
    #[must_use]
    pub fn routes(mut self, routes: usize) -> Self {
        self.routes = routes;
        self
    }

    /// Relays at the start.
    #[must_use]
    pub fn relays(mut self, relays: usize) -> Self {
        self.relays = relays;
        self
    }

    /// Sets a variable of every process' environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The number of ingresses.
    #[must_use]
    pub fn ingresses(mut self, ingresses: usize) -> Self {
        self.ingresses = ingresses;
        self
    }

    /// Lets jobs of all tenants be submitted to this stand-in, with these further keys of `openrouter`, a line each.
    #[must_use]
    pub fn jobs(mut self, api: &OpenRouterApi, keys: &str) -> Self {
        self.openrouter = Some((api.clone(), keys.to_owned()));
        self
    }

    /// Sets the keys of `media` of all tenants, on one line.
    #[must_use]
    pub fn media(mut self, keys: &str) -> Self {
        self.media = Some(keys.to_owned());
        self
    }

    /// Adds top-level keys, a line each.
    #[must_use]
    pub fn with(mut self, keys: &str) -> Self {
        self.top += &format!("{keys}\n");
        self
    }

    /// The ingresses' `linger`.
    #[must_use]
    pub fn linger(mut self, linger: &'static str) -> Self {
        self.linger = linger;
        self
    }

    /// Starts all processes at once, and waits until they listen.
    pub async fn start(self) -> Fleet {
        let turn = TURNS.acquire().await.unwrap();
        let ingress = format!(
            "ingress: {{listen: 127.0.0.1:0, linger: {}, public_url: https://hooks.example.com}}",
            self.linger
        );
        let mut config = stack::stack().with(&ingress).with(&self.top);
        let tenants: Vec<String> = (0..self.tenants).map(|number| format!("tenant-{number}")).collect();
        for tenant in &tenants {
            config = config.tenant(tenant, |mut tenant| {
                if let Some((api, keys)) = &self.openrouter {
                    tenant = tenant.jobs(api, keys);
                }
                if let Some(keys) = &self.media {
                    tenant = tenant.media(keys);
                }
                for number in 0..self.routes {
                    let route = format!("route-{number}");
                    tenant = tenant.route(&route, &format!("http://{}/webhooks/{route}", self.hermes), KEYS);
                }
                tenant
            });
        }
        let mut fleet = Fleet {
            ingresses: Vec::new(),
            relays: Vec::new(),
            tenants: tenants.into(),
            routes: self.routes,
            servers: self.servers,
            replicas: self.replicas,
            written: config.write(),
            _turn: turn,
        };
        let servers = fleet.servers.clone();
        fleet.ingresses =
            (0..self.ingresses).map(|_| fleet.part("ingress", &servers, self.environment.clone())).collect();
        fleet.relays =
            (0..self.relays).map(|_| fleet.part("relay", &servers, self.environment.clone())).collect();
        for part in fleet.parts() {
            part.launch();
        }
        for part in fleet.parts() {
            part.listens().await;
        }
        fleet
    }
}

/// A running fleet. Everything in it is killed when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// Its ingresses.
    pub ingresses: Vec<Part>,
    /// Its relays.
    pub relays: Vec<Part>,
    tenants: Arc<[String]>,
    routes: usize,
    servers: Vec<String>,
    replicas: usize,
    written: Written,
    _turn: SemaphorePermit<'static>,
}

impl Fleet {
    /// Starts another relay.
    pub async fn join(&mut self) {
        let servers = self.servers.clone();
        self.join_as(&servers, Vec::new()).await;
    }

    /// Starts another relay, which reaches NATS at this address alone.
    pub async fn join_over(&mut self, server: String) {
        self.join_as(&[server], Vec::new()).await;
    }

    /// Starts another relay with these variables in its environment.
    pub async fn join_with(&mut self, environment: Vec<(String, String)>) {
        let servers = self.servers.clone();
        self.join_as(&servers, environment).await;
    }

    async fn join_as(&mut self, servers: &[String], environment: Vec<(String, String)>) {
        let mut relay = self.part("relay", servers, environment);
        relay.launch();
        relay.listens().await;
        self.relays.push(relay);
    }

    /// A sender of a tenant's callbacks, to the first ingress.
    pub fn openrouter(&self, tenant: &str) -> OpenRouter {
        let (ingress, _) = self.ingresses[0].listens_on();
        OpenRouter::new(ingress, tenant, &stack::openrouter_secret(tenant))
    }

    /// Begins a load on all ingresses.
    pub fn load(&self) -> load::Builder {
        let entrances = self.ingresses.iter().map(|ingress| Arc::clone(&ingress.entrance)).collect();
        load::Builder::new(entrances, Arc::clone(&self.tenants))
    }

    /// Begins a load on a balancer.
    pub fn load_through(&self, balancer: &Balancer) -> load::Builder {
        let entrance = Arc::new(RwLock::new(Some(balancer.address)));
        load::Builder::new(vec![entrance], Arc::clone(&self.tenants))
    }

    /// Waits until all events that are acknowledged now are delivered. Returns the time this took.
    pub async fn delivers(&self, load: &Load, ledger: &Ledger) -> Duration {
        let (start, events) = (Instant::now(), load.acknowledged());
        crate::until("acknowledged events to be delivered", async || {
            ledger.has_all(&events, self.routes).then_some(())
        })
        .await;
        start.elapsed()
    }

    /// Relays that are not killed, stopped or frozen.
    pub fn live_relays(&self) -> impl Iterator<Item = &Part> {
        self.relays.iter().filter(|relay| relay.is_live())
    }

    /// The last warnings and errors of all logs.
    pub fn complaints(&self) -> String {
        let parts = self.ingresses.iter().chain(&self.relays);
        parts.map(|part| format!("{}:\n{}\n", part.name(), part.complaints())).collect()
    }

    fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        self.ingresses.iter_mut().chain(&mut self.relays)
    }

    /// A process with its own configuration, data directory and NATS servers.
    fn part(&self, role: &'static str, servers: &[String], environment: Vec<(String, String)>) -> Part {
        let name = format!("{role}-{:08x}", rand::random::<u32>());
        let servers = servers.join(", ");
        let text = fs::read_to_string(&self.written.config).unwrap();
        let text = format!(
            "data_dir: {name}\nbus: {{nats: {{servers: [{servers}], replicas: {}}}}}\n{text}",
            self.replicas
        );
        let config = self.written.path().join(format!("{name}.yaml"));
        fs::write(&config, text).unwrap();
        Part::new(role, config, environment)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        print(&self.complaints());
        if env::var_os("TALARIA_KEEP").is_some() {
            let kept: PathBuf = env::temp_dir().join(format!("talaria-fleet-{:08x}", rand::random::<u32>()));
            let copied =
                std::process::Command::new("cp").arg("-r").arg(self.written.path()).arg(&kept).status();
            print(&format!("everything is in {}: {copied:?}", kept.display()));
        }
    }
}

#[expect(clippy::print_stderr, reason = "tests show what they found")]
fn print(text: &str) {
    eprintln!("{text}");
}
