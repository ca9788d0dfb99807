//! What Talaria costs, beside what it is compared with, side by side in one run. `make bench` runs it.
//!
//! Everything goes over loopback, to processes that the run itself starts, and is bounded in number or time. Each
//! acknowledged callback is looked for at the end, after a kill -9.
//!
//! - [`ingest`]: durable callbacks a second and their latency.
//! - [`forward`]: callbacks a second all the way to Hermes.
//! - [`stored`]: CPU time an event with few and with many events stored.
//! - [`bare`]: what Talaria is compared with. [`generator`]: who sends. [`hermes`]: who is sent to.
//! - [`measure`]: CPU time and memory of a process. [`report`]: the tables.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, prints, and is no library"
)]

mod bare;
mod forward;
mod generator;
mod hermes;
mod ingest;
mod measure;
mod report;
mod role;
mod stored;

use talaria_tests::stack::openrouter_secret;
use tempfile::TempDir;

/// The tenant of every run.
const TENANT: &str = "acme";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    match role::mine().as_deref() {
        Some(role::BARE) => bare::serve(&openrouter_secret(TENANT)).await,
        Some(role::HERMES) => hermes::serve().await,
        Some(other) => panic!("{other} is not a role"),
        None => {
            let mut rows = ingest::run().await;
            rows.extend(forward::run().await);
            rows.extend(stored::run().await);
            report::write(&rows);
        }
    }
}

/// A directory for a Talaria's data, on the disk that the project is on: /tmp may be memory.
fn data_directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}
