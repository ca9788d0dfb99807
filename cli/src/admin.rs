//! The admin port: `/healthz`, `/readyz`, `/metrics` and `/config`.

use crate::{
    metrics::sampled::Sampled,
    reload::{Live, Published},
};
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::body::Incoming;
use metrics_exporter_prometheus::PrometheusHandle;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use talaria_bus::{Bus, Publisher};
use talaria_ingress::{
    Permit,
    listener::{self, Answers, Bounds, Unserved},
};
use talaria_relay::{Gauges, Readiness};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

/// Interval at which old samples are compacted.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Limits for clients. Probes, scrapes and people need few connections; a hundred leave enough open files for callbacks. When
/// all are in use, the connection that has been idle the longest is closed.
const BOUNDS: Bounds = Bounds {
    connections: 100,
    // They come from few addresses: a node's, a proxy's, Prometheus'.
    connections_per_address: 100,
    head_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(120),
    max_head_bytes: 16 * 1024,
    max_headers: None,
    // For clients that read their answer after the stop signal.
    drain: Duration::from_secs(5),
};

/// The bus and the owners of partitions, which an answer may depend on, have shorter deadlines.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// The admin port, bound but not yet serving.
pub(crate) struct Admin {
    listener: TcpListener,
    pub health: Health,
    live: Live,
    metrics: Sampled,
}

#[derive(Clone)]
pub(crate) struct Health {
    pub publisher: Publisher,
    /// In a process with a relay.
    pub bus: Option<Bus>,
    pub readiness: Option<Readiness>,
}

impl Health {
    /// Ready when events can be stored and the relay, if there is one, dispatches for its partitions.
    pub(crate) async fn ready(&self) -> (StatusCode, String) {
        let checked = match &self.bus {
            Some(bus) => bus.check().await,
            None => self.publisher.check().await,
        };
        if let Err(error) = checked {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"));
        }
        let Some(readiness) = &self.readiness else {
            return (StatusCode::OK, "ready\n".to_owned());
        };
        if readiness.is_damaged() {
            let text = "the status view is damaged; restart, and it is rebuilt from the journal\n".to_owned();
            return (StatusCode::SERVICE_UNAVAILABLE, text);
        }
        match readiness.fault() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")),
        }
    }
}

impl Admin {
    pub(crate) async fn bind(
        address: SocketAddr,
        health: Health,
        live: Live,
        metrics: PrometheusHandle,
        relay: Option<Gauges>,
    ) -> io::Result<Self> {
        let metrics = Sampled::new(metrics, health.clone(), relay, &live);
        Ok(Self { listener: TcpListener::bind(address).await?, health, live, metrics })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`. From `leaving` on it is not ready.
    pub(crate) async fn serve(self, leaving: CancellationToken, stop: CancellationToken) {
        let metrics = Arc::new(self.metrics);
        let (sampled, is_leaving, leaves) = (Arc::clone(&metrics), leaving.clone(), leaving.clone());
        let (live, salt) = (self.live, rand::random());
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready).with_state((self.health, leaving)))
            .route("/metrics", get(move || async move { sampled.text(is_leaving.is_cancelled()).await }))
            .route("/config", get(async move || Json(Published::new(&live, &salt))));
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                metrics.upkeep();
            }
        };
        let serve = listener::serve(self.listener, Arc::new(Pages(router)), leaves, stop);
        tokio::select! {
            () = serve => {}
            () = upkeep => {}
        }
    }
}

/// The pages, by path.
struct Pages(Router);

impl Answers for Pages {
    fn bounds(&self) -> Bounds {
        BOUNDS
    }

    fn is_shared(&self, _: IpAddr) -> bool {
        false
    }

    async fn answer(&self, _: IpAddr, permit: &Permit, request: Request<Incoming>) -> Response {
        permit.works();
        // A router is always ready.
        let answer = self.0.clone().call(request.map(Body::new));
        match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
            Ok(Ok(response)) => response,
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "it took too long\n").into_response(),
        }
    }

    fn unserved(&self, peer: IpAddr, why: Unserved) {
        tracing::debug!(%peer, ?why, "a client of the admin port was refused");
    }
}

async fn ready(State((health, leaving)): State<(Health, CancellationToken)>) -> impl IntoResponse {
    if leaving.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    health.ready().await
}
