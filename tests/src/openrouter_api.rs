//! A stand-in for OpenRouter's video API: models, submits, polls, content, callbacks.
//!
//! It keeps an account of the jobs that it made and of all requests, and behaves as OpenRouter does, oddities included. Jobs run
//! until [`OpenRouterApi::end`], or as [`OpenRouterApi::end_after`] says.

mod answers;
mod catalogue;
mod server;

pub use answers::{End, OnContent, OnPoll, OnSubmit};
pub use catalogue::models;

use axum::{
    Json,
    body::Bytes,
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use rand::{Rng as _, distr::Alphanumeric};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use talaria_core::openrouter::{IDEMPOTENCY_KEY_HEADER, signature};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// The only key that is accepted.
pub const KEY: &str = "sk-or-v1-the-key-of-the-stand-in";

/// The bytes of a video, unless [`OpenRouterApi::set_content`] says others.
pub const VIDEO: &[u8] = b"\0\0\0\x18ftypisom\0\0\0\0isomiso2a video";

/// The path of the API.
const BASE: &str = "/api/v1";

/// A job that was made.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// The body of its submit.
    pub request: Value,
    /// How it ended.
    pub end: Option<End>,
    /// The status that it has before its end.
    pub running: String,
    /// How often it was polled.
    pub polls: u32,
    /// The answers to its callbacks; `None` for none.
    pub callbacks: Vec<Option<u16>>,
}

impl Job {
    /// The URL for its callback.
    pub fn callback_url(&self) -> Option<&str> {
        self.request["callback_url"].as_str()
    }

    fn status(&self) -> &str {
        self.end.as_ref().map_or(&self.running, |end| &end.status)
    }
}

/// A request of any kind.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// The path, with the query.
    pub path: String,
    /// The header Authorization.
    pub authorization: Option<String>,
}

/// A running stand-in. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct OpenRouterApi {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Inner>,
    _server: Arc<Abort>,
}

struct Abort(JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Inner {
    address: Mutex<Option<SocketAddr>>,
    jobs: Mutex<Vec<Job>>,
    seen: Mutex<Vec<Seen>>,
    models: Mutex<Option<Value>>,
    on_submit: Mutex<Behaviour<OnSubmit>>,
    on_poll: Mutex<HashMap<String, Behaviour<OnPoll>>>,
    on_content: Mutex<Behaviour<OnContent>>,
    changed: Notify,
    callbacks: Mutex<Callbacks>,
    ends: Mutex<Option<(Duration, End)>>,
    relative_polling_url: Mutex<bool>,
    content: Mutex<Option<Bytes>>,
}

/// The usual behaviour, and those of the next requests before it.
#[derive(Default)]
struct Behaviour<T> {
    next: VecDeque<T>,
    usual: T,
}

impl<T: Clone> Behaviour<T> {
    fn take(&mut self) -> T {
        self.next.pop_front().unwrap_or_else(|| self.usual.clone())
    }
}

/// Where callbacks go.
#[derive(Default)]
struct Callbacks {
    /// The ingress that the host of a callback URL stands for. Without it, no callback is sent.
    ingress: Option<SocketAddr>,
    secret: Option<SecretString>,
    /// The workspace's default path, for jobs without a URL.
    default: Option<String>,
    are_lost: bool,
}

impl std::fmt::Debug for OpenRouterApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenRouterApi").field("address", &self.address).finish_non_exhaustive()
    }
}

impl OpenRouterApi {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap()).await
    }

    /// Listens on this address.
    pub async fn start_on(address: SocketAddr) -> Self {
        let state = Arc::<Inner>::default();
        let router = server::router(Arc::clone(&state));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        *state.address.lock().unwrap() = Some(address);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, _server: Arc::new(Abort(server)) }
    }

    /// The value of `openrouter.base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}{BASE}", self.address)
    }

    /// The jobs that were made, in order.
    pub fn jobs(&self) -> Vec<Job> {
        self.state.jobs.lock().unwrap().clone()
    }

    /// The job of this id.
    pub fn job(&self, id: &str) -> Job {
        self.jobs().into_iter().find(|job| job.id == id).unwrap_or_else(|| panic!("no job {id} was made"))
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The headers Authorization of all requests so far.
    pub fn authorizations(&self) -> Vec<Option<String>> {
        self.seen().into_iter().map(|seen| seen.authorization).collect()
    }

    /// Changes the answer to all submits, also to those that hang.
    pub fn on_submit(&self, does: OnSubmit) {
        *self.state.on_submit.lock().unwrap() = Behaviour { usual: does, next: VecDeque::new() };
        self.state.changed.notify_waiters();
    }

    /// Changes the answers to the next submits; later ones are answered as before.
    pub fn on_next_submits(&self, does: impl IntoIterator<Item = OnSubmit>) {
        self.state.on_submit.lock().unwrap().next.extend(does);
    }

    /// Changes the answer to all polls of a job, also of one that was not made.
    pub fn on_poll(&self, id: &str, does: OnPoll) {
        let behaviour = Behaviour { usual: does, next: VecDeque::new() };
        self.state.on_poll.lock().unwrap().insert(id.into(), behaviour);
        self.state.changed.notify_waiters();
    }

    /// Changes the answers to the next polls of a job; later ones are answered as before.
    pub fn on_next_polls(&self, id: &str, does: impl IntoIterator<Item = OnPoll>) {
        self.state.on_poll.lock().unwrap().entry(id.into()).or_default().next.extend(does);
    }

    /// Changes the answer to all requests for files.
    pub fn on_content(&self, does: OnContent) {
        *self.state.on_content.lock().unwrap() = Behaviour { usual: does, next: VecDeque::new() };
    }

    /// Changes the answers to the next requests for files; later ones are answered as before.
    pub fn on_next_contents(&self, does: impl IntoIterator<Item = OnContent>) {
        self.state.on_content.lock().unwrap().next.extend(does);
    }

    /// Sends callbacks to this ingress, signed with this secret, whatever the host of their URL is.
    pub fn callbacks_to(&self, ingress: SocketAddr, secret: &str) {
        let mut callbacks = self.state.callbacks.lock().unwrap();
        (callbacks.ingress, callbacks.secret) = (Some(ingress), Some(secret.into()));
    }

    /// Sends the callbacks of jobs without a URL to this path, such as `/callbacks/me`.
    pub fn default_callback(&self, path: &str) {
        self.state.callbacks.lock().unwrap().default = Some(path.into());
    }

    /// Whether callbacks get lost on the way.
    pub fn lose_callbacks(&self, are_lost: bool) {
        self.state.callbacks.lock().unwrap().are_lost = are_lost;
    }

    /// Whether `polling_url` is only a path.
    pub fn relative_polling_url(&self, is_relative: bool) {
        *self.state.relative_polling_url.lock().unwrap() = is_relative;
    }

    /// Replaces the catalogue.
    pub fn set_models(&self, models: Value) {
        *self.state.models.lock().unwrap() = Some(models);
    }

    /// Replaces the bytes of all videos.
    pub fn set_content(&self, content: impl Into<Bytes>) {
        *self.state.content.lock().unwrap() = Some(content.into());
    }

    /// Ends each job that is made from now on, this long after its submit.
    pub fn end_after(&self, time: Duration, end: End) {
        *self.state.ends.lock().unwrap() = Some((time, end));
    }

    /// The status of a job that has not ended, such as "in_progress".
    pub fn run(&self, id: &str, status: &str) {
        self.state.change(id, |job| job.running = status.into());
    }

    /// Ends a job and sends its callback. The status of the ingress' answer, if there was one.
    pub async fn end(&self, id: &str, end: End) -> Option<u16> {
        self.state.end(id, end).await
    }

    /// Sends the callback of a job that has ended, again.
    pub async fn call_back(&self, id: &str) -> Option<u16> {
        self.state.call_back(id).await
    }
}

impl Inner {
    fn change<T>(&self, id: &str, change: impl FnOnce(&mut Job) -> T) -> T {
        let mut jobs = self.jobs.lock().unwrap();
        change(jobs.iter_mut().find(|job| job.id == id).unwrap_or_else(|| panic!("no job {id} was made")))
    }

    fn make(self: &Arc<Self>, request: Value) -> Job {
        let random: String = rand::rng().sample_iter(Alphanumeric).take(20).map(char::from).collect();
        let id = format!("gen-vid-{}-{random}", Timestamp::now().as_second());
        let running = "pending".into();
        let job = Job { id, request, end: None, running, polls: 0, callbacks: Vec::new() };
        self.jobs.lock().unwrap().push(job.clone());
        if let Some((time, end)) = self.ends.lock().unwrap().clone() {
            let (state, id) = (Arc::clone(self), job.id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                state.end(&id, end).await;
            });
        }
        job
    }

    async fn end(&self, id: &str, end: End) -> Option<u16> {
        self.change(id, |job| job.end = Some(end));
        self.call_back(id).await
    }

    async fn call_back(&self, id: &str) -> Option<u16> {
        let job = self.change(id, |job| job.clone());
        let (url, secret) = {
            let callbacks = self.callbacks.lock().unwrap();
            let (ingress, secret) = (callbacks.ingress?, callbacks.secret.clone()?);
            if callbacks.are_lost {
                return None;
            }
            // The path of https://HOST/PATH.
            let path = match job.callback_url() {
                Some(url) => url.splitn(4, '/').nth(3).map(|path| format!("/{path}"))?,
                None => callbacks.default.clone()?,
            };
            (format!("http://{ingress}{path}"), secret)
        };
        let payload = job.end.as_ref()?.callback(&job.id, &job.request["model"], &self.base_url());
        let body = payload.to_string().into_bytes();
        let status = payload["data"]["status"].as_str().unwrap();
        let request = crate::http()
            .post(url)
            .header(signature::HEADER, signature::sign(&secret, Timestamp::now(), &body))
            .header(IDEMPOTENCY_KEY_HEADER, format!("{}-{status}", job.id))
            .header(header::CONTENT_TYPE, "application/json");
        let answer = request.body(body).send().await.ok().map(|answer| answer.status().as_u16());
        self.change(id, |job| job.callbacks.push(answer));
        answer
    }

    fn base_url(&self) -> String {
        format!("http://{}{BASE}", self.address.lock().unwrap().unwrap())
    }

    fn polling_url(&self, id: &str) -> String {
        let path = format!("{BASE}/videos/{id}");
        if *self.relative_polling_url.lock().unwrap() {
            path
        } else {
            format!("http://{}{path}", self.address.lock().unwrap().unwrap())
        }
    }

    /// The answer to a submit.
    fn accepted(&self, job: &Job) -> Response {
        let (id, url) = (&job.id, self.polling_url(&job.id));
        let answer = json!({"id": id, "polling_url": url, "status": "pending", "generation_id": id});
        (StatusCode::ACCEPTED, Json(answer)).into_response()
    }
}
