//! A stand-in Hermes that checks signatures, accepts, and records arrival times.

use axum::{Json, Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing};
use reqwest::Client;
use serde_json::{Value, json};
use std::{
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use talaria_core::hermes::signature;
use talaria_tests::{PATIENCE, sink::SECRET};
use tokio::net::TcpListener;

#[derive(Default)]
struct Seen {
    count: AtomicUsize,
    arrivals: Mutex<Vec<Arrival>>,
}

/// A delivery's id and its arrival, in microseconds since 1970: one clock for all processes.
pub type Arrival = (String, u64);

/// Serves until the process ends. Prints its address.
pub async fn serve() {
    let count = async |State(seen): State<Arc<Seen>>| Json(seen.count.load(Ordering::Relaxed));
    let arrivals = async |State(seen): State<Arc<Seen>>| Json(mem::take(&mut *seen.arrivals.lock().unwrap()));
    let router = Router::new()
        .route("/webhooks/r", routing::post(webhook))
        .route("/count", routing::get(count))
        .route("/arrivals", routing::delete(arrivals))
        .with_state(Arc::<Seen>::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn webhook(
    State(seen): State<Arc<Seen>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let at = now();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !signature::verify(&SECRET.into(), &body, header(signature::HEADER)) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "Invalid signature"})));
    }
    let id = header("X-GitHub-Delivery");
    seen.arrivals.lock().unwrap().push((id.to_owned(), at));
    seen.count.fetch_add(1, Ordering::Relaxed);
    (StatusCode::ACCEPTED, Json(json!({"status": "accepted", "route": "r", "delivery_id": id})))
}

/// Microseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap()
}

/// How many requests Hermes has accepted.
pub async fn count(hermes: SocketAddr) -> usize {
    let response = client().get(format!("http://{hermes}/count")).send().await.unwrap();
    response.text().await.unwrap().parse().unwrap()
}

/// Waits until so many have arrived since this was last asked, and gives them.
pub async fn arrivals(hermes: SocketAddr, count: usize) -> Vec<Arrival> {
    let end = Instant::now() + PATIENCE;
    let mut arrivals: Vec<Arrival> = Vec::new();
    loop {
        let response = client().delete(format!("http://{hermes}/arrivals")).send().await.unwrap();
        arrivals.extend(serde_json::from_str::<Vec<Arrival>>(&response.text().await.unwrap()).unwrap());
        if arrivals.len() >= count {
            return arrivals;
        }
        assert!(Instant::now() < end, "{} of {count} have arrived within {PATIENCE:?}", arrivals.len());
        // Seldom, because polling shares the machine with the measurement.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One for all: it takes a while to make.
fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(talaria_tests::http)
}
