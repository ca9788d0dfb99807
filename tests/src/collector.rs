//! A collector of traces, which records every span that it gets by OTLP over gRPC.

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A recorded span.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of the process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The trace, in hex.
    pub trace: String,
    /// The span, in hex.
    pub id: String,
    /// The parent span, in hex; empty for the first.
    pub parent: String,
    /// The whole span.
    pub raw: v1::Span,
}

impl Span {
    /// An attribute, as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        attribute(&self.raw.attributes, key)
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key}: {other:?}"),
    }
}

/// A running collector; it ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Inner {
    spans: Mutex<Vec<Span>>,
    /// The `authorization` of every request.
    authorizations: Mutex<Vec<Option<String>>>,
}

impl Collector {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap()).await
    }

    /// Listens on this address.
    pub async fn start_on(address: SocketAddr) -> Self {
        let inner = Arc::<Inner>::default();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::from_arc(Arc::clone(&inner));
        let serve =
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        Self { address, inner, server }
    }

    /// The configuration for it.
    pub fn config(&self) -> String {
        format!("telemetry: {{otlp: 'http://{}'}}", self.address)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        self.inner.spans.lock().unwrap().clone()
    }

    /// The `authorization` of every request so far.
    pub fn authorizations(&self) -> Vec<Option<String>> {
        self.inner.authorizations.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Inner {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let authorization = request.metadata().get("authorization").map(|it| it.to_str().unwrap().to_owned());
        self.authorizations.lock().unwrap().push(authorization);
        for of_resource in request.into_inner().resource_spans {
            let service = attribute(&of_resource.resource.unwrap().attributes, "service.name").unwrap();
            for raw in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
                self.spans.lock().unwrap().push(Span {
                    service: service.clone(),
                    name: raw.name.clone(),
                    trace: hex(&raw.trace_id),
                    id: hex(&raw.span_id),
                    parent: hex(&raw.parent_span_id),
                    raw,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
