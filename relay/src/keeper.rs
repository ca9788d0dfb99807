//! Removes what is older than the configured retention, from the bus and from the view.

use crate::{control::Operator, view::View};
use std::{sync::Arc, time::Duration};
use talaria_bus::{Bus, Clock, time::before};
use talaria_core::config::Config;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Works until it is told to stop.
pub(crate) async fn run(
    operator: Operator,
    bus: Bus,
    view: View,
    clock: Clock,
    config: watch::Receiver<Arc<Config>>,
    stop: CancellationToken,
) {
    let work = async {
        loop {
            let retention = config.borrow().retention;
            // Often enough that nothing is kept a hundredth longer than it should be, and no more than once a second.
            clock.sleep((retention / 100).clamp(Duration::from_secs(1), Duration::from_secs(600))).await;
            let now = clock.now();
            // Long before it would go: what is paused stays paused, for however long.
            if let Err(error) = operator.renew_pauses(before(now, retention / 2)).await {
                tracing::error!(error = error.message(), "cannot journal again what is paused");
            }
            let edge = before(now, retention);
            match bus.expire(edge).await {
                Ok(expired) if expired.events + expired.facts > 0 => {
                    tracing::info!(events = expired.events, facts = expired.facts, "expired");
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "cannot remove what is old"),
            }
            if let Err(error) = async { view.forget_starts(now).await.and(view.expire(edge).await) }.await {
                tracing::error!(%error, "cannot remove what is old from the status view");
            }
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}
