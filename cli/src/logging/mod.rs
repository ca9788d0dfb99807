//! Logs: readable on a terminal, JSON lines elsewhere, always on standard error.

use std::io::{self, IsTerminal as _};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Starts logging. RUST_LOG decides how much; without it, what the service does, or only what is wrong.
pub fn start(quiet: bool) {
    // async-nats would say again what the bus says.
    let default = if quiet { "warn" } else { "info,async_nats=warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    if io::stderr().is_terminal() {
        registry.with(layer).init();
    } else {
        registry.with(layer.json().flatten_event(true)).init();
    }
}
