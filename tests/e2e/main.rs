//! All end-to-end tests, in one binary.
//!
//! - [`promises`]: the promises of the README, a test for each, by number.
//! - [`hermes`]: against the real Hermes.
//! - [`backup`]: copies of the embedded bus, and going back to one.
//! - [`breaker`]: routes that fail are shut, and open again.
//! - [`pace`]: how fast a route's backlog goes out.
//! - [`exactness`]: our rendering and filtering beside the real Hermes' own.
//! - [`status`]: the gRPC services.
//! - [`series`]: counts over time.
//! - [`json`]: JSON over HTTP.
//! - [`mcp`]: tools for agents.
//! - [`moving`]: an embedded bus that moves to NATS.
//! - [`console`]: the console's pages, in a real browser.
//! - [`jobs`]: jobs at OpenRouter, from submit to end.
//! - [`notices`]: what a webhook or a route of Hermes is told.
//! - [`control`]: pause, cancel, replay and probe.
//! - [`access`]: tokens, tenants, TLS.
//! - [`commands`]: the command line.
//! - [`ids`]: unique beginnings of ids.
//! - [`terminal`]: output on a terminal.
//! - [`doctor`]: `talaria doctor`, without and with faults.
//! - [`explain`]: `talaria explain`.
//! - [`evidence`]: `talaria status --evidence`.
//! - [`runs`]: how the agent's runs ended.
//! - [`refusals`]: refusals of the ingress in the status, the log and the metrics.
//! - [`reload`]: configurations that change while a process runs.
//! - [`running`]: retention, draining, restarts with another configuration.
//! - [`cluster`]: any relay answers for all.
//! - [`fleet`]: several ingresses and relays, one after another of which fails.
//! - [`openrouter_client`]: the client of OpenRouter's video API.
//! - [`outbound`]: wrong endpoints, addresses and certificates.
//! - [`signing`]: every scheme and rotated secrets, against the real Hermes.
//! - [`outages`]: ingresses and relays whose NATS fails.
//! - [`silence`]: relays that accept connections and never answer.
//! - [`flood`]: callbacks beside a flood of junk.
//! - [`fuzzed`]: what holds for any bytes, on seeds and on random ones.
//! - [`chaos`]: random faults, from a seed.
//! - [`broker`]: the tests' own NATS servers.
//! - [`nats_backup`]: copies of NATS' streams, and going back to one.
//! - [`nats_setup`]: streams, permissions and limits, as in docs/nats.md.
//! - [`certificates`]: certificates of servers and clients.
//! - [`telemetry`]: metrics, traces and logs.
//! - [`tunnel`]: cloudflared, which `--tunnel` runs.
//! - [`kubernetes`]: the manifests for Kubernetes, run without a cluster.
//! - [`docs`]: links and names in the documents.
//! - [`errors`]: docs/errors, in the words of the program.
//! - [`architecture`]: which crate may know which.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests stop at the first surprise"
)]

mod access;
mod architecture;
mod backup;
mod breaker;
mod broker;
mod certificates;
mod chaos;
mod clock;
mod cluster;
mod commands;
mod compose;
mod conformance;
mod console;
mod control;
mod docs;
mod doctor;
mod errors;
mod evidence;
mod exactness;
mod explain;
mod fleet;
mod flood;
mod fuzzed;
mod hermes;
mod ids;
mod jobs;
mod json;
mod kubernetes;
mod mcp;
mod moving;
mod nats_backup;
mod nats_setup;
mod notices;
mod openrouter_client;
mod outages;
mod outbound;
mod pace;
mod promises;
mod refusals;
mod reload;
mod running;
mod runs;
mod series;
mod signing;
mod silence;
mod status;
mod telemetry;
mod terminal;
mod tunnel;
mod unmatched;
