//! Shared parts of the end-to-end tests and the benchmarks.
//!
//! - [`binary`]: the real `talaria`, built if necessary.
//! - [`stack`]: a configuration in a directory of its own, and the process that runs it.
//! - [`compose`]: the stack of containers.
//! - [`fleet`]: several ingresses and relays over NATS, with load and a final account.
//! - [`fuzzed`]: what has to hold for any bytes that come in.
//! - [`gate`]: a wire that can be cut.
//! - [`lossy`]: a wire that loses answers.
//! - [`nats`]: real NATS servers, alone and in a cluster.
//! - [`openrouter`]: callbacks, signed as OpenRouter signs them.
//! - [`openrouter_api`]: a stand-in for OpenRouter's video API.
//! - [`podman`]: pods, without a cluster.
//! - [`prometheus`]: a real Prometheus.
//! - [`browser`]: a real browser.
//! - [`collector`]: a collector of traces.
//! - [`scrape`]: the parsed text of `/metrics`.
//! - [`sink`]: a scripted Hermes that records every request.
//! - [`terminal`]: a terminal of a given width.
//! - [`json`]: a client of JSON over HTTP. [`raw`]: messages as their bytes.
//! - [`hermes`]: the real Hermes, out of its virtual environment.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests stop at the first surprise"
)]

pub mod binary;
pub mod browser;
pub mod collector;
pub mod compose;
pub mod fleet;
pub mod fuzzed;
pub mod gate;
pub mod hermes;
pub mod json;
pub mod lossy;
pub mod nats;
pub mod openrouter;
pub mod openrouter_api;
pub mod podman;
pub mod prometheus;
pub mod raw;
pub mod scrape;
pub mod sink;
pub mod stack;
pub mod terminal;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Timeout of [`until`]. Long, because machines are shared: tests wait for conditions and assert no durations.
pub const PATIENCE: Duration = Duration::from_secs(120);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// An HTTP client without proxies.
pub fn http() -> reqwest::Client {
    // Fails if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Polls a condition until it gives a value. The text completes "waited for …".
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition).await
}

/// [`until`] with another timeout.
pub async fn until_within<T>(timeout: Duration, what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    poll(timeout, condition).await.unwrap_or_else(|| panic!("waited {timeout:?} for {what}"))
}

/// Polls a condition until it gives a value or the time is over.
pub async fn poll<T>(timeout: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    loop {
        let found = condition().await;
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// A port without a listener, below the ephemeral range, so that it is still free when a killed server starts again on it.
pub fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(10_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Random numbers from TALARIA_TEST_SEED, or from a new seed; the seed is printed either way.
pub fn seeded(test: &str) -> StdRng {
    let seed =
        env::var("TALARIA_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprint_seed(test, seed);
    StdRng::seed_from_u64(seed)
}

#[expect(clippy::print_stderr, reason = "a failing test has to show its seed")]
fn eprint_seed(test: &str, seed: u64) {
    eprintln!("{test}: TALARIA_TEST_SEED={seed}");
}

/// Runs a line of shell when this process ends, also if it is killed: the pipe that the shell reads from is closed in any case.
fn at_the_end_of_this_process(line: &str, arguments: &[&str]) {
    static WAITING: Mutex<Vec<Child>> = Mutex::new(Vec::new());
    let mut shell = Command::new("sh");
    // In a group of its own, because an interrupt ends whole groups.
    shell.args(["-c", &format!("read -r _; {line}"), "sh"]).args(arguments).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    WAITING.lock().unwrap().push(shell.spawn().unwrap());
}
