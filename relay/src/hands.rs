//! How many deliveries the relay has in hand at once, over all partitions.

use metrics::gauge;
use std::sync::Arc;
use talaria_core::config::Config;
use tokio::sync::{Semaphore, watch};

/// Beside `relay.in_flight`: deliveries of routes that were removed, which are parked at once.
const SPARE: usize = 64;

/// As many hands as are configured. Where there are to be fewer, those that are busy go when they are done.
pub(crate) struct Hands {
    semaphore: Arc<Semaphore>,
    size: usize,
    config: watch::Receiver<Arc<Config>>,
}

fn in_hand(config: &Config) -> usize {
    config.relay.in_flight + SPARE
}

impl Hands {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        // Seen before the first one comes.
        gauge!("talaria_deliveries_in_hand").set(0.0);
        let size = in_hand(&config.borrow());
        Self { semaphore: Arc::new(Semaphore::new(size)), size, config }
    }

    pub(crate) fn semaphore(&self) -> Arc<Semaphore> {
        Arc::clone(&self.semaphore)
    }

    /// Follows the configuration.
    pub(crate) async fn follow(mut self) {
        loop {
            let wanted = in_hand(&self.config.borrow_and_update());
            self.semaphore.add_permits(wanted.saturating_sub(self.size));
            self.size = self.size.max(wanted);
            let fewer = u32::try_from(self.size - wanted).unwrap_or(u32::MAX);
            let changed = tokio::select! {
                Ok(gone) = self.semaphore.acquire_many(fewer), if fewer > 0 => {
                    gone.forget();
                    self.size = wanted;
                    continue;
                }
                changed = self.config.changed() => changed,
            };
            if changed.is_err() {
                // It never changes again.
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn there_are_as_many_hands_as_are_configured_once_those_that_are_busy_are_done() {
        let config = |in_flight| {
            let mut config = crate::testing::config("");
            config.relay.in_flight = in_flight;
            Arc::new(config)
        };
        let (change, changes) = watch::channel(config(4));
        let hands = Hands::new(changes);
        let semaphore = hands.semaphore();
        tokio::spawn(hands.follow());
        let settle = || tokio::time::sleep(Duration::from_secs(1));
        change.send_replace(config(9));
        settle().await;
        assert_eq!(semaphore.available_permits(), 9 + SPARE);
        let busy = Arc::clone(&semaphore).acquire_many_owned(8 + 64).await.unwrap();
        change.send_replace(config(2));
        settle().await;
        // Changed again while hands are waited for.
        change.send_replace(config(3));
        settle().await;
        assert!(semaphore.try_acquire().is_err(), "none for new deliveries");
        drop(busy);
        settle().await;
        assert_eq!(semaphore.available_permits(), 3 + SPARE);
    }
}
