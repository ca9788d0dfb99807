//! Gauges, sampled when the metrics are collected.
//!
//! Each look has a recorder of its own, so that nothing is shown of a route that is gone. What was found is shown again for
//! a while, so that however many look, little is asked.

use super::CATALOGUE;
use crate::{admin::Health, logging::lines_left_out, metrics::Metric};
use axum::http::StatusCode;
use metrics::{counter, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use std::time::{Duration, Instant};
use talaria_relay::Gauges;
use tokio::{sync::Mutex, time::timeout};

/// How long what was found is shown.
const FRESH: Duration = Duration::from_secs(2);

/// A process that takes longer to say whether it is ready counts as not ready.
const DEADLINE: Duration = Duration::from_secs(4);

/// What is found by looking.
pub(crate) struct Sampled {
    /// What was counted and measured meanwhile.
    counted: PrometheusHandle,
    health: Health,
    relay: Option<Gauges>,
    process: Collector,
    last: Mutex<Option<(Instant, String)>>,
}

impl Sampled {
    pub(crate) fn new(counted: PrometheusHandle, health: Health, relay: Option<Gauges>) -> Self {
        Self { counted, health, relay, process: Collector::default(), last: Mutex::default() }
    }

    /// Everything, in Prometheus' text format.
    pub(crate) async fn text(&self, leaving: bool) -> String {
        let standing = self.standing(leaving).await;
        self.process.collect();
        counter!("talaria_log_lines_left_out_total").absolute(lines_left_out());
        // Rendered anew each time: it costs little, and counters are exact.
        self.counted.render() + &standing
    }

    async fn standing(&self, leaving: bool) -> String {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        let ready = async {
            timeout(DEADLINE, self.health.ready()).await.is_ok_and(|(status, _)| status == StatusCode::OK)
        };
        let ready = !leaving && ready.await;
        let sample = match &self.relay {
            Some(relay) => Some(relay.sample().await),
            None => None,
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            CATALOGUE.iter().for_each(Metric::describe);
            gauge!("talaria_ready").set(f64::from(u8::from(ready)));
            gauge!("talaria_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            if let Some(sample) = sample {
                sample.show();
            }
        });
        let text = recorder.handle().render();
        *last = Some((Instant::now(), text.clone()));
        text
    }

    /// Folds old measurements away, now and then.
    pub(crate) fn upkeep(&self) {
        self.counted.run_upkeep();
    }
}
