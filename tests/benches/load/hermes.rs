//! A stand-in Hermes that checks the signature, accepts and counts.

use axum::{Json, Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use talaria_core::hermes::signature;
use talaria_tests::sink::SECRET;
use tokio::net::TcpListener;

/// Serves until the process ends. Says where on standard output.
pub async fn serve() {
    let count = Arc::<AtomicUsize>::default();
    let router = Router::new()
        .route("/webhooks/r", routing::post(webhook))
        .route(
            "/count",
            routing::get(async |State(count): State<Arc<AtomicUsize>>| Json(count.load(Ordering::Relaxed))),
        )
        .with_state(count);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn webhook(
    State(count): State<Arc<AtomicUsize>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !signature::verify(&SECRET.into(), &body, header(signature::HEADER)) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "Invalid signature"})));
    }
    count.fetch_add(1, Ordering::Relaxed);
    let id = header("X-GitHub-Delivery");
    (StatusCode::ACCEPTED, Json(json!({"status": "accepted", "route": "r", "delivery_id": id})))
}
