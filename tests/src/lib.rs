//! What the end-to-end tests and the benchmarks share.
//!
//! - [`binary`]: the real `talaria`, built when it has to be.
//! - [`stack`]: a configuration in a directory of its own, and the process that runs it.
//! - [`compose`]: the stack of containers.
//! - [`fleet`]: several ingresses and relays over NATS, with load and an account at the end.
//! - [`gate`]: a wire that can be cut.
//! - [`lossy`]: a wire that loses answers.
//! - [`nats`]: real NATS servers, alone and in a cluster.
//! - [`openrouter`]: callbacks, signed as OpenRouter signs them.
//! - [`podman`]: pods, without a cluster.
//! - [`collector`]: a collector of traces.
//! - [`scrape`]: what a process shows at `/metrics`, taken apart.
//! - [`sink`]: a Hermes that does what a test tells it, and remembers every request.
//! - [`terminal`]: a terminal of some width.
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
pub mod clock;
pub mod collector;
pub mod compose;
pub mod fleet;
pub mod gate;
pub mod hermes;
pub mod lossy;
pub mod nats;
pub mod openrouter;
pub mod podman;
pub mod scrape;
pub mod sink;
pub mod stack;
pub mod terminal;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long a condition may take to come true. Long, because machines are shared; tests wait for conditions and
/// assert nothing about time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP client that goes nowhere but where it is told.
pub fn http() -> reqwest::Client {
    // Once in a process; the binary does it for itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Waits for a condition, looking again and again.
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition).await
}

/// Waits for a condition that takes longer by its nature.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {patience:?} for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A port without a listener. Below those that systems give to clients and to port 0, so that it is
/// still free when a server that was killed comes back to it.
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
