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
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Delay before a callback is sent again. OpenRouter's is longer.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Longer than the ingress' own deadline.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Begins a load of these tenants' callbacks on one ingress.
pub fn load_on(ingress: SocketAddr, tenants: &[&str]) -> Builder {
    let tenants = tenants.iter().map(|&tenant| tenant.into()).collect();
    Builder::new(vec![Arc::new(RwLock::new(Some(ingress)))], tenants)
}

/// Builds a load.
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

    /// Callbacks in a second, if the ingresses accept them.
    #[must_use]
    pub fn per_second(mut self, callbacks: u32) -> Self {
        self.per_second = callbacks;
        self
    }

    /// Concurrent connections.
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

    /// The prefix of job ids, which differ between two loads.
    #[must_use]
    pub fn jobs(mut self, jobs: &str) -> Self {
        self.jobs = jobs.into();
        self
    }

    /// Starts sending.
    pub fn start(self) -> Load {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<Acknowledged>::default());
        let refused = Arc::<AtomicU64>::default();
        let mut senders = JoinSet::new();
        for connection in 0..self.connections {
            let sender = Sender {
                client: crate::http(),
                entrances: self.entrances.clone(),
                tenants: Arc::clone(&self.tenants),
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
                refused: Arc::clone(&refused),
                jobs: self.jobs.clone(),
                sent: Sent::default(),
            };
            let pause = Duration::from_secs(1) * self.connections / self.per_second;
            senders.spawn(sender.run(connection, self.connections, self.events, pause));
        }
        Load { stop, acknowledged, refused, senders }
    }
}

/// Acknowledged events, with their times.
type Acknowledged = Mutex<HashMap<String, Instant>>;

/// A running load.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Acknowledged>,
    refused: Arc<AtomicU64>,
    senders: JoinSet<Sent>,
}

/// The result of a load.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Acknowledged events, with their times.
    pub acknowledged: HashMap<String, Instant>,
    /// Answers 503.
    pub refused: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// The time of the slowest answer.
    pub slowest: Duration,
}

impl Load {
    /// The number of acknowledged events.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// The acknowledged events.
    pub fn acknowledged(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap().keys().cloned().collect()
    }

    /// Returns once this many more events are acknowledged.
    pub async fn goes_on(&self, events: usize) {
        let target = self.count() + events;
        crate::until("callbacks to be acknowledged", async || (self.count() >= target).then_some(())).await;
    }

    /// Returns once another callback was answered 503.
    pub async fn is_refused(&self) {
        let before = self.refused.load(Relaxed);
        crate::until("a callback to be refused", async || {
            (self.refused.load(Relaxed) > before).then_some(())
        })
        .await;
    }

    /// Ends it. Callbacks without acknowledgement are not sent again.
    pub async fn stop(self) -> Sent {
        self.stop.store(true, Relaxed);
        self.end().await
    }

    /// Waits until all its events are sent.
    pub async fn end(self) -> Sent {
        let mut all = Sent::default();
        for sent in self.senders.join_all().await {
            all.unanswered += sent.unanswered;
            all.slowest = all.slowest.max(sent.slowest);
        }
        all.refused = self.refused.load(Relaxed);
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
    refused: Arc<AtomicU64>,
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

    /// Sends a job's callback to one ingress after another, until one of them accepts it.
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
                    Some(503) => {
                        self.refused.fetch_add(1, Relaxed);
                    }
                    Some(other) => panic!("{ingress} answered {other}"),
                    None => self.sent.unanswered += 1,
                }
            }
            if self.stop.load(Relaxed) {
                return;
            }
            sleep(RETRY_DELAY).await;
        }
    }

    async fn try_send(&mut self, ingress: SocketAddr, tenant: &str, job: &str) -> Option<u16> {
        let secret = openrouter_secret(tenant);
        let openrouter = OpenRouter::with(self.client.clone(), ingress, tenant, &secret);
        let start = Instant::now();
        let answer = timeout(ANSWER_TIMEOUT, openrouter.try_send(job, "completed")).await.ok().flatten();
        if answer.is_some() {
            self.sent.slowest = self.sent.slowest.max(start.elapsed());
        }
        answer
    }
}
