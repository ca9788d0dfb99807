//! `talaria up`: the service.

use crate::{Failure, stack, stack::Stack};
use std::path::Path;
use talaria_core::config;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// As a shell reports a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

pub(crate) async fn run(path: &Path) -> Result<(), Failure> {
    let config = config::load(path)?;
    for warning in &config.warnings {
        tracing::warn!(line = warning.line, column = warning.column, help = warning.help, "{}", warning.what);
    }
    let stack = Stack::bind(config, stack::metrics()?).await?;
    let stop = stop_on_signals()?;
    let at = stack.addresses;
    tracing::info!(
        ingress = %at.ingress, grpc = %at.grpc, admin = %at.admin,
        "listening: callbacks on http://{}/callbacks/{{tenant}}, status on {}, metrics on {}",
        at.ingress, at.grpc, at.admin
    );
    let readiness = stack.readiness.clone();
    if readiness.behind() > 0 {
        tracing::info!(facts = readiness.behind(), "the status is catching up with the journal");
        tokio::spawn(async move {
            readiness.wait().await;
            tracing::info!("the status has caught up");
        });
    }
    stack.run(stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Stops at the first Ctrl-C or SIGTERM; a second one does not wait for anything.
fn stop_on_signals() -> Result<CancellationToken, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
        next().await;
        tracing::info!("finishing what has begun; once more to stop at once");
        told.cancel();
        next().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(stop)
}
