//! `talaria up`, `talaria ingress` and `talaria relay`: the service, and each half of it.

use crate::{
    Failure, stack,
    stack::{Addresses, Stack},
};
use std::path::Path;
use talaria_core::config::{self, Role};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// As a shell reports a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

pub(crate) async fn run(path: &Path, role: Role) -> Result<(), Failure> {
    let config = config::load_for(path, role)?;
    for warning in &config.warnings {
        tracing::warn!(line = warning.line, column = warning.column, help = warning.help, "{}", warning.what);
    }
    let stack = Stack::bind(config, role, stack::metrics()?).await?;
    let stop = stop_on_signals()?;
    announce(stack.addresses);
    if let Some(readiness) = stack.readiness.clone().filter(|readiness| readiness.behind() > 0) {
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

/// Says what listens where, for people in words and for programs in fields.
fn announce(at: Addresses) {
    let callbacks = at.ingress.map(|address| format!("callbacks on http://{address}/callbacks/{{tenant}}, "));
    let status = at.grpc.map(|address| format!("status on {address}, "));
    tracing::info!(
        ingress = at.ingress.map(tracing::field::display), grpc = at.grpc.map(tracing::field::display), admin = %at.admin,
        "listening: {}{}metrics on {}",
        callbacks.unwrap_or_default(), status.unwrap_or_default(), at.admin
    );
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
