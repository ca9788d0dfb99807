//! Tells tenants when a changed configuration is refused.

use crate::reload::{self, Live};
use jiff::Timestamp;
use std::sync::Arc;
use talaria_bus::Publisher;
use talaria_relay::notices;
use tokio::task::JoinSet;

/// Publishes a notice whenever the configuration stops to be valid. Never ends.
pub(crate) async fn follow(live: Live, publisher: Publisher) {
    let mut status = live.status.clone();
    let (mut was_valid, mut publishing) = (true, JoinSet::new());
    loop {
        let fault = status.borrow_and_update().fault.clone();
        if let Some(fault) = fault.as_ref().filter(|_| was_valid) {
            let config = Arc::clone(&live.config.borrow());
            let process = reload::name(live.role);
            for notice in talaria_relay::notices_of_refused(&config, process, fault, Timestamp::now()) {
                publishing.spawn(notices::publish(publisher.clone(), notice));
            }
        }
        was_valid = fault.is_none();
        while publishing.try_join_next().is_some() {}
        if status.changed().await.is_err() {
            // It never changes again.
            std::future::pending::<()>().await;
        }
    }
}
