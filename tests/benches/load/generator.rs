//! Connections that send signed callbacks as fast as they are answered.
//!
//! The client is as thin as can be (a socket, a buffer), because it shares the machine with what it measures.

use crate::TENANT;
use jiff::Timestamp;
use secrecy::SecretString;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use talaria_core::openrouter::signature;
use talaria_tests::{openrouter::payload, stack::openrouter_secret};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// What is sent, and how.
#[derive(Clone, Debug)]
pub struct Load {
    /// What the jobs' ids begin with. No two loads on one Talaria share it.
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

/// What came of it.
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

async fn send(ingress: SocketAddr, load: Load, connection: usize, start: Instant) -> Run {
    let secret = SecretString::from(openrouter_secret(TENANT));
    let mut stream = TcpStream::connect(ingress).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut run, mut answer) = (Run::default(), vec![0; 4096]);
    while run.acknowledged.len() < load.each && start.elapsed() < load.time {
        let job = format!("{}-{connection}-{}", load.name, run.acknowledged.len());
        let body = payload(&job, load.status).to_string();
        let signature = signature::sign(&secret, Timestamp::now(), body.as_bytes());
        let request = format!(
            "POST /callbacks/{TENANT} HTTP/1.1\r\nHost: talaria\r\nContent-Type: application/json\r\n\
             X-OpenRouter-Idempotency-Key: {job}-{}\r\nX-OpenRouter-Signature: {signature}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            load.status,
            body.len()
        );
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = 0;
        while !answer[..read].ends_with(b"\r\n\r\n") {
            let more = stream.read(&mut answer[read..]).await.unwrap();
            assert!(more > 0, "the connection ended");
            read += more;
        }
        assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer[..read]));
        run.latencies.push(sent.elapsed());
        run.acknowledged.push(job);
    }
    run
}
