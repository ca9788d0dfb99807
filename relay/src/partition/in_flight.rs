//! The limit of deliveries in flight in this relay, over all partitions.

use metrics::gauge;
use std::sync::Arc;
use talaria_core::config::Config;
use tokio::sync::{Semaphore, watch};

/// Added to `relay.in_flight`, for deliveries of removed routes, which are parked at once.
const SPARE: usize = 64;

/// A semaphore with the configured number of permits. When that is lowered, permits in use are removed when they are released.
pub(crate) struct InFlightLimit {
    semaphore: Arc<Semaphore>,
    size: usize,
    config: watch::Receiver<Arc<Config>>,
}

fn permits(config: &Config) -> usize {
    config.relay.in_flight + SPARE
}

impl InFlightLimit {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        // The gauge exists before the first delivery.
        gauge!("talaria_deliveries_in_hand").set(0.0);
        let size = permits(&config.borrow());
        Self { semaphore: Arc::new(Semaphore::new(size)), size, config }
    }

    pub(crate) fn semaphore(&self) -> Arc<Semaphore> {
        Arc::clone(&self.semaphore)
    }

    /// Follows the configuration.
    pub(crate) async fn follow(mut self) {
        loop {
            let wanted = permits(&self.config.borrow_and_update());
            self.semaphore.add_permits(wanted.saturating_sub(self.size));
            self.size = self.size.max(wanted);
            let fewer = u32::try_from(self.size - wanted).unwrap_or(u32::MAX);
            let changed = tokio::select! {
                Ok(surplus) = self.semaphore.acquire_many(fewer), if fewer > 0 => {
                    surplus.forget();
                    self.size = wanted;
                    continue;
                }
                changed = self.config.changed() => changed,
            };
            if changed.is_err() {
                // The configuration never changes again.
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
    async fn a_lower_limit_holds_once_the_surplus_permits_are_released() {
        let config = |in_flight| {
            let mut config = crate::test_config::config("");
            config.relay.in_flight = in_flight;
            Arc::new(config)
        };
        let (change, changes) = watch::channel(config(4));
        let limit = InFlightLimit::new(changes);
        let semaphore = limit.semaphore();
        tokio::spawn(limit.follow());
        let settle = || tokio::time::sleep(Duration::from_secs(1));
        change.send_replace(config(9));
        settle().await;
        assert_eq!(semaphore.available_permits(), 9 + SPARE);
        let busy = Arc::clone(&semaphore).acquire_many_owned(8 + 64).await.unwrap();
        change.send_replace(config(2));
        settle().await;
        // Changed again while the surplus is in use.
        change.send_replace(config(3));
        settle().await;
        assert!(semaphore.try_acquire().is_err(), "none for new deliveries");
        drop(busy);
        settle().await;
        assert_eq!(semaphore.available_permits(), 3 + SPARE);
    }
}
