//! The clock, passed as a value so that tests can set it.

use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use talaria_core::time::{after, since};
use tokio::sync::watch;

/// A timer does not count the hours in which a laptop sleeps, so a caller looks at the clock at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// Gives the time of day and the time since boot, and sleeps.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A test's clock: the time of day, and the time since boot.
    Manual(Arc<watch::Sender<(Timestamp, Duration)>>),
}

impl Clock {
    /// A clock that stops until it is advanced.
    pub fn manual(now: Timestamp) -> Self {
        Self::Manual(Arc::new(watch::Sender::new((now, Duration::ZERO))))
    }

    /// Advances a manual clock.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(now) = self {
            now.send_modify(|(now, boot)| (*now, *boot) = (after(*now, by), *boot + by));
        }
    }

    /// Sets a manual clock's time of day, as an administrator would.
    pub fn set(&self, time: Timestamp) {
        if let Self::Manual(now) = self {
            now.send_modify(|(now, _)| *now = time);
        }
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Manual(now) => now.borrow().0,
        }
    }

    /// The time since boot: counts also while the machine sleeps, and cannot be set.
    pub fn since_boot(&self) -> Duration {
        match self {
            Self::System => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
                Duration::new(time.tv_sec.unsigned_abs(), nanos)
            }
            Self::Manual(now) => now.borrow().1,
        }
    }

    /// Returns at `time` or earlier; the caller looks at the clock again.
    pub async fn sleep_towards(&self, time: Timestamp) {
        match self {
            Self::System => tokio::time::sleep(since(time, self.now()).min(LONGEST_SLEEP)).await,
            // The sender lives as long as this clock, so waiting cannot fail.
            Self::Manual(now) => drop(now.subscribe().wait_for(|(now, _)| *now >= time).await),
        }
    }

    /// Returns after a duration, whatever the time of day is set to meanwhile.
    pub async fn sleep(&self, duration: Duration) {
        match self {
            Self::System => tokio::time::sleep(duration).await,
            Self::Manual(now) => {
                let end = now.borrow().1 + duration;
                drop(now.subscribe().wait_for(|(_, boot)| *boot >= end).await);
            }
        }
    }
}
