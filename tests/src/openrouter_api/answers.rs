//! What the stand-in answers, and how its jobs end.

use super::KEY;
use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use serde_json::{Value, json};
use std::time::Duration;

/// The answer to a submit.
#[derive(Clone, Debug, Default)]
pub enum OnSubmit {
    /// Makes the job.
    #[default]
    Accept,
    /// Makes the job, ends it, and sends its callback before the answer.
    CallbackFirst(End),
    /// Makes the job, and closes the connection without an answer.
    LoseAnswer,
    /// Makes the job, and closes the connection within the answer.
    CutAnswer,
    /// Makes the job, and answers this.
    MakeAnd(u16, Value),
    /// Makes no job, and answers this; with Retry-After if it is given.
    Refuse(u16, Option<&'static str>, Value),
    /// Makes no job, and answers a page.
    Page(u16),
    /// Makes no job, and redirects to this URL.
    Redirect(String),
    /// Does not answer until the behaviour changes.
    Hang,
}

impl OnSubmit {
    /// 402, because the account is empty.
    pub fn no_credits() -> Self {
        let message = "Insufficient credits. Add more using https://openrouter.ai/settings/credits";
        Self::Refuse(402, None, error(402, message, &json!({"limit_source": "openrouter_credits"})))
    }

    /// 402, because the key's limit is reached.
    pub fn key_limit() -> Self {
        let metadata = json!({"limit_source": "openrouter_key_limit"});
        Self::Refuse(402, None, error(402, "Key limit exceeded", &metadata))
    }

    /// 402, because too much is under way.
    pub fn in_flight_budget(retry_after: &'static str) -> Self {
        let metadata =
            json!({"limit_source": "openrouter_in_flight_budget", "reason": "in_flight_budget_exhausted"});
        Self::Refuse(402, Some(retry_after), error(402, "In-flight budget exhausted", &metadata))
    }

    /// 429.
    pub fn too_many(retry_after: Option<&'static str>) -> Self {
        Self::Refuse(429, retry_after, error(429, "Rate limit exceeded", &Value::Null))
    }

    pub(super) fn refusal(&self) -> Option<Response> {
        match self {
            Self::Refuse(status, retry_after, body) => Some(answer(*status, *retry_after, body)),
            Self::Page(status) => Some(page(*status)),
            Self::Redirect(to) => Some(Redirect::temporary(to).into_response()),
            _ => None,
        }
    }
}

/// The answer to a poll.
#[derive(Clone, Debug, Default)]
pub enum OnPoll {
    /// The job's status.
    #[default]
    Answer,
    /// 404, as for a job that was not made.
    NotFound,
    /// This; with Retry-After if it is given.
    Refuse(u16, Option<&'static str>, Value),
    /// A page.
    Page(u16),
    /// A redirect to this URL.
    Redirect(String),
    /// Closes the connection without an answer.
    LoseAnswer,
    /// Does not answer until the behaviour changes.
    Hang,
}

impl OnPoll {
    /// 401, as for a key that was revoked.
    pub fn revoked() -> Self {
        Self::Refuse(401, None, error(401, "User not found.", &Value::Null))
    }

    pub(super) fn refusal(&self, id: &str) -> Option<Response> {
        match self {
            Self::NotFound => Some(not_found(id)),
            Self::Refuse(status, retry_after, body) => Some(answer(*status, *retry_after, body)),
            Self::Page(status) => Some(page(*status)),
            Self::Redirect(to) => Some(Redirect::temporary(to).into_response()),
            Self::LoseAnswer => lost(),
            Self::Answer | Self::Hang => None,
        }
    }
}

/// The answer to a request for a file.
#[derive(Clone, Debug, Default)]
pub enum OnContent {
    /// The whole file, in chunks without a length.
    #[default]
    Send,
    /// The whole file, with its length.
    WithLength,
    /// The first half of the file; then the connection breaks off.
    BreakOff,
    /// The first half of the file; the other one after this time.
    Slow(Duration),
    /// This; with Retry-After if it is given.
    Refuse(u16, Option<&'static str>, Value),
    /// A page, with status 200 for instance.
    Page(u16),
    /// A redirect to this URL.
    Redirect(String),
    /// Closes the connection without an answer.
    LoseAnswer,
}

impl OnContent {
    /// 401, as for a key that was revoked.
    pub fn revoked() -> Self {
        Self::Refuse(401, None, error(401, "User not found.", &Value::Null))
    }

    pub(super) fn refusal(&self) -> Option<Response> {
        match self {
            Self::Refuse(status, retry_after, body) => Some(answer(*status, *retry_after, body)),
            Self::Page(status) => Some(page(*status)),
            Self::Redirect(to) => Some(Redirect::temporary(to).into_response()),
            Self::LoseAnswer => lost(),
            Self::Send | Self::WithLength | Self::BreakOff | Self::Slow(_) => None,
        }
    }
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Its status, such as "completed" or "dead".
    pub status: String,
    /// `usage.cost`; null is allowed.
    pub cost: Value,
    /// `error`: a text, an object, or null for none.
    pub error: Value,
    /// How many videos it made.
    pub videos: usize,
}

impl End {
    /// Completed, with one video.
    pub fn completed(cost: f64) -> Self {
        Self { status: "completed".into(), cost: json!(cost), error: Value::Null, videos: 1 }
    }

    /// Not completed.
    pub fn with_error(status: &str, error: impl Into<Value>) -> Self {
        Self { status: status.into(), cost: Value::Null, error: error.into(), videos: 0 }
    }

    /// Adds the members of the end to a poll's answer or to a callback's data.
    pub(super) fn add_to(&self, data: &mut Value, id: &str, base_url: &str) {
        if self.videos > 0 {
            let url = |index| format!("{base_url}/videos/{id}/content?index={index}");
            data["unsigned_urls"] = (0..self.videos).map(url).collect();
        }
        data["usage"] = json!({"cost": self.cost, "is_byok": false});
        if !self.error.is_null() {
            data["error"] = self.error.clone();
        }
    }

    /// The payload of the callback. Only four types are documented: another failure is "failed".
    pub(super) fn callback(&self, id: &str, model: &Value, base_url: &str) -> Value {
        let documented = ["completed", "failed", "cancelled", "expired"];
        let is_documented = documented.contains(&self.status.as_str());
        let status = if is_documented { self.status.as_str() } else { "failed" };
        let mut data = json!({"id": id, "status": status, "generation_id": id, "model": model});
        self.add_to(&mut data, id, base_url);
        json!({
            "type": format!("video.generation.{status}"),
            "created_at": "2026-04-24T12:00:00.000Z",
            "data": data,
        })
    }
}

/// The usual form of an error.
fn error(code: u16, message: &str, metadata: &Value) -> Value {
    json!({
        "error": {"code": code, "message": message, "metadata": metadata},
        "user_id": "user_2wHoseAccountItIs",
    })
}

pub(super) fn refusal(status: u16, message: &str, metadata: &Value) -> Response {
    answer(status, None, &error(status, message, metadata))
}

/// The form of an error that the schema found.
pub(super) fn schema_fault(path: &Value, message: &str) -> Response {
    let faults = json!([{"code": "invalid_type", "path": path, "message": message}]).to_string();
    answer(400, None, &json!({"success": false, "error": {"name": "ZodError", "message": faults}}))
}

pub(super) fn not_found(id: &str) -> Response {
    let body = json!({"error": {"message": format!("Job {id} not found"), "code": 404}});
    answer(404, None, &body)
}

fn answer(status: u16, retry_after: Option<&str>, body: &Value) -> Response {
    let mut answer = (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    if let Some(retry_after) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, retry_after.parse().unwrap());
    }
    answer
}

fn page(status: u16) -> Response {
    let page = Html("<!DOCTYPE html><html><title>Just a moment...</title></html>");
    (StatusCode::from_u16(status).unwrap(), page).into_response()
}

/// Ends the connection's task, and with it the connection, without the message of a panic.
pub(super) fn lost() -> ! {
    std::panic::resume_unwind(Box::new("the answer is lost"))
}

/// The answer to a request without the key.
pub(super) fn unauthorized(headers: &HeaderMap) -> Option<Response> {
    match headers.get(header::AUTHORIZATION) {
        None => Some(refusal(401, "No cookie auth credentials found", &Value::Null)),
        Some(value) if value != format!("Bearer {KEY}").as_str() => {
            Some(refusal(401, "User not found.", &Value::Null))
        }
        Some(_) => None,
    }
}
