//! Logs on standard error: text on a terminal, JSON lines elsewhere.
//!
//! A separate thread writes them in batches. If standard error is not read, lines are dropped and nothing waits.

mod terminal;
mod writer;

use anstream::{AutoStream, ColorChoice};
use std::{
    io::{self, IsTerminal as _},
    sync::LazyLock,
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use writer::{Guard, Lines};

static LINES: LazyLock<Lines> = LazyLock::new(Lines::default);

/// The default level, which RUST_LOG overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// Warnings and errors, for commands.
    Warnings,
    /// Everything that a relay does. On a terminal each delivery has a line.
    Deliveries,
    /// Everything that an ingress does. On a terminal each callback has a line.
    Callbacks,
}

/// Starts logging. Dropping the guard writes the buffered lines.
pub fn start(logs: Logs) -> io::Result<Guard> {
    // The bus logs the same as async-nats.
    let default = if logs == Logs::Warnings { "warn" } else { "info,async_nats=warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let registry = tracing_subscriber::registry().with(filter);
    let guard = LINES.write_to(io::stderr())?;
    let layer = tracing_subscriber::fmt::layer().with_writer(LINES.clone());
    if io::stderr().is_terminal() {
        let has_colours = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        let lines = terminal::Lines::new(logs == Logs::Callbacks);
        registry.with(layer.with_ansi(has_colours).event_format(lines)).init();
    } else {
        registry.with(layer.with_ansi(false).with_target(false).json().flatten_event(true)).init();
    }
    Ok(guard)
}

/// Lines dropped since the start.
pub(crate) fn lines_dropped() -> u64 {
    LINES.dropped()
}
