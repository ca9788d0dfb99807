//! What a relay does for the streams every now and then. It goes on beside the supervisor, because a bus that is slow must
//! not keep that from announcing the relay.

use std::{sync::Arc, time::Duration};
use talaria_bus::{Bus, Floors};
use talaria_core::config::Config;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// How often it is looked whether the events end before what was planned.
const LOOK: Duration = Duration::from_secs(5);

/// How often it is looked whether something is to be trimmed, at most and at least.
const TRIMS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// What the supervisor knows of the partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// No partition needs what is before these; `None` while it is not this relay's turn to trim.
    pub unneeded: Option<Floors>,
    /// The highest sequence of an event that an owner in this relay has planned.
    pub planned_through: Option<u64>,
}

/// Works until it is dropped. Sends to `lost` when the events end before what was planned.
pub(super) async fn run(
    bus: Bus,
    config: watch::Receiver<Arc<Config>>,
    known: watch::Receiver<Known>,
    lost: mpsc::UnboundedSender<EventsLost>,
) {
    let mut beats = interval(TRIMS.0);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut look, mut trim) = (Instant::now() + LOOK, Instant::now() + TRIMS.0);
    loop {
        beats.tick().await;
        let now = Instant::now();
        let Known { unneeded, planned_through } = *known.borrow();
        if look <= now {
            look = now + LOOK;
            if let Some(planned) = planned_through {
                check_events(&bus, planned, &lost).await;
            }
        }
        if trim <= now {
            trim = now + (config.borrow().retention / 100).clamp(TRIMS.0, TRIMS.1);
            if let Some(floors) = unneeded {
                match bus.trim(floors).await {
                    Ok((0, 0)) => {}
                    Ok((events, commits)) => tracing::info!(events, commits, "streams trimmed"),
                    Err(error) => tracing::warn!(%error, "trim failed"),
                }
            }
        }
    }
}

/// The events end before what was planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventsLost;

async fn check_events(bus: &Bus, planned: u64, lost: &mpsc::UnboundedSender<EventsLost>) {
    match bus.bounds().await {
        Ok(bounds) if bounds.last_event < planned => {
            tracing::error!(last = bounds.last_event, planned, "the events end before what was planned");
            // The supervisor may have gone.
            let _ = lost.send(EventsLost);
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "cannot tell where the events end"),
    }
}
