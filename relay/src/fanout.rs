//! Plans events as they come: matches each against its tenant's routes.

use crate::plan::plan;
use std::{sync::Arc, time::Duration};
use talaria_bus::{Bus, Clock, Error, Stored};
use talaria_core::config::Config;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many events are planned in one go.
const BATCH: usize = 256;

/// How long to wait for a bus that does not work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Works until it is told to stop.
pub(crate) async fn run(
    config: watch::Receiver<Arc<Config>>,
    bus: Bus,
    clock: Clock,
    stop: CancellationToken,
) {
    let work = async {
        loop {
            if let Err(error) = next(&config, &bus, &clock).await {
                tracing::error!(%error, "cannot plan events");
                clock.sleep(PATIENCE).await;
            }
        }
    };
    // A plan that was sent and not awaited is made, or is made again.
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}

async fn next(config: &watch::Receiver<Arc<Config>>, bus: &Bus, clock: &Clock) -> Result<(), Error> {
    let events = bus.unplanned(BATCH).await?;
    let config = Arc::clone(&config.borrow());
    let now = clock.now();
    let plan_one =
        |stored: &Stored| plan(stored, config.tenants.get(&stored.event.tenant).map(AsRef::as_ref), now);
    bus.plan(events.iter().map(plan_one).collect()).await
}
