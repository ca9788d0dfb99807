//! A Hermes that accepts each delivery, at the latest at its second request, and counts requests.
//!
//! Unlike [`crate::sink::Sink`] it keeps a line for each delivery and not each request whole, so that hundreds of
//! thousands of them fit.

use crate::sink::SECRET;
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use talaria_core::hermes::signature;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::sleep};

/// A running ledger; it ends when it is dropped.
#[derive(Debug)]
pub struct Ledger {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Mutex<HashMap<String, Line>>,
    /// Deliveries of each event.
    events: Mutex<HashMap<String, usize>>,
    takes: watch::Sender<Duration>,
    refuses: AtomicBool,
    under_way: watch::Sender<usize>,
}

/// The requests of a delivery.
#[derive(Clone, Debug)]
pub struct Line {
    /// X-GitHub-Delivery and the generation, of each request.
    pub ids: BTreeSet<String>,
    /// The number of requests.
    pub requests: u32,
    /// The time of the first request.
    pub first: Instant,
    accepted: bool,
}

impl Ledger {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap()).await
    }

    /// Listens on this address.
    pub async fn start_on(address: SocketAddr) -> Self {
        let inner = Arc::<Inner>::default();
        let router = Router::new().route("/webhooks/{route}", post(webhook)).with_state(Arc::clone(&inner));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, inner, server }
    }

    /// Sets the time before each answer.
    pub fn takes(&self, time: Duration) {
        self.inner.takes.send_replace(time);
    }

    /// Answers 503 to the first request of one delivery in four from now on. Not of each, because a route without successes is shut.
    pub fn refuses_some_once(&self) {
        self.inner.refuses.store(true, Relaxed);
    }

    /// Returns once this many requests wait for their answer.
    pub async fn is_busy_with(&self, requests: usize) {
        let mut under_way = self.inner.under_way.subscribe();
        let busy = under_way.wait_for(|under_way| *under_way >= requests);
        tokio::time::timeout(crate::PATIENCE, busy).await.expect("requests are under way").unwrap();
    }

    /// Deliveries by their id.
    pub fn lines(&self) -> HashMap<String, Line> {
        self.inner.lines.lock().unwrap().clone()
    }

    /// Whether each of these events has arrived at this many routes.
    pub fn has_all(&self, events: &[String], routes: usize) -> bool {
        let came = self.inner.events.lock().unwrap();
        events.iter().all(|event| came.get(event) == Some(&routes))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn webhook(
    State(ledger): State<Arc<Inner>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
    if !signature::verify(&SECRET.into(), &body, header(signature::HEADER)) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "Invalid signature"})));
    }
    let sent: Value = serde_json::from_slice(&body).unwrap();
    let talaria = &sent["talaria"];
    let delivery = talaria["delivery_id"].as_str().unwrap().to_owned();
    let id = header("X-GitHub-Delivery");
    let known_as = format!("{id} of generation {}", talaria["generation"]);
    let answer = {
        let mut lines = ledger.lines.lock().unwrap();
        let fresh = || Line { ids: BTreeSet::new(), requests: 0, first: Instant::now(), accepted: false };
        let line = lines.entry(delivery).or_insert_with(fresh);
        line.requests += 1;
        if line.requests == 1 {
            let event = talaria["event_id"].as_str().unwrap().to_owned();
            *ledger.events.lock().unwrap().entry(event).or_default() += 1;
        }
        line.ids.insert(known_as);
        let is_refused = || id.bytes().map(usize::from).sum::<usize>().is_multiple_of(4);
        if line.requests == 1 && ledger.refuses.load(Relaxed) && is_refused() {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        } else if mem::replace(&mut line.accepted, true) {
            (StatusCode::OK, "duplicate")
        } else {
            (StatusCode::ACCEPTED, "accepted")
        }
    };
    let takes = *ledger.takes.borrow();
    ledger.under_way.send_modify(|under_way| *under_way += 1);
    let _over = Over(&ledger);
    sleep(takes).await;
    let (code, status) = answer;
    (code, Json(json!({"status": status, "delivery_id": id})))
}

/// Dropped also when the client closes the connection.
struct Over<'a>(&'a Inner);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|under_way| *under_way -= 1);
    }
}
