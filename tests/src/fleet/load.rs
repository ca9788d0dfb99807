//! Callbacks at a steady rate, from several connections, each sent until it is acknowledged.

use super::part::Entrance;
use crate::{
    openrouter::{OpenRouter, event_id},
    stack::openrouter_secret,
};
use std::{
    collections::HashMap,
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// The pause before a callback is sent again. OpenRouter's is longer.
const PAUSE: Duration = Duration::from_millis(50);

/// Longer than any answer takes.
const NO_ANSWER: Duration = Duration::from_secs(15);

/// Begins a load of these tenants' callbacks on one ingress, which is there or comes back.
pub fn load_on(ingress: SocketAddr, tenants: &[&str]) -> Builder {
    let tenants = tenants.iter().map(|&tenant| tenant.into()).collect();
    Builder::new(vec![Arc::new(RwLock::new(Some(ingress)))], tenants)
}

/// A load in the making.
#[derive(Debug)]
pub struct Builder {
    entrances: Vec<Entrance>,
    tenants: Arc<[String]>,
    per_second: u32,
    connections: u32,
    events: u64,
    jobs: String,
}

impl Builder {
    pub(super) fn new(entrances: Vec<Entrance>, tenants: Arc<[String]>) -> Self {
        Self { entrances, tenants, per_second: 100, connections: 8, events: u64::MAX, jobs: "job".into() }
    }

    /// How many callbacks are sent in a second, if the ingresses take them.
    #[must_use]
    pub fn per_second(mut self, callbacks: u32) -> Self {
        self.per_second = callbacks;
        self
    }

    /// From how many connections.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// Ends after this many events.
    #[must_use]
    pub fn events(mut self, events: u64) -> Self {
        self.events = events;
        self
    }

    /// What the jobs' names begin with, so that a second load has others than the first.
    #[must_use]
    pub fn jobs(mut self, jobs: &str) -> Self {
        self.jobs = jobs.into();
        self
    }

    /// Begins to send.
    pub fn start(self) -> Load {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<Acknowledged>::default());
        let mut senders = JoinSet::new();
        for connection in 0..self.connections {
            let sender = Sender {
                client: crate::http(),
                entrances: self.entrances.clone(),
                tenants: Arc::clone(&self.tenants),
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
                jobs: self.jobs.clone(),
                sent: Sent::default(),
            };
            let pause = Duration::from_secs(1) * self.connections / self.per_second;
            senders.spawn(sender.run(connection, self.connections, self.events, pause));
        }
        Load { stop, acknowledged, senders }
    }
}

/// Every event that was acknowledged, and when.
type Acknowledged = Mutex<HashMap<String, Instant>>;

/// A running load.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Acknowledged>,
    senders: JoinSet<Sent>,
}

/// What became of what was sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Every event that was acknowledged, and when.
    pub acknowledged: HashMap<String, Instant>,
    /// Answers that asked to come again later.
    pub refused: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// How long the slowest answer took.
    pub slowest: Duration,
}

impl Load {
    /// How many events have been acknowledged so far.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// The events that have been acknowledged so far.
    pub fn acknowledged(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap().keys().cloned().collect()
    }

    /// Returns once so many more events were acknowledged.
    pub async fn goes_on(&self, events: usize) {
        let enough = self.count() + events;
        crate::until("callbacks to be acknowledged", async || (self.count() >= enough).then_some(())).await;
    }

    /// Ends it. What was not acknowledged by then is not sent again.
    pub async fn stop(self) -> Sent {
        self.stop.store(true, Relaxed);
        self.end().await
    }

    /// Waits until it has sent all that it was to send.
    pub async fn end(self) -> Sent {
        let mut all = Sent::default();
        for sent in self.senders.join_all().await {
            all.refused += sent.refused;
            all.unanswered += sent.unanswered;
            all.slowest = all.slowest.max(sent.slowest);
        }
        all.acknowledged = mem::take(&mut self.acknowledged.lock().unwrap());
        all
    }
}

struct Sender {
    client: reqwest::Client,
    entrances: Vec<Entrance>,
    tenants: Arc<[String]>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Acknowledged>,
    jobs: String,
    sent: Sent,
}

impl Sender {
    async fn run(mut self, first: u32, step: u32, events: u64, pause: Duration) -> Sent {
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = u64::from(first);
        while number < events && !self.stop.load(Relaxed) {
            ticks.tick().await;
            self.send(number).await;
            number += u64::from(step);
        }
        self.sent
    }

    /// Sends a job's callback to one ingress after another, until one of them takes it.
    async fn send(&mut self, number: u64) {
        let turn = usize::try_from(number).unwrap();
        let (tenant, job) =
            (self.tenants[turn % self.tenants.len()].clone(), format!("{}-{number}", self.jobs));
        for turn in turn / self.tenants.len().. {
            let entrance = *self.entrances[turn % self.entrances.len()].read().unwrap();
            if let Some(ingress) = entrance {
                match self.try_send(ingress, &tenant, &job).await {
                    Some(204) => {
                        let id = event_id(&tenant, &job, "completed");
                        self.acknowledged.lock().unwrap().insert(id, Instant::now());
                        return;
                    }
                    Some(503) => self.sent.refused += 1,
                    Some(other) => panic!("{ingress} answered {other}"),
                    None => self.sent.unanswered += 1,
                }
            }
            if self.stop.load(Relaxed) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    async fn try_send(&mut self, ingress: SocketAddr, tenant: &str, job: &str) -> Option<u16> {
        let secret = openrouter_secret(tenant);
        let openrouter = OpenRouter::with(self.client.clone(), ingress, tenant, &secret);
        let start = Instant::now();
        let answer = timeout(NO_ANSWER, openrouter.try_send(job, "completed")).await.ok().flatten();
        if answer.is_some() {
            self.sent.slowest = self.sent.slowest.max(start.elapsed());
        }
        answer
    }
}
