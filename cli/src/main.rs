//! The boot story: one binary, several roles.

use clap::Parser as _;
use std::process::ExitCode;
use talaria::{Args, Failure, logging};

/// Many small allocations come and go with every callback; this allocator gives memory back more steadily.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything can ask for TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    let log = logging::start(args.logs());
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(talaria::run(args)));
    // Before the failure is told, which comes last.
    drop(log);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
