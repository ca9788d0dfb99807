//! The boot of a service: configuration, tunnel, metrics and traces, listeners, then work until a signal.

use crate::{
    Failure, files, metrics,
    reload::{self, Reloader, Source},
    stack::{Addresses, Stack},
    traces,
    tunnel::Tunnel,
};
use std::{sync::Arc, time::Duration};
use talaria_relay::Readiness;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Interval at which a relay that is not ready logs the reason.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The exit code of a shell for a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(source: Source) -> Result<(), Failure> {
    // First, so that no SIGHUP is lost.
    let hangup = signal(SignalKind::hangup())?;
    let tunnel = source.tunnel;
    let (reloader, live) = Reloader::start(source)?;
    let config = Arc::clone(&live.config.borrow());
    if live.role.has_relay() {
        // The file's own address was checked when it was read.
        let allowed = config.relay.may_listen(config.relay.grpc.ip());
        allowed.map_err(|(what, help)| Failure::Usage(format!("--grpc: {what}\n  help: {help}")))?;
    }
    reload::warn(&config);
    let role = live.role;
    files::raise_limit(&config, role);
    let tunnel = if tunnel { Some(Tunnel::find(&config).await?) } else { None };
    let metrics = metrics::start()?;
    // Before the first span.
    let traces = config.telemetry.as_ref().map(|telemetry| traces::start(telemetry, role)).transpose()?;
    let stack = Stack::bind(live, metrics).await?;
    let stop = stop_on_signals()?;
    tokio::spawn(reloader.run(hangup, stop.clone()));
    announce(stack.addresses, config.relay.tls.is_some());
    if let Some(readiness) = stack.readiness.clone() {
        tokio::spawn(follow_progress(readiness));
    }
    let ingress = stack.addresses.ingress;
    let run_tunnel = async {
        if let (Some(tunnel), Some(ingress)) = (tunnel, ingress) {
            tunnel.run(ingress, stop.clone()).await;
        }
    };
    let work = async {
        // Boxed, because the future is large.
        let done = Box::pin(stack.run(stop.clone())).await;
        stop.cancel();
        done
    };
    let (done, ()) = tokio::join!(work, run_tunnel);
    if let Some(traces) = traces {
        traces.stop().await;
    }
    done?;
    tracing::info!("stopped");
    Ok(())
}

/// Logs why the relay is not ready, until it is.
async fn follow_progress(readiness: Readiness) {
    while tokio::time::timeout(PROGRESS_INTERVAL, readiness.wait()).await.is_err() {
        tracing::info!(because = readiness.fault(), "the relay is starting");
    }
}

/// Logs the addresses, as text and as fields.
fn announce(at: Addresses, tls: bool) {
    let scheme = if tls { "https" } else { "http" };
    let callbacks = at.ingress.map(|address| format!("callbacks on http://{address}/callbacks/{{tenant}}, "));
    let status = at.grpc.map(|address| format!("status on {address}, "));
    let console = at.console.map(|address| format!("console on {scheme}://{address}, "));
    tracing::info!(
        ingress = at.ingress.map(tracing::field::display), grpc = at.grpc.map(tracing::field::display),
        console = at.console.map(tracing::field::display), admin = %at.admin,
        "listening: {}{}{}metrics on {}",
        callbacks.unwrap_or_default(), status.unwrap_or_default(), console.unwrap_or_default(), at.admin
    );
}

/// Stops in order at the first Ctrl-C or SIGTERM, and at once at the second.
fn stop_on_signals() -> Result<CancellationToken, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
        next().await;
        tracing::info!("stopping; a second signal ends the process at once");
        stopping.cancel();
        next().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(stop)
}
