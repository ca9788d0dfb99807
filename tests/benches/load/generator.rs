//! Connections that send signed callbacks as fast as they are answered, or at a pace.
//!
//! The client is minimal (a socket, a buffer), because it shares the machine with the measured program.

use crate::{TENANT, hermes::now};
use jiff::Timestamp;
use secrecy::SecretString;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use talaria_core::{
    id::{DeliveryId, EventId},
    openrouter::signature,
};
use talaria_tests::{openrouter::payload, stack::openrouter_secret};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// The parameters of a load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Whose callbacks they are, in turn.
    pub tenants: Arc<[String]>,
    /// The prefix of job ids, unique among the loads on one Talaria.
    pub name: String,
    /// The status that the callbacks tell.
    pub status: &'static str,
    /// How many connections send at once.
    pub connections: usize,
    /// How many callbacks one connection sends at most.
    pub each: usize,
    /// How long it sends at most.
    pub time: Duration,
}

impl Load {
    /// The tenant of every run whose load is one tenant's.
    pub fn one_tenant() -> Arc<[String]> {
        [TENANT.to_owned()].into()
    }

    /// Whose callback it is that a connection sends after so many.
    fn tenant(&self, connection: usize, index: usize) -> &str {
        &self.tenants[(index * self.connections + connection) % self.tenants.len()]
    }
}

/// A callback that was sent at a pace.
#[derive(Debug)]
pub struct Sent {
    tenant: String,
    job: String,
    /// In microseconds since 1970.
    pub at: u64,
    /// How long it took from then to the answer.
    pub took: Duration,
}

impl Sent {
    /// The id at Hermes of its delivery to the tenant's route "r".
    pub fn delivery(&self) -> String {
        let event = EventId::new(&self.tenant, &self.job, "video.generation.completed");
        DeliveryId::new(event, "r").idempotency_key(1)
    }
}

/// The result.
#[derive(Debug, Default)]
pub struct Run {
    /// The jobs whose callbacks were acknowledged.
    pub acknowledged: Vec<String>,
    /// How long each took.
    latencies: Vec<Duration>,
    /// How long the run took.
    took: Duration,
}

impl Run {
    /// Callbacks a second.
    pub fn rate(&self) -> f64 {
        self.acknowledged.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency in milliseconds that 99 of 100 do not exceed.
    pub fn p99(&mut self) -> f64 {
        self.latencies.sort_unstable();
        self.latencies[self.latencies.len() * 99 / 100].as_secs_f64() * 1000.0
    }
}

/// Sends. Whatever is not a 204 ends the benchmark.
pub async fn run(ingress: SocketAddr, load: &Load) -> Run {
    let start = Instant::now();
    let connections = (0..load.connections).map(|connection| send(ingress, load.clone(), connection, start));
    let mut whole = Run::default();
    for run in connections.collect::<JoinSet<_>>().join_all().await {
        whole.acknowledged.extend(run.acknowledged);
        whole.latencies.extend(run.latencies);
    }
    whole.took = start.elapsed();
    whole
}

async fn send(ingress: SocketAddr, load: Load, number: usize, start: Instant) -> Run {
    let mut connection = Connection::open(ingress).await;
    let mut run = Run::default();
    while run.acknowledged.len() < load.each && start.elapsed() < load.time {
        let job = format!("{}-{number}-{}", load.name, run.acknowledged.len());
        let tenant = load.tenant(number, run.acknowledged.len());
        let request = request(tenant, &job, load.status);
        let sent = Instant::now();
        connection.exchange(&request).await;
        run.latencies.push(sent.elapsed());
        run.acknowledged.push(job);
    }
    run
}

/// Sends so many a second, the connections in turn, and tells of each callback when it was sent. While
/// a connection is still busy, its next callback counts from when it was due: who is slow must not slow the clock.
pub async fn paced(ingress: SocketAddr, load: &Load, rate: f64) -> Vec<Sent> {
    let start = tokio::time::Instant::now() + Duration::from_millis(50);
    let connections = (0..load.connections).map(|number| {
        let load = load.clone();
        async move {
            let mut connection = Connection::open(ingress).await;
            let mut sent = Vec::new();
            for index in 0..load.each {
                let job = format!("{}-{number}-{index}", load.name);
                let tenant = load.tenant(number, index).to_owned();
                let request = request(&tenant, &job, load.status);
                let turn = index * load.connections + number;
                let due = start + Duration::from_secs_f64(turn as f64 / rate);
                let late = due.elapsed();
                tokio::time::sleep_until(due).await;
                let (at, begun) = (now() - u64::try_from(late.as_micros()).unwrap(), Instant::now());
                connection.exchange(&request).await;
                sent.push(Sent { tenant, job, at, took: late + begun.elapsed() });
            }
            sent
        }
    });
    connections.collect::<JoinSet<_>>().join_all().await.into_iter().flatten().collect()
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(ingress: SocketAddr) -> Self {
        let stream = TcpStream::connect(ingress).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, answer: vec![0; 4096] }
    }

    /// Sends a request, which has to be accepted.
    async fn exchange(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let (mut read, answer) = (0, &mut self.answer);
        while !answer[..read].ends_with(b"\r\n\r\n") {
            let more = self.stream.read(&mut answer[read..]).await.unwrap();
            assert!(more > 0, "the connection ended");
            read += more;
        }
        assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer[..read]));
    }
}

fn request(tenant: &str, job: &str, status: &str) -> String {
    let secret = SecretString::from(openrouter_secret(tenant));
    let body = payload(job, status).to_string();
    let signature = signature::sign(&secret, Timestamp::now(), body.as_bytes());
    format!(
        "POST /callbacks/{tenant} HTTP/1.1\r\nHost: talaria\r\nContent-Type: application/json\r\n\
         X-OpenRouter-Idempotency-Key: {job}-{status}\r\nX-OpenRouter-Signature: {signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
