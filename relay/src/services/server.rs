//! The gRPC server: health, reflection, and the services behind the gate.

use crate::{
    Error,
    partition::health::Health,
    services::{access, api::Api},
};
use std::time::Duration;
use talaria_core::config;
use talaria_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{control_service_server, job_service_server, status_service_server},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus::{NotServing, Serving},
    server::HealthReporter,
};

/// The services of the health service; the empty name stands for all.
const SERVICES: [&str; 4] = [
    "",
    status_service_server::SERVICE_NAME,
    control_service_server::SERVICE_NAME,
    job_service_server::SERVICE_NAME,
];

/// How often an idle client is pinged; a connection without an answer is closed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// The most requests of one gRPC connection at once, with watches; more wait at the client. The lowest value that RFC 9113,
/// section 6.5.2, recommends: an unauthenticated client may begin so many health watches, and tonic has no limit by itself.
const STREAMS: u32 = 100;

/// The server, as a future that ends after `end`.
pub(crate) fn serve(
    listener: TcpListener,
    config: &config::Relay,
    api: &Api,
    health: watch::Receiver<Health>,
    end: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    if let Ok(address) = listener.local_addr() {
        access::announce(config, address);
    }
    let grpc = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .max_concurrent_streams(STREAMS)
        .layer(api.gate())
        .add_routes(api.routes())
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        // For grpcurl before 1.9.
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(api.grpc(listener), end.clone().cancelled_owned());
    Ok(async move {
        let report = end.run_until_cancelled(report(reporter, health));
        let serve = async {
            if let Err(error) = grpc.await {
                tracing::error!(%error, "gRPC server ended");
            }
        };
        tokio::join!(serve, report);
    })
}

/// Reports the relay's health to the health service.
async fn report(reporter: HealthReporter, mut health: watch::Receiver<Health>) {
    loop {
        let status = if health.borrow_and_update().fault().is_none() { Serving } else { NotServing };
        for service in SERVICES {
            reporter.set_service_status(service, status).await;
        }
        if health.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
