//! A stand-in for Hermes, with one secret for every route.
//!
//! It verifies signatures, recognizes repeated delivery ids and passes accepted requests on. It has no templates, filters or
//! limits.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use talaria_core::hermes::signature;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// An accepted request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// X-GitHub-Delivery.
    pub id: String,
    pub body: Value,
}

/// A running stand-in, until it is dropped.
pub(crate) struct StandIn {
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Known {
    secret: SecretString,
    ids: Arc<Mutex<HashSet<String>>>,
    received: mpsc::UnboundedSender<Received>,
}

impl StandIn {
    /// Listens on this address. Accepted requests go to the receiver.
    pub(crate) async fn start(
        listen: SocketAddr,
        secret: SecretString,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Received>)> {
        let (sender, received) = mpsc::unbounded_channel();
        let known = Known { secret, ids: Arc::default(), received: sender };
        let router = Router::new().route("/webhooks/{route}", post(webhook)).with_state(known);
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the stand-in Hermes ended");
            }
        });
        Ok((Self { address, server }, received))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn webhook(
    State(known): State<Known>,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !signature::accepts(&known.secret, Timestamp::now(), &body, value) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "Invalid signature"}))).into_response();
    }
    let (id, event) = (header("X-GitHub-Delivery"), header("X-GitHub-Event"));
    if !known.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone()) {
        return Json(json!({"status": "duplicate", "delivery_id": id})).into_response();
    }
    let Ok(body) = serde_json::from_slice(&body) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let answer = json!({"status": "accepted", "route": &route, "event": &event, "delivery_id": &id});
    // `demo` may have ended.
    let _ = known.received.send(Received { id, body });
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}
