//! Connections that send signed callbacks as fast as they are answered.
//!
//! The client is as thin as can be (a socket, a buffer), because it shares the machine with what it measures.

use jiff::Timestamp;
use secrecy::SecretString;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use talaria_core::openrouter::signature;
use talaria_tests::openrouter::payload;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// What came of a run.
#[derive(Debug, Default)]
pub struct Run {
    /// The jobs whose callbacks were acknowledged.
    pub acknowledged: Vec<String>,
    /// How long each took.
    pub latencies: Vec<Duration>,
    /// How long the run took.
    pub took: Duration,
}

impl Run {
    /// Callbacks a second.
    pub fn rate(&self) -> f64 {
        self.acknowledged.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency that so many per cent do not exceed.
    pub fn percentile(&mut self, percent: usize) -> Duration {
        self.latencies.sort_unstable();
        self.latencies[(self.latencies.len() * percent / 100).min(self.latencies.len() - 1)]
    }
}

/// Sends callbacks of jobs that begin with `name` from so many connections, until `stop` says so of the number
/// that one connection has sent and the time that has passed.
pub async fn run(
    ingress: SocketAddr,
    tenant: &str,
    secret: &str,
    name: &str,
    connections: usize,
    stop: impl Fn(usize, Duration) -> bool + Clone + Send + 'static,
) -> Run {
    let secret = SecretString::from(secret);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in 0..connections {
        let (secret, stop, tenant, name) = (secret.clone(), stop.clone(), tenant.to_owned(), name.to_owned());
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(ingress).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut run, mut answer, mut request) = (Run::default(), vec![0; 4096], Vec::new());
            while !stop(run.acknowledged.len(), start.elapsed()) {
                let job = format!("{name}-{connection}-{}", run.acknowledged.len());
                let body = payload(&job, "completed").to_string();
                let signature = signature::sign(&secret, Timestamp::now(), body.as_bytes());
                request.clear();
                request.extend_from_slice(
                    format!(
                        "POST /callbacks/{tenant} HTTP/1.1\r\nHost: talaria\r\nContent-Type: application/json\r\n\
                         X-OpenRouter-Idempotency-Key: {job}-completed\r\nX-OpenRouter-Signature: {signature}\r\n\
                         Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .as_bytes(),
                );
                let sent = Instant::now();
                stream.write_all(&request).await.unwrap();
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
        });
    }
    let mut whole = Run::default();
    for run in tasks.join_all().await {
        whole.acknowledged.extend(run.acknowledged);
        whole.latencies.extend(run.latencies);
    }
    whole.took = start.elapsed();
    whole
}
