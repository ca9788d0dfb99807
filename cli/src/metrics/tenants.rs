//! Counters by tenant, which have series for the tenants of the configuration in force.

use super::{CATALOGUE, Label, Metric, Values::Known, is_of};
use metrics::{counter, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use talaria_core::config::{Config, Role};
use talaria_telemetry::TenantCounter;

static COUNTERS: [&TenantCounter; 3] =
    [&talaria_ingress::CALLBACKS, &talaria_relay::DELIVERIES, &talaria_relay::RUNS];

/// Begins the series of new tenants and ends those of removed ones, in a process with this role.
pub(crate) fn keep_tenants(config: &Config, role: Role) {
    for counter in COUNTERS {
        let metric = CATALOGUE.iter().find(|metric| metric.name == counter.name);
        if let Some(Metric { of, labels: [_, Label { values: Known(values), .. }], .. }) = metric
            && is_of(*of, role, false)
        {
            counter.keep(values.split(' '), config.counted_tenants());
        }
    }
}

/// These counters in Prometheus' text format.
pub(super) fn text() -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        CATALOGUE.iter().for_each(Metric::describe);
        for counter in COUNTERS {
            for (tenant, value, count) in counter.series() {
                counter!(counter.name, "tenant" => tenant, counter.label => value).absolute(count);
            }
        }
    });
    recorder.handle().render()
}
