//! A stand-in for Hermes: knows one secret, every route, and the answers that matter.
//!
//! It verifies signatures of every scheme, remembers delivery ids as Hermes does, and hands on what it accepted. What
//! it leaves out are Hermes' own templates, filters and limits.

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

/// A request that the stand-in accepted.
#[derive(Clone, Debug)]
pub struct Received {
    /// The route's name in its URL.
    pub route: String,
    /// The delivery's id in X-GitHub-Delivery.
    pub id: String,
    /// The event's type in X-GitHub-Event.
    pub event: String,
    /// The body, which is JSON.
    pub body: Value,
}

/// A running stand-in. It ends when this is dropped.
pub struct StandIn {
    /// Where it listens.
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
    /// Listens on this address and hands on what it accepts.
    pub async fn start(
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
    // The receiver may be gone.
    let _ = known.received.send(Received { route, id, event, body });
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}
