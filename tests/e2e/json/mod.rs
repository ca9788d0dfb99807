//! JSON over HTTP.
//!
//! - [`same`]: the answers are those of gRPC.
//! - [`http`]: requests that are refused, names, sites, TLS, the end of the process.
//! - [`streams`]: watches, as server-sent events and in Connect's envelopes.
//! - [`page`]: docs/json.md, as it is written.
//! - [`clients`]: the official clients of Connect, and a fuzzer. `make test-json` runs these.

mod clients;
mod http;
mod page;
mod same;
mod streams;

use talaria_tests::{
    openrouter::event_id,
    sink::Sink,
    stack::{Stack, stack},
};

const SUMMARY: &str = "/talaria.v1.StatusService/GetSummary";
const EVENT: &str = "/talaria.v1.StatusService/GetEvent";
const WATCH: &str = "/talaria.v1.StatusService/WatchDeliveries";
const PAUSE: &str = "/talaria.v1.ControlService/Pause";

/// A process with one delivery, and the id of its event.
async fn delivered(sink: &Sink) -> (Stack, String) {
    let stack = stack().tenant("me", |t| t.route("video", &sink.url("video"), "pace: off")).start().await;
    stack.openrouter("me").send("a job", "completed").await;
    let event = event_id("me", "a job", "completed");
    stack.finished(&event, "video").await;
    (stack, event)
}
