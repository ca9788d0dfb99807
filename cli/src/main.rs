//! The boot story: one binary, several roles.

use clap::Parser as _;
use std::process::ExitCode;
use talaria::{Args, logging};

/// Each callback makes many small allocations; this allocator returns memory to the system more steadily.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before the first use of TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    let log = logging::start(args.logs());
    let done = talaria::run(args);
    // Writes the remaining lines before the error.
    drop(log);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
