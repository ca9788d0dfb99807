//! The admin port: `/healthz`, `/readyz`, `/metrics` and `/config`.

use crate::{
    metrics::sampled::Sampled,
    reload::{Live, Shown},
};
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use talaria_bus::{Bus, Publisher};
use talaria_relay::{Readiness, gauges::Gauges};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often old samples are folded away.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long, once it is told to stop, whoever asks may take to hear the answer.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The admin port, listening but not yet serving.
pub(crate) struct Admin {
    listener: TcpListener,
    pub health: Health,
    live: Live,
    metrics: Sampled,
}

#[derive(Clone)]
pub(crate) struct Health {
    pub publisher: Publisher,
    /// Where there is a relay.
    pub bus: Option<Bus>,
    /// The relay's, where there is one.
    pub readiness: Option<Readiness>,
}

impl Health {
    /// Ready when events can be stored and, where there is a relay, it owns its partitions and dispatches.
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
            let what = "the status view is damaged; restart, and it is rebuilt from the journal\n".to_owned();
            return (StatusCode::SERVICE_UNAVAILABLE, what);
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
        let metrics = Sampled::new(metrics, health.clone(), relay);
        Ok(Self { listener: TcpListener::bind(address).await?, health, live, metrics })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop. Nothing is ready any more once it is leaving.
    pub(crate) async fn serve(self, leaving: CancellationToken, stop: CancellationToken) {
        let metrics = Arc::new(self.metrics);
        let (shown, left) = (Arc::clone(&metrics), leaving.clone());
        let (live, salt) = (self.live, rand::random());
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready).with_state((self.health, leaving)))
            .route("/metrics", get(move || async move { shown.text(left.is_cancelled()).await }))
            .route("/config", get(async move || Json(Shown::new(&live, &salt))));
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics.upkeep();
            }
        };
        let serve = axum::serve(self.listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        // A client that connected and said nothing would otherwise keep us for ever.
        let last_words = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            served = serve => if let Err(error) = served {
                tracing::error!(%error, "the admin port ended");
            },
            () = upkeep => {}
            () = last_words => {}
        }
    }
}

async fn ready(State((health, leaving)): State<(Health, CancellationToken)>) -> impl IntoResponse {
    if leaving.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    health.ready().await
}
