//! Logs: readable on a terminal, JSON lines elsewhere, always on standard error.
//!
//! A thread of its own writes them, many lines at a time. When standard error is not read, lines are left out, and
//! nothing else waits.

mod writer;

use std::{
    io::{self, IsTerminal as _},
    sync::LazyLock,
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use writer::{Guard, Lines};

static LINES: LazyLock<Lines> = LazyLock::new(Lines::default);

/// Starts logging. RUST_LOG decides how much; without it, what the service does, or only what is wrong. Lines that wait are
/// written when the guard is dropped.
pub fn start(quiet: bool) -> io::Result<Guard> {
    // async-nats would say again what the bus says.
    let default = if quiet { "warn" } else { "info,async_nats=warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let registry = tracing_subscriber::registry().with(filter);
    let guard = LINES.write_to(io::stderr())?;
    let is_terminal = io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer();
    let layer = layer.with_writer(LINES.clone()).with_ansi(is_terminal).with_target(false);
    if is_terminal {
        registry.with(layer).init();
    } else {
        registry.with(layer.json().flatten_event(true)).init();
    }
    Ok(guard)
}

/// How many lines were left out since the start.
pub(crate) fn lines_left_out() -> u64 {
    LINES.left_out()
}
