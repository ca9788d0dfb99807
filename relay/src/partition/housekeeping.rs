//! What a relay does for the streams every now and then. It goes on beside the supervisor, because a bus that is slow must
//! not keep that from announcing the relay.

use std::{sync::Arc, time::Duration};
use talaria_bus::{Bounds, Bus, Error, Floors};
use talaria_core::config::Config;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// How often it is looked whether the events end before what was planned.
const LOOK: Duration = Duration::from_secs(5);

/// How often it is looked whether something is to be trimmed, at most and at least.
const TRIMS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// For how long streams have to be gone, or to be others, until that is believed. A server of a cluster that has just started, or
/// that is cut off from the others, may not know better for some 20 s.
const GONE_FOR_SURE: Duration = Duration::from_secs(30);

/// What the supervisor knows of the partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// No partition needs what is before these; `None` while it is not this relay's turn to trim.
    pub unneeded: Option<Floors>,
    /// The highest sequence of an event that an owner in this relay has planned.
    pub planned_through: Option<u64>,
}

/// What is lost, and cannot be mended here.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// The events end before what was planned.
    Events,
    /// The streams with which this relay began are not there any more: why this is believed.
    Streams(String),
}

/// Works until it is dropped. Sends to `lost` what is lost.
pub(super) async fn run(
    bus: Bus,
    config: watch::Receiver<Arc<Config>>,
    known: watch::Receiver<Known>,
    lost: mpsc::UnboundedSender<Lost>,
) {
    let mut streams = Streams::default();
    let mut beats = interval(TRIMS.0);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut look, mut trim) = (Instant::now() + LOOK, Instant::now() + TRIMS.0);
    loop {
        beats.tick().await;
        let now = Instant::now();
        let Known { unneeded, planned_through } = *known.borrow();
        if look <= now {
            look = now + LOOK;
            let found = bus.bounds().await;
            if let Some(why) = streams.look(&found, now) {
                // The supervisor may have gone.
                let _ = lost.send(Lost::Streams(why));
            }
            match found {
                Ok(bounds) => check_events(&bounds, planned_through, &lost),
                Err(error) => tracing::debug!(%error, "cannot tell where the events end"),
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

fn check_events(bounds: &Bounds, planned: Option<u64>, lost: &mpsc::UnboundedSender<Lost>) {
    let last = bounds.last_event;
    if let Some(planned) = planned.filter(|planned| last < *planned) {
        tracing::error!(last, planned, "the events end before what was planned");
        // The supervisor may have gone.
        let _ = lost.send(Lost::Events);
    }
}

/// Whether the streams are those with which this relay began.
#[derive(Debug, Default)]
struct Streams {
    /// Which they were.
    source: Option<String>,
    /// Since when they are gone, or others.
    missing_since: Option<Instant>,
}

impl Streams {
    /// Looks at what is there. Says why the streams are not there any more, once that is sure.
    fn look(&mut self, found: &Result<Bounds, Error>, now: Instant) -> Option<String> {
        let why = match found {
            Ok(bounds) if *self.source.get_or_insert_with(|| bounds.source.clone()) == bounds.source => None,
            Ok(_) => Some("the streams were removed and created again".to_owned()),
            Err(error) if error.is_gone() => Some(error.to_string()),
            // Nothing is known: what was missing may be missing still.
            Err(_) => return None,
        };
        let Some(why) = why else {
            self.missing_since = None;
            return None;
        };
        let since = *self.missing_since.get_or_insert(now);
        (now.duration_since(since) >= GONE_FOR_SURE).then_some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(source: &str) -> Bounds {
        let source = source.to_owned();
        Bounds { source, first_event: 0, last_event: 0, first_commit: 0, last_commit: 0 }
    }

    #[test]
    fn streams_that_are_others_for_half_a_minute_are_lost_and_a_moment_is_not_enough() {
        let start = Instant::now();
        let mut streams = Streams::default();
        let mut look = |source: &str, seconds: u64| {
            streams.look(&Ok(bounds(source)), start + Duration::from_secs(seconds))
        };
        assert_eq!(look("first", 0), None);
        assert_eq!(look("second", 5), None);
        assert_eq!(look("first", 30), None, "a server did not know better");
        assert_eq!(look("second", 35), None);
        assert_eq!(look("third", 64), None);
        assert_eq!(look("second", 65).unwrap(), "the streams were removed and created again");
    }
}
