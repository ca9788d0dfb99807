//! The time of day, handed to whoever must know it, so that tests can set it.

use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// A timer does not count the hours in which a laptop sleeps, so nobody sleeps longer than this at a time.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// Tells the time, and waits for one.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// A test's.
    Manual(Arc<watch::Sender<Timestamp>>),
}

impl Clock {
    /// A clock that stands still until it is moved.
    pub fn manual(now: Timestamp) -> Self {
        Self::Manual(Arc::new(watch::Sender::new(now)))
    }

    /// Moves a manual clock on. The machine's clock moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(now) = self {
            now.send_modify(|now| *now = crate::time::after(*now, by));
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Manual(now) => *now.borrow(),
        }
    }

    /// Returns at `time`, or earlier: whoever waits looks at the clock again.
    pub async fn sleep_towards(&self, time: Timestamp) {
        match self {
            Self::System => tokio::time::sleep(crate::time::since(time, self.now()).min(LONGEST_SLEEP)).await,
            // The sender lives as long as this clock, so waiting cannot fail.
            Self::Manual(now) => drop(now.subscribe().wait_for(|now| *now >= time).await),
        }
    }

    /// Returns once so much time has passed.
    pub async fn sleep(&self, duration: Duration) {
        let end = crate::time::after(self.now(), duration);
        while self.now() < end {
            self.sleep_towards(end).await;
        }
    }
}
