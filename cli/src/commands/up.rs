//! `talaria up`, `talaria ingress` and `talaria relay`: the service, and each half of it.

use crate::{
    Failure, args, files, metrics,
    reload::{self, Overrides, Reloader, Source},
    stack::{Addresses, Stack},
    traces,
    tunnel::Tunnel,
};
use std::{path::Path, sync::Arc, time::Duration};
use talaria_core::config::Role;
use talaria_relay::Readiness;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often a status that catches up says how much is left.
const PROGRESS: Duration = Duration::from_secs(5);

/// As a shell reports a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

pub(crate) async fn both(path: &Path, args: args::Up) -> Result<(), Failure> {
    run(Source { tunnel: args.tunnel, ..Source::new(path, Role::Both) }).await
}

pub(crate) async fn ingress(path: &Path, args: args::Ingress) -> Result<(), Failure> {
    let overrides = Overrides { ingress: args.listen, admin: args.admin, ..Overrides::default() };
    run(Source { overrides, tunnel: args.tunnel, ..Source::new(path, Role::Ingress) }).await
}

pub(crate) async fn relay(path: &Path, args: args::Relay) -> Result<(), Failure> {
    let data_dir = args.data_dir.map(std::path::absolute).transpose()?;
    let overrides = Overrides { grpc: args.grpc, admin: args.admin, data_dir, ..Overrides::default() };
    run(Source { overrides, ..Source::new(path, Role::Relay) }).await
}

async fn run(source: Source) -> Result<(), Failure> {
    // Before anything is read, so that no request for a reload is missed.
    let hangup = signal(SignalKind::hangup())?;
    let tunnel = source.tunnel;
    let (reloader, live) = Reloader::start(source)?;
    let config = Arc::clone(&live.config.borrow());
    if live.role.has_relay() {
        // The file's own address has been looked at.
        let allowed = config.relay.may_listen(config.relay.grpc.ip());
        allowed.map_err(|(what, help)| Failure::Usage(format!("--grpc: {what}\n  help: {help}")))?;
    }
    reload::warn(&config);
    let role = live.role;
    files::raise_limit(&config, role);
    let tunnel = if tunnel { Some(Tunnel::find(&config).await?) } else { None };
    let metrics = metrics::start()?;
    // Before anything takes a tracer.
    let traces = config.telemetry.as_ref().map(|telemetry| traces::start(telemetry, role)).transpose()?;
    let stack = Stack::bind(live, metrics).await?;
    let stop = stop_on_signals()?;
    tokio::spawn(reloader.run(hangup, stop.clone()));
    announce(stack.addresses);
    if let Some(readiness) = stack.readiness.clone() {
        tokio::spawn(follow_progress(readiness));
    }
    let ingress = stack.addresses.ingress;
    let lead_here = async {
        if let (Some(tunnel), Some(ingress)) = (tunnel, ingress) {
            tunnel.run(ingress, stop.clone()).await;
        }
    };
    let work = async {
        // It is large, and moved about on the way here.
        let done = Box::pin(stack.run(stop.clone())).await;
        stop.cancel();
        done
    };
    let (done, ()) = tokio::join!(work, lead_here);
    if let Some(traces) = traces {
        traces.stop().await;
    }
    done?;
    tracing::info!("stopped");
    Ok(())
}

/// Says now and then why the relay does not work yet, until it does.
async fn follow_progress(readiness: Readiness) {
    while tokio::time::timeout(PROGRESS, readiness.wait()).await.is_err() {
        tracing::info!(because = readiness.fault(), "the relay is starting");
    }
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
