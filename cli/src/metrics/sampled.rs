//! Gauges, sampled when the metrics are collected.
//!
//! Each sample has its own recorder, so that no gauge of a removed route remains. A sample is reused for a while, so that many
//! collectors cost little.

use super::{CATALOGUE, certificates::Certificate, tenants};
use crate::{admin::Health, logging::lines_dropped, metrics::Metric, reload::Live};
use axum::http::StatusCode;
use metrics::{counter, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use talaria_core::config::Settings;
use talaria_relay::Gauges;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

/// Lifetime of a sample.
const MAX_AGE: Duration = Duration::from_secs(2);

/// A readiness check that takes longer counts as not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(4);

/// The metrics of this process.
pub(crate) struct Sampled {
    /// Counters and histograms.
    counted: PrometheusHandle,
    health: Health,
    relay: Option<Gauges>,
    settings: watch::Receiver<Arc<Settings>>,
    process: Collector,
    last: Mutex<Option<(Instant, String)>>,
}

impl Sampled {
    pub(crate) fn new(counted: PrometheusHandle, health: Health, relay: Option<Gauges>, live: &Live) -> Self {
        let settings = live.settings.clone();
        Self { counted, health, relay, settings, process: Collector::default(), last: Mutex::default() }
    }

    /// All metrics in Prometheus' text format.
    pub(crate) async fn text(&self, leaving: bool) -> String {
        let gauges = self.gauges(leaving).await;
        self.process.collect();
        counter!("talaria_log_lines_left_out_total").absolute(lines_dropped());
        // Rendered each time: this is cheap, and counters are exact.
        self.counted.render() + &tenants::text() + &gauges
    }

    async fn gauges(&self, leaving: bool) -> String {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < MAX_AGE
        {
            return text.clone();
        }
        let ready = async {
            timeout(READY_TIMEOUT, self.health.ready())
                .await
                .is_ok_and(|(status, _)| status == StatusCode::OK)
        };
        let ready = !leaving && ready.await;
        let files = self.settings.borrow().certificates().clone();
        let certificates = Certificate::read_all(files).await;
        let sample = match &self.relay {
            Some(relay) => Some(relay.sample().await),
            None => None,
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            CATALOGUE.iter().for_each(Metric::describe);
            gauge!("talaria_ready").set(f64::from(u8::from(ready)));
            gauge!("talaria_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            certificates.iter().for_each(Certificate::show);
            if let Some(sample) = sample {
                sample.show();
            }
        });
        let text = recorder.handle().render();
        *last = Some((Instant::now(), text.clone()));
        text
    }

    /// Compacts old measurements.
    pub(crate) fn upkeep(&self) {
        self.counted.run_upkeep();
    }
}
