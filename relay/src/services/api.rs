//! The services for other interfaces in this process, such as JSON over HTTP: behind the same gate as gRPC.

use super::{
    access::{self, Caller, Connection, Gate, Pass, RefusalLog, Socket},
    cluster::Cluster,
    control::{ControlServer, NotRecorded},
    jobs::JobServer,
    status::StatusServer,
};
use http::{Request, Response};
use jiff::Timestamp;
use std::{
    convert::Infallible,
    io,
    sync::Arc,
    task::{Context, Poll},
};
use talaria_bus::Bus;
use talaria_core::{config::Config, report::Signed};
use talaria_proto::v1::{
    control_service_server::ControlServiceServer, job_service_server::JobServiceServer,
    status_service_server::StatusServiceServer,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::Stream;
use tonic::{Status, body::Body, service::Routes};
use tower_layer::Layer as _;
use tower_service::Service;

/// The services, and the gate before them. Clones share both.
#[derive(Clone)]
pub struct Api {
    config: watch::Receiver<Arc<Config>>,
    bus: Bus,
    gate: Gate,
    refusals: RefusalLog,
    routes: Routes,
    cluster: Cluster,
}

impl Api {
    pub(super) fn new(
        config: watch::Receiver<Arc<Config>>,
        bus: Bus,
        cluster: Cluster,
        status: StatusServer,
        control: ControlServer,
        jobs: JobServer,
    ) -> Self {
        let refusals = RefusalLog::default();
        let routes = Routes::new(StatusServiceServer::new(status))
            .add_service(ControlServiceServer::new(control))
            .add_service(JobServiceServer::new(jobs))
            .prepare();
        Self { gate: Gate::new(config.clone(), refusals.clone()), config, bus, refusals, routes, cluster }
    }

    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    pub(super) fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// The connections of gRPC clients.
    pub(super) fn grpc(&self, listener: TcpListener) -> impl Stream<Item = io::Result<Socket>> + use<> {
        access::listen(listener, self.config.clone(), self.refusals.clone(), |tls| &tls.server)
    }

    /// The connections of clients that speak HTTP/1.1, until the stream is dropped: over TLS where `relay.tls` is configured. Each
    /// request needs the [`Connection`](super::access::Connection) of its socket as an extension.
    pub fn http(&self, listener: TcpListener) -> impl Stream<Item = io::Result<Socket>> + use<> {
        access::listen(listener, self.config.clone(), self.refusals.clone(), |tls| &tls.http)
    }

    /// Admits a request by its connection, its token and its path, `/package.Service/Method`, or says why not.
    pub fn admit<T>(&self, request: &Request<T>) -> Result<Admitted, Status> {
        let pass = self.gate.check(request)?;
        Ok(Admitted { pass, path: request.uri().path().to_owned(), routes: self.routes.clone() })
    }

    /// Records the run of a report about a tenant's route, which its signature admits. Returns when that is durable.
    pub async fn record_run(
        &self,
        tenant_and_route: (&str, &str),
        signed: &Signed<'_>,
        body: &[u8],
        connection: Option<&Connection>,
    ) -> Result<(), NotRecorded> {
        self.cluster.record_run(tenant_and_route, signed, body, connection).await
    }

    /// The time of the relay's clock.
    pub fn now(&self) -> Timestamp {
        self.cluster.local().clock.now()
    }

    /// Whether the bus can be used, or why not.
    pub async fn check_bus(&self) -> Result<(), String> {
        self.bus.check().await.map_err(|error| error.to_string())
    }

    /// The services behind the gate, for requests of the gRPC protocol.
    pub fn services(
        &self,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + use<>
    {
        self.gate.layer(self.routes.clone())
    }
}

/// The permission to call one method, for a client of tonic's.
#[derive(Clone)]
pub struct Admitted {
    /// `None` for methods without authentication.
    pass: Option<Pass>,
    path: String,
    routes: Routes,
}

impl Admitted {
    /// The caller; `None` for methods without authentication.
    pub fn caller(&self) -> Option<&Caller> {
        self.pass.as_ref().map(Pass::caller)
    }
}

impl Service<Request<Body>> for Admitted {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Routes as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // A service answers no request without a pass.
        if let Some(pass) = self.pass.clone().filter(|_| request.uri().path() == self.path) {
            request.extensions_mut().insert(pass);
        }
        self.routes.call(request)
    }
}
