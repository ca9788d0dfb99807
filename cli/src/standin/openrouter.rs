//! A stand-in for OpenRouter's video API: one model, and jobs that end when they are told to. It sends no callbacks, and all videos are
//! the same.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// The one model.
pub(crate) const MODEL: &str = "google/veo-3.1";

/// The head of an MP4 file, and nothing to see.
const VIDEO: &[u8] = b"\0\0\0\x18ftypisom\0\0\0\0isommp42";

/// A running stand-in, until it is dropped.
pub(crate) struct StandIn {
    address: SocketAddr,
    state: Known,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Known {
    /// The expected value of `Authorization`.
    bearer: Arc<str>,
    jobs: Arc<Mutex<BTreeMap<String, Job>>>,
}

#[derive(Clone, Default)]
struct Job {
    callback_url: String,
    is_completed: bool,
}

impl StandIn {
    /// Listens on a free port of this machine.
    pub(crate) async fn start(key: &str) -> io::Result<Self> {
        let state = Known { bearer: format!("Bearer {key}").into(), jobs: Arc::default() };
        let router = Router::new()
            .route("/api/v1/videos/models", get(models))
            .route("/api/v1/videos", post(submit))
            .route("/api/v1/videos/{id}", get(poll))
            .route("/api/v1/videos/{id}/content", get(content))
            .with_state(state.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the stand-in OpenRouter ended");
            }
        });
        Ok(Self { address, state, server })
    }

    /// The value of `openrouter.base_url`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/api/v1", self.address)
    }

    /// Ends a job. Gives the path of its callback.
    pub(crate) fn complete(&self, id: &str) -> String {
        let mut jobs = self.state.jobs();
        let job = jobs.entry(id.to_owned()).or_default();
        job.is_completed = true;
        // The path of https://HOST/PATH.
        job.callback_url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Known {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuses(&self, headers: &HeaderMap) -> Option<Response> {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let error = json!({"error": {"code": 401, "message": "User not found."}});
        (shown != Some(&*self.bearer)).then(|| (StatusCode::UNAUTHORIZED, Json(error)).into_response())
    }
}

async fn models() -> Json<Value> {
    Json(json!({"data": [{
        "id": MODEL, "canonical_slug": MODEL, "name": "Google: Veo 3.1", "created": 1_767_225_600,
        "supported_durations": [4, 6, 8], "supported_resolutions": ["720p", "1080p"],
        "supported_aspect_ratios": ["16:9", "9:16"], "supported_frame_images": ["first_frame", "last_frame"],
        "generate_audio": true, "seed": true, "allowed_passthrough_parameters": [],
        "pricing_skus": {"duration_seconds_with_audio": "0.40", "duration_seconds_without_audio": "0.20"},
    }]}))
}

async fn submit(State(known): State<Known>, headers: HeaderMap, Json(request): Json<Value>) -> Response {
    if let Some(refused) = known.refuses(&headers) {
        return refused;
    }
    let mut jobs = known.jobs();
    let id = format!("gen-vid-demo-{}", jobs.len() + 1);
    let callback_url = request.get("callback_url").and_then(Value::as_str).unwrap_or_default().to_owned();
    jobs.insert(id.clone(), Job { callback_url, is_completed: false });
    let answer = json!({"id": id, "polling_url": format!("/api/v1/videos/{id}"), "status": "pending"});
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

async fn content(State(known): State<Known>, headers: HeaderMap) -> Response {
    let video = || ([(header::CONTENT_TYPE, "video/mp4")], VIDEO).into_response();
    known.refuses(&headers).unwrap_or_else(video)
}

async fn poll(State(known): State<Known>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if let Some(refused) = known.refuses(&headers) {
        return refused;
    }
    let Some(job) = known.jobs().get(&id).cloned() else {
        let error = json!({"error": {"code": 404, "message": format!("Job {id} not found")}});
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    };
    let mut answer = json!({"id": id, "polling_url": format!("/api/v1/videos/{id}"), "status": "pending"});
    if let (true, Some(members)) = (job.is_completed, answer.as_object_mut()) {
        members.insert("status".to_owned(), "completed".into());
        let url = format!("https://openrouter.ai/api/v1/videos/{id}/content?index=0");
        members.insert("unsigned_urls".to_owned(), json!([url]));
        members.insert("usage".to_owned(), json!({"cost": 1.6, "is_byok": false}));
    }
    Json(answer).into_response()
}
