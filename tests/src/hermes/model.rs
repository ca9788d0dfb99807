//! A stand-in for a model, in the words of OpenAI's chat completions.
//!
//! The first line of the last message of a user says what it does: `answer TEXT`, `hold TEXT` (an answer after
//! [`Model::release`]), `empty`, `status CODE`, or `hang`.

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

type Asked = Arc<Mutex<Vec<String>>>;

/// A running stand-in.
pub struct Model {
    address: SocketAddr,
    asked: Asked,
    held: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Model {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let asked = Asked::default();
        let (held, release) = watch::channel(true);
        let models = json!({"object": "list", "data": [{"id": "test-model", "object": "model", "context_length": 100_000}]});
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(async move || Json(models)))
            .with_state((Arc::clone(&asked), release));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, held, server }
    }

    /// The base URL for clients.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Lets answers go out that are held.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// The first lines of the prompts so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The text of the last message of a user, which is a string or a list of parts.
fn prompt(request: &Value) -> String {
    let mut messages = request["messages"].as_array().into_iter().flatten();
    let last = messages.rfind(|message| message["role"] == "user");
    match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

async fn complete(
    State((asked, mut held)): State<(Asked, watch::Receiver<bool>)>,
    Json(request): Json<Value>,
) -> Response {
    let prompt = prompt(&request).lines().next().unwrap_or_default().trim().to_owned();
    asked.lock().unwrap().push(prompt.clone());
    if prompt == "hang" {
        return pending().await;
    }
    let hold = prompt.strip_prefix("hold ");
    if hold.is_some() && held.wait_for(|held| !held).await.is_err() {
        return pending().await;
    }
    if let Some(code) = prompt.strip_prefix("status ") {
        let code: u16 = code.parse().unwrap();
        let error =
            json!({"error": {"message": format!("the model says {code}"), "type": "test", "code": code}});
        return (StatusCode::from_u16(code).unwrap(), Json(error)).into_response();
    }
    let text = hold.or(prompt.strip_prefix("answer ")).unwrap_or_default();
    let usage = json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18});
    let head = json!({"id": "chatcmpl-1", "created": 1, "model": "test-model"});
    let with = |more: Value| {
        let mut whole = head.clone();
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        whole
    };
    if request["stream"] != true {
        let message = json!({"role": "assistant", "content": text});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        return Json(with(json!({"object": "chat.completion", "choices": [choice], "usage": usage})))
            .into_response();
    }
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        with(json!({"object": "chat.completion.chunk", "choices": [choice]}))
    };
    let chunks = [
        chunk(json!({"role": "assistant", "content": text}), Value::Null),
        chunk(json!({}), json!("stop")),
        with(json!({"object": "chat.completion.chunk", "choices": [], "usage": usage})),
    ];
    let lines: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    ([(CONTENT_TYPE, "text/event-stream")], Body::from(lines + "data: [DONE]\n\n")).into_response()
}
