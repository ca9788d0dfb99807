//! The time of day and the time since boot, passed to what needs them, so that tests can set them.

use crate::time::{after, since};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// A timer does not count the hours in which a laptop sleeps, so what is due is looked at this often at least.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// Gives the time, and waits for one.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// A test's: the time of day, and the time since boot.
    Manual(Arc<watch::Sender<(Timestamp, Duration)>>),
}

impl Clock {
    /// A clock that stands still until it is moved.
    pub fn manual(now: Timestamp) -> Self {
        Self::Manual(Arc::new(watch::Sender::new((now, Duration::ZERO))))
    }

    /// Moves a manual clock on. The machine's clock moves by itself.
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

    /// The time since boot, in which a machine that sleeps ages too, and which cannot be set.
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

    /// Returns at `time`, or earlier: the caller looks at the clock again.
    pub async fn sleep_towards(&self, time: Timestamp) {
        match self {
            Self::System => tokio::time::sleep(since(time, self.now()).min(LONGEST_SLEEP)).await,
            // The sender lives as long as this clock, so waiting cannot fail.
            Self::Manual(now) => drop(now.subscribe().wait_for(|(now, _)| *now >= time).await),
        }
    }

    /// Returns once so much time has passed, whatever the time of day is set to meanwhile.
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
