//! Publishing notices, from the owner of a partition and from a process whose configuration is refused.

use crate::backoff::Backoff;
use std::{sync::Arc, time::Duration};
use talaria_bus::Publisher;
use talaria_proto::v1::Event;
use talaria_telemetry::LogLimiter;

/// The first and the longest pause after a notice could not be published.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// Publishes a notice, with pauses, until it is durable.
pub async fn publish(publisher: Publisher, notice: Event) {
    let (notice, mut backoff) = (Arc::new(notice), Backoff::new(RETRY_DELAYS.0, RETRY_DELAYS.1));
    while let Err(error) = publisher.publish(Arc::clone(&notice)).await {
        static FAILED: LogLimiter = LogLimiter::new();
        if let Some(left_out) = FAILED.admit() {
            let (notice, tenant, kind) = (&notice.id, &notice.tenant, &notice.r#type);
            tracing::warn!(%error, notice, tenant, kind, left_out, "notice not published; it is tried again");
        }
        backoff.sleep().await;
    }
}
