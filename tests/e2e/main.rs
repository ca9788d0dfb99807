//! Everything that is shown end to end, in one binary.
//!
//! - [`promises`]: the promises of the README, a test of its own name for each.
//! - [`hermes`]: against the real Hermes.
//! - [`backup`]: copies of the embedded bus, and going back to one.
//! - [`breaker`]: routes that fail are shut, and open again.
//! - [`pace`]: how fast a route's backlog goes out.
//! - [`exactness`]: our rendering and filtering beside the real Hermes' own.
//! - [`status`]: the gRPC services.
//! - [`control`]: pausing, calling off and sending again.
//! - [`access`]: who may ask what: tokens, tenants, TLS.
//! - [`commands`]: the command line.
//! - [`ids`]: no more of an id has to be given than tells it from others.
//! - [`terminal`]: what people see, and programs do not.
//! - [`doctor`]: what a callback needs on its way, healthy and with faults.
//! - [`explain`]: why an event arrived or did not.
//! - [`refusals`]: what is refused at the ingress is told to the operator.
//! - [`reload`]: configurations that change while a process runs.
//! - [`running`]: retention, draining, restarts with another configuration.
//! - [`cluster`]: any relay answers for all.
//! - [`fleet`]: several ingresses and relays, one after another of which fails.
//! - [`outbound`]: endpoints, addresses and certificates that are not what they should be.
//! - [`signing`]: every scheme and rotated secrets, against the real Hermes.
//! - [`outages`]: ingresses and relays whose NATS fails.
//! - [`silence`]: relays that take connections and say nothing.
//! - [`flood`]: callbacks beside a flood of junk.
//! - [`chaos`]: random faults, from a seed.
//! - [`broker`]: what the tests' own NATS servers hold.
//! - [`nats_setup`]: streams, permissions and limits, as docs/nats.md says them.
//! - [`certificates`]: by which servers and clients know each other.
//! - [`telemetry`]: what is counted, measured, traced and said of it.
//! - [`tunnel`]: cloudflared, which `--tunnel` runs.
//! - [`kubernetes`]: the manifests for Kubernetes, run without a cluster.
//! - [`docs`]: the documents speak of what there is.
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
mod control;
mod docs;
mod doctor;
mod errors;
mod exactness;
mod explain;
mod fleet;
mod flood;
mod hermes;
mod ids;
mod kubernetes;
mod nats_setup;
mod outages;
mod outbound;
mod pace;
mod promises;
mod refusals;
mod reload;
mod running;
mod signing;
mod silence;
mod status;
mod telemetry;
mod terminal;
mod tunnel;
mod unmatched;
