//! A scripted Hermes that records every request.
//!
//! For answers that the real Hermes does not give on demand, and for counting. Tests against the real one are in `e2e/hermes`.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse as _, Response},
    routing::post,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use talaria_core::hermes::signature::{self, Scheme};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// The secret that every route of a sink has.
pub const SECRET: &str = "the secret that Hermes and Talaria share";

/// The secret of every webhook, which is not Hermes'.
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The behaviour of a route.
#[derive(Clone, Debug, Default)]
pub enum Does {
    /// Accepts new ids and answers "duplicate" to known ones, as a route with an agent.
    #[default]
    Accept,
    /// Does not answer until the behaviour changes.
    Hang,
    /// This status with this body.
    Answer(u16, Value),
    /// This status with this page, as a server that is not Hermes.
    Page(u16, String),
    /// Accepts, and closes the connection within the answer.
    LoseAnswer,
}

/// A recorded request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The route's name in the URL.
    pub route: String,
    /// X-GitHub-Delivery, or webhook-id.
    pub id: String,
    /// Whether the signature is right.
    pub signed: bool,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Whether Hermes would have run its agent.
    pub ran: bool,
}

impl Request {
    /// The body's `prompt`.
    pub fn prompt(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["prompt"].as_str().unwrap().to_owned()
    }

    /// The body's `talaria` member of this name.
    pub fn talaria(&self, name: &str) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["talaria"][name].clone()
    }
}

/// A running sink. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Inner>,
    _server: Arc<Abort>,
}

#[derive(Default)]
struct Inner {
    does: Mutex<HashMap<String, Does>>,
    changed: Notify,
    requests: Mutex<Vec<Request>>,
    seen: Mutex<HashSet<String>>,
}

struct Abort(JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sink {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap()).await
    }

    /// Listens on this address.
    pub async fn start_on(address: SocketAddr) -> Self {
        let state = Arc::<Inner>::default();
        let router = Router::new().route("/webhooks/{route}", post(webhook)).with_state(Arc::clone(&state));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, _server: Arc::new(Abort(server)) }
    }

    /// The URL of one of its routes.
    pub fn url(&self, route: &str) -> String {
        format!("http://{}/webhooks/{route}", self.address)
    }

    /// Changes the behaviour of a route, also for requests that hang.
    pub fn set(&self, route: &str, does: Does) {
        self.state.does.lock().unwrap().insert(route.into(), does);
        self.state.changed.notify_waiters();
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Every request to a route so far.
    pub fn requests_to(&self, route: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.route == route).collect()
    }

    /// Forgets all ids, as Hermes does at a restart.
    pub fn forget_ids(&self) {
        self.state.seen.lock().unwrap().clear();
    }
}

async fn webhook(
    State(sink): State<Arc<Inner>>,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let id = [header("X-GitHub-Delivery"), header("webhook-id")].concat();
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let now = Timestamp::now();
    let signed = signature::accepts(&SECRET.into(), now, &body, value)
        || Scheme::STANDARD.accepts(&WEBHOOK_SECRET.into(), now, &body, value);
    let mut request =
        Request { route: route.clone(), id: id.clone(), signed, headers: headers.clone(), body, ran: false };
    // Recorded before it is answered, which may take long.
    let mut index = None;
    loop {
        // First, so that no change is missed.
        let changed = sink.changed.notified();
        let does = sink.does.lock().unwrap().get(&route).cloned().unwrap_or_default();
        let runs =
            matches!(does, Does::Accept | Does::LoseAnswer) && sink.seen.lock().unwrap().insert(id.clone());
        request.ran |= runs;
        {
            let mut requests = sink.requests.lock().unwrap();
            match index {
                None => {
                    index = Some(requests.len());
                    requests.push(request.clone());
                }
                Some(index) => requests[index] = request.clone(),
            }
        }
        return match does {
            Does::Hang => {
                changed.await;
                continue;
            }
            Does::Answer(status, body) => (StatusCode::from_u16(status).unwrap(), Json(body)).into_response(),
            Does::Page(status, page) => (StatusCode::from_u16(status).unwrap(), Html(page)).into_response(),
            // A connection that closes within the answer is a lost answer.
            Does::LoseAnswer => Response::builder()
                .status(202)
                .header("Content-Length", "100")
                .body(axum::body::Body::from_stream(tokio_stream::once(Err::<Bytes, _>(
                    std::io::Error::other("lost"),
                ))))
                .unwrap(),
            Does::Accept if runs => {
                let answer = json!({"status": "accepted", "route": route, "event": header("X-GitHub-Event"), "delivery_id": id});
                (StatusCode::ACCEPTED, Json(answer)).into_response()
            }
            Does::Accept => Json(json!({"status": "duplicate", "delivery_id": id})).into_response(),
        };
    }
}
