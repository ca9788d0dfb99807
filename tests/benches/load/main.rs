//! The cost of Talaria and of the programs for comparison, side by side in one run. `make bench` runs it but
//! for the last part, `make bench-nats` and `make bench-engine` run a part alone; the arguments are those of `up`, `nats`
//! and `engine` that are asked for, or nothing for the first two. A piece of `nats` or `engine`, such as `nats/through`, is
//! measured alone and not written into the page.
//!
//! Everything goes over loopback, to processes that the run itself starts, and is bounded in number or time. Each
//! acknowledged callback is looked for at the end, after a kill -9.
//!
//! - [`ingest`]: durable callbacks a second and their latency.
//! - [`forward`]: callbacks a second all the way to Hermes.
//! - [`stored`]: CPU time an event with few and with many events stored.
//! - [`nats`]: separate processes over NATS.
//! - [`engine`]: many routes, broken ones, and a million waiting deliveries.
//! - [`bare`]: the program for comparison. [`generator`]: the sender. [`hermes`]: the receiver.
//!   [`arrived`]: arrivals there.
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

mod arrived;
mod bare;
mod engine;
mod forward;
mod generator;
mod hermes;
mod ingest;
mod measure;
mod nats;
mod report;
mod role;
mod stored;

use std::{env, path::Path};
use talaria_tests::stack::openrouter_secret;
use tempfile::TempDir;

/// The tenant of every run.
const TENANT: &str = "acme";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    // Cargo adds a flag of its own.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (role::mine().as_deref(), arguments.as_slice()) {
        (None, parts) => measure(parts).await,
        (Some(role::BARE), _) => bare::serve(&openrouter_secret(TENANT)).await,
        (Some(role::HERMES), _) => hermes::serve().await,
        (Some(role::BROKEN), _) => engine::broken::serve().await,
        (Some(role::BASELINE_INGRESS), [nats]) => {
            nats::baseline::ingress(&openrouter_secret(TENANT), nats).await;
        }
        (Some(role::BASELINE_RELAY), [nats, hermes, at_once]) => {
            nats::baseline::relay(nats, hermes, at_once.parse().unwrap()).await;
        }
        (Some(other), arguments) => panic!("{other} is not a role with {arguments:?}"),
    }
}

/// Measures the requested parts, and writes the results.
async fn measure(parts: &[&str]) {
    // On the disk that the project is on: /tmp may be memory.
    tempfile::env::override_temp_dir(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let (pieces, parts): (Vec<&str>, Vec<&str>) = parts.iter().partition(|part| part.contains('/'));
    for piece in &pieces {
        match piece.split_once('/') {
            Some(("nats", piece)) => report::print("over NATS", &[nats::run(piece).await]),
            Some(("engine", piece)) => report::print("Talaria", &[engine::run(piece).await]),
            _ => panic!("{piece} is no piece of nats or engine"),
        }
    }
    if let Some(other) = parts.iter().find(|part| !["up", "nats", "engine"].contains(part)) {
        panic!("{other} is none of up, nats and engine");
    }
    // The engine alone takes as long as the others together.
    let asked = |part| parts.contains(&part) || parts.is_empty() && pieces.is_empty() && part != "engine";
    if asked("up") {
        let mut rows = ingest::run().await;
        rows.extend(forward::run().await);
        rows.extend(stored::run().await);
        report::write(&rows);
    }
    if asked("nats") {
        let mut measured = Vec::new();
        for part in nats::PARTS {
            measured.push(nats::run(part).await);
        }
        report::write_nats(&measured);
    }
    if asked("engine") {
        let mut measured = Vec::new();
        for part in engine::PARTS {
            measured.push(engine::run(part).await);
        }
        report::write_engine(&measured);
    }
}

/// A directory for a Talaria's data.
fn data_directory() -> TempDir {
    tempfile::tempdir().unwrap()
}
