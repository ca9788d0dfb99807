//! Exports spans to a collector by OTLP over gRPC.
//!
//! Spans wait in a bounded queue for a separate thread, so a slow collector delays nothing. Spans that do not fit are lost. One
//! warning is logged when the collector becomes unreachable, and one line when it is back.

use metrics::counter;
use opentelemetry::{
    Context, KeyValue, global,
    trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState},
};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter as Otlp, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::{Certificate, ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, SpanData, SpanExporter},
};
use secrecy::ExposeSecret as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use talaria_core::config::{Role, Telemetry};
use tokio::runtime::Handle;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

/// For one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the remaining spans at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Collects spans until it is [stopped](Self::stop).
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

/// Starts collecting spans, once in a process and before the first span.
pub(crate) fn start(config: &Telemetry, role: Role) -> anyhow::Result<Traces> {
    let exporter = Monitored {
        inner: Arc::new(exporter(config)?),
        collector: config.otlp.to_string(),
        runtime: Handle::current(),
        is_unreachable: AtomicBool::new(false),
    };
    let name = match role {
        Role::Both | Role::Sender => "talaria",
        Role::Ingress => "talaria-ingress",
        Role::Relay => "talaria-relay",
    };
    let resource = Resource::builder()
        .with_service_name(name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", format!("{:016x}", rand::random::<u64>())));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(SampleShare(config.sample))
        .with_resource(resource.build())
        .build();
    global::set_tracer_provider(provider.clone());
    Ok(Traces(provider))
}

impl Traces {
    /// Exports the remaining spans.
    pub(crate) async fn stop(self) {
        let stopped =
            tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(SHUTDOWN_TIMEOUT)).await;
        if !matches!(stopped, Ok(Ok(()))) {
            tracing::warn!("the last spans were not exported");
        }
    }
}

fn exporter(config: &Telemetry) -> Result<Otlp, ExporterBuildError> {
    let mut headers = MetadataMap::new();
    for header in &config.headers {
        let name = AsciiMetadataKey::from_bytes(header.name.as_bytes());
        // The configuration accepts valid headers only.
        if let (Ok(name), Ok(mut value)) = (name, AsciiMetadataValue::try_from(header.value.expose_secret()))
        {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    let mut builder = Otlp::builder()
        .with_tonic()
        .with_endpoint(config.otlp.as_str())
        .with_timeout(EXPORT_TIMEOUT)
        .with_metadata(headers);
    if config.otlp.scheme() == "https" {
        let tls = ClientTlsConfig::new().with_native_roots();
        builder = builder.with_tls_config(match &config.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
            None => tls,
        });
    }
    builder.build()
}

/// Samples a share of the incoming requests. The sampling flag of the sender is ignored; spans below follow their parent, also in
/// other processes.
#[derive(Clone, Debug)]
struct SampleShare(f64);

impl ShouldSample for SampleShare {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        _: &str,
        kind: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let is_wanted = match kind {
            SpanKind::Server => rand::random::<f64>() < self.0,
            _ => parent.is_some_and(|parent| parent.span().span_context().is_sampled()),
        };
        SamplingResult {
            decision: if is_wanted { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
            attributes: Vec::new(),
            trace_state: TraceState::default(),
        }
    }
}

/// Counts exported spans, and logs when the collector becomes unreachable or is back.
#[derive(Debug)]
struct Monitored {
    inner: Arc<Otlp>,
    collector: String,
    /// The exporting thread has no runtime of its own.
    runtime: Handle,
    is_unreachable: AtomicBool,
}

impl SpanExporter for Monitored {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (inner, count) = (Arc::clone(&self.inner), batch.len() as u64);
        let exported = self.runtime.spawn(async move { inner.export(batch).await }).await;
        let exported = exported.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        let (result, collector) = (if exported.is_ok() { "exported" } else { "failed" }, &self.collector);
        counter!("talaria_spans_total", "result" => result).increment(count);
        let was_unreachable = self.is_unreachable.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !was_unreachable => {
                tracing::warn!(%error, collector, "the collector takes no traces; those of this time are lost");
            }
            Ok(()) if was_unreachable => tracing::info!(collector, "the collector takes traces again"),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Called before the first export, so there is no other reference.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
    }
}
