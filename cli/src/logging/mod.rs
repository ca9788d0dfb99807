//! Logs: sentences on a terminal, JSON lines elsewhere, always on standard error.
//!
//! A thread of its own writes them, many lines at a time. When standard error is not read, lines are left out, and
//! nothing else waits.

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

/// What is logged where RUST_LOG does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// What is wrong: everything but the service itself answers on standard output.
    Warnings,
    /// What the service does. On a terminal each delivery has a line.
    Deliveries,
    /// What a service does that delivers nothing. On a terminal each callback has a line.
    Callbacks,
}

/// Starts logging. Lines that wait are written when the guard is dropped.
pub fn start(logs: Logs) -> io::Result<Guard> {
    // async-nats would say again what the bus says.
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

/// How many lines were left out since the start.
pub(crate) fn lines_left_out() -> u64 {
    LINES.left_out()
}
