//! `talaria send`: a callback as OpenRouter would send it.

use crate::{Failure, args::Send, client::from_here};
use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};
use talaria_core::{
    config::{self, Role},
    id::EventId,
    openrouter::{IDEMPOTENCY_KEY_HEADER, event::Envelope, signature},
};
use url::Url;

/// The time in OpenRouter's documented example, 2026-04-24T12:00:00Z.
const DOCUMENTED_TIME: Timestamp = Timestamp::constant(1_777_032_000, 0);

pub(crate) async fn run(path: &Path, args: &Send) -> Result<(), Failure> {
    let config = config::load_for(path, Role::Sender)?;
    let tenant = super::tenant(&config, args.tenant.as_deref())?;
    let body = match &args.payload {
        Some(payload) => super::read_input(payload)?,
        None => {
            // A job that is named twice is the same callback twice, to the byte.
            let (job, time) = match &args.job {
                Some(job) => (job.clone(), DOCUMENTED_TIME),
                None => (format!("test-{:08x}", rand::random::<u32>()), Timestamp::now()),
            };
            payload(&args.event_type, &job, time)
        }
    };
    let secret = tenant.secrets.first().ok_or_else(|| anyhow!("the tenant has no secret"))?;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("http://{}/callbacks/{}", from_here(config.ingress.listen), tenant.name))
            .context("the configured ingress has no URL")?,
    };
    let answer = post(&url, secret, &body).await?;
    let event = Envelope::read(&body).ok();
    let id = event.map(|event| EventId::new(&tenant.name, &event.job_id, &event.event_type).to_string());
    let mut out = io::stdout().lock();
    if args.json {
        let document = json!({"status": answer.status, "body": answer.body, "eventId": id});
        writeln!(out, "{document:#}")?;
    } else if answer.accepted() {
        writeln!(out, "{} accepted: {}", answer.status, id.as_deref().unwrap_or("not an event"))?;
    }
    if answer.accepted() {
        return Ok(());
    }
    Err(anyhow!("{url} answered {}: {}", answer.status, answer.body.trim()).into())
}

/// What an ingress answered.
pub(crate) struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub(crate) fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A payload in OpenRouter's documented form. The type's last word is the status.
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

/// POSTs a body, signed now.
pub(crate) async fn post(url: &Url, secret: &secrecy::SecretString, body: &[u8]) -> Result<Answer, Failure> {
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
    // A job's id may be no header's value; the key is not signed and may be missing.
    let key = Envelope::read(body).ok().map(|event| event.idempotency_key().into_bytes());
    if let Some(key) = key.and_then(|key| HeaderValue::from_bytes(&key).ok()) {
        request = request.header(IDEMPOTENCY_KEY_HEADER, key);
    }
    let unreachable = |error: reqwest::Error| {
        let error = anyhow::Error::from(error.without_url());
        let cause = error.root_cause();
        Failure::Unreachable(format!(
            "cannot reach the ingress at {url}: {cause}\n  help: is `talaria up` or `talaria ingress` running there?"
        ))
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.text().await.map_err(unreachable)? })
}
