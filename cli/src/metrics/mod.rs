//! Metrics of the process, for `/metrics`.
//!
//! Counters and histograms are recorded where things happen, under names of the [`CATALOGUE`]. Each counter exists from the start,
//! with every known value of its labels, so that rates and alerts need no first event. [`sampled`] reads gauges when the metrics
//! are collected; [`certificates`] are among them. Counters of [`tenants`] end with them.

mod catalogue;
mod certificates;
pub(crate) mod sampled;
mod tenants;

pub use catalogue::CATALOGUE;
pub(crate) use tenants::keep_tenants;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use talaria_core::config::Role;

/// From the fastest answer to the longest timeout of a route, in seconds.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

/// From the fastest delivery to the last retry, in seconds.
const AGES: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0,
    259_200.0,
];

/// Durations since the callback.
const SINCE_CALLBACK: [&str; 2] = ["talaria_first_attempt_seconds", "talaria_delivery_seconds"];

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The processes that have it.
    pub of: Of,
    /// Its name.
    pub name: &'static str,
    /// Its type in Prometheus.
    pub kind: Kind,
    /// The labels of its series.
    pub labels: &'static [Label],
    /// Its help text.
    pub help: &'static str,
}

/// The processes that have a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Every process.
    Every,
    /// A process with an ingress.
    Ingress,
    /// A process with a relay.
    Relay,
    /// A process whose bus is NATS.
    Nats,
}

/// A metric's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises, until the process ends.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Counts measurements below each bound.
    Histogram,
}

impl Kind {
    /// Prometheus' name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// The values of a label.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of these words, with a space between them.
    Known(&'static str),
    /// A name out of the configuration, or a version.
    Named,
}

const fn known(name: &'static str, values: &'static str) -> Label {
    Label { name, values: Values::Known(values) }
}

const fn counter(of: Of, name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { of, name, kind: Kind::Counter, labels, help }
}

const fn gauge(of: Of, name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { of, name, kind: Kind::Gauge, labels, help }
}

const fn histogram(of: Of, name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { of, name, kind: Kind::Histogram, labels, help }
}

impl Metric {
    fn describe(&self) {
        let unit = if self.name.contains("_seconds") {
            Unit::Seconds
        } else if self.name.contains("_bytes") {
            Unit::Bytes
        } else {
            Unit::Count
        };
        match self.kind {
            Kind::Counter => describe_counter!(self.name, unit, self.help),
            Kind::Gauge => describe_gauge!(self.name, unit, self.help),
            Kind::Histogram => describe_histogram!(self.name, unit, self.help),
        }
    }

    /// Creates the series whose labels have known values.
    fn create(&self) {
        match (self.kind, self.labels) {
            (Kind::Counter, []) => metrics::counter!(self.name).increment(0),
            (Kind::Counter, [Label { name, values: Values::Known(values) }]) => {
                for value in values.split(' ') {
                    metrics::counter!(self.name, *name => value).increment(0);
                }
            }
            (
                Kind::Counter,
                [
                    Label { name, values: Values::Known(values) },
                    Label { name: other, values: Values::Known(others) },
                ],
            ) => {
                for (value, of_other) in
                    values.split(' ').flat_map(|value| others.split(' ').map(move |of| (value, of)))
                {
                    metrics::counter!(self.name, *name => value, *other => of_other).increment(0);
                }
            }
            (Kind::Histogram, []) => drop(metrics::histogram!(self.name)),
            (Kind::Histogram, [Label { name, values: Values::Known(values) }]) => {
                for value in values.split(' ') {
                    drop(metrics::histogram!(self.name, *name => value));
                }
            }
            _ => {}
        }
    }
}

/// Starts collecting metrics; once in a process.
pub(crate) fn start() -> anyhow::Result<PrometheusHandle> {
    let mut builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)?;
    for name in SINCE_CALLBACK {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), &AGES)?;
    }
    let handle = builder.install_recorder()?;
    CATALOGUE.iter().for_each(Metric::describe);
    Ok(handle)
}

/// Creates the counters and histograms of a process with this role.
pub(crate) fn create(role: Role, nats: bool) {
    CATALOGUE.iter().filter(|metric| is_of(metric.of, role, nats)).for_each(Metric::create);
}

fn is_of(of: Of, role: Role, nats: bool) -> bool {
    match of {
        Of::Every => true,
        Of::Ingress => role.has_ingress(),
        Of::Relay => role.has_relay(),
        Of::Nats => nats,
    }
}
