//! Housekeeping: checks and trims the streams. It runs beside the supervisor, because a slow bus must not delay the relay's
//! announcements.

use std::{sync::Arc, time::Duration};
use talaria_bus::{Bounds, Bus, Error, Floors};
use talaria_core::config::Config;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// The interval of the checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest and the longest interval of trimming.
const TRIM_INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Streams count as gone after this time. A server of a cluster that has just started or is cut off from the others may give
/// wrong answers for some 20 s.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// The progress of the partitions, from the supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The floors to trim to; `None` while another relay trims.
    pub trim_to: Option<Floors>,
    /// The last event that an owner in this relay has planned.
    pub planned_through: Option<u64>,
}

/// A loss that cannot be mended here.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// The events end before the last planned one.
    Events,
    /// The streams with which this relay began are gone. With the reason.
    Streams(String),
}

/// Runs until it is dropped. Sends losses to `lost`.
pub(super) async fn run(
    bus: Bus,
    config: watch::Receiver<Arc<Config>>,
    progress: watch::Receiver<Progress>,
    lost: mpsc::UnboundedSender<Lost>,
) {
    let mut streams = Streams::default();
    let mut beats = interval(TRIM_INTERVALS.0);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut check, mut trim) = (Instant::now() + CHECK_INTERVAL, Instant::now() + TRIM_INTERVALS.0);
    loop {
        beats.tick().await;
        let now = Instant::now();
        let Progress { trim_to, planned_through } = *progress.borrow();
        if check <= now {
            check = now + CHECK_INTERVAL;
            let found = bus.bounds().await;
            if let Some(why) = streams.check(&found, now) {
                // The supervisor may have gone.
                let _ = lost.send(Lost::Streams(why));
            }
            match found {
                Ok(bounds) => check_events(&bounds, planned_through, &lost),
                Err(error) => tracing::debug!(%error, "stream bounds read failed"),
            }
        }
        if trim <= now {
            trim = now + (config.borrow().retention / 100).clamp(TRIM_INTERVALS.0, TRIM_INTERVALS.1);
            if let Some(floors) = trim_to {
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
    source: Option<String>,
    missing_since: Option<Instant>,
}

impl Streams {
    /// Why the streams are gone, once that is certain.
    fn check(&mut self, found: &Result<Bounds, Error>, now: Instant) -> Option<String> {
        let why = match found {
            Ok(bounds) if *self.source.get_or_insert_with(|| bounds.source.clone()) == bounds.source => None,
            Ok(_) => Some("the streams were removed and created again".to_owned()),
            Err(error) if error.is_gone() => Some(error.to_string()),
            // The streams' state is unknown: they may still be missing.
            Err(_) => return None,
        };
        let Some(why) = why else {
            self.missing_since = None;
            return None;
        };
        let since = *self.missing_since.get_or_insert(now);
        (now.duration_since(since) >= GONE_AFTER).then_some(why)
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
    fn streams_count_as_gone_only_after_half_a_minute() {
        let start = Instant::now();
        let mut streams = Streams::default();
        let mut check = |source: &str, seconds: u64| {
            streams.check(&Ok(bounds(source)), start + Duration::from_secs(seconds))
        };
        assert_eq!(check("first", 0), None);
        assert_eq!(check("second", 5), None);
        assert_eq!(check("first", 30), None, "a server was wrong");
        assert_eq!(check("second", 35), None);
        assert_eq!(check("third", 64), None);
        assert_eq!(check("second", 65).unwrap(), "the streams were removed and created again");
    }
}
