//! Callbacks as OpenRouter sends them.

use crate::{Failure, client::without_credentials};
use anyhow::Context as _;
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::time::Duration;
use talaria_core::openrouter::{IDEMPOTENCY_KEY_HEADER, event::Envelope, signature};
use url::Url;

/// An ingress' answer.
pub(crate) struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// An ingress answers 204. Another 2xx comes from a proxy in front of it.
    pub(crate) fn accepted(&self) -> bool {
        self.status == 204
    }
}

/// A payload in OpenRouter's documented form, whose status is the last part of its type.
pub(crate) fn payload(event_type: &str, job: &str, now: Timestamp) -> Vec<u8> {
    let status = event_type.rsplit('.').next().unwrap_or_default();
    let mut data = json!({"id": job, "status": status, "generation_id": format!("gen-{job}"), "model": "google/veo-3.1"});
    let outcome = if status == "completed" {
        let url = format!("https://openrouter.ai/api/v1/videos/{job}/content?index=0");
        json!({"unsigned_urls": [url], "usage": {"cost": 0.5, "is_byok": false}})
    } else {
        json!({"error": format!("a test of {status}")})
    };
    if let (Some(data), Value::Object(outcome)) = (data.as_object_mut(), outcome) {
        data.extend(outcome);
    }
    let created_at = now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    json!({"type": event_type, "created_at": created_at, "data": data}).to_string().into_bytes()
}

/// POSTs a signed body.
pub(crate) async fn post(url: &Url, secret: &SecretString, body: &[u8]) -> Result<Answer, Failure> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .context("cannot set up the HTTP client")?;
    let mut request = client
        .post(url.clone())
        .header("Content-Type", "application/json")
        .header(signature::HEADER, signature::sign(secret, Timestamp::now(), body))
        .body(body.to_vec());
    // Not every job id is a valid header value. The key is optional.
    let key = Envelope::read(body).ok().map(|event| event.idempotency_key().into_bytes());
    if let Some(key) = key.and_then(|key| HeaderValue::from_bytes(&key).ok()) {
        request = request.header(IDEMPOTENCY_KEY_HEADER, key);
    }
    let unreachable = |error: reqwest::Error| {
        let error = anyhow::Error::from(error.without_url());
        let (url, cause) = (without_credentials(url), error.root_cause());
        Failure::Unreachable(format!(
            "cannot reach the ingress at {url}: {cause}\n  help: is `talaria up` or `talaria ingress` running there?"
        ))
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.text().await.map_err(unreachable)? })
}
