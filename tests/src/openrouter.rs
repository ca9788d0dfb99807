//! Callbacks, signed as OpenRouter signs them.

use crate::{PATIENCE, POLL_INTERVAL};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::net::SocketAddr;
use talaria_core::{
    id::EventId,
    openrouter::{IDEMPOTENCY_KEY_HEADER, signature},
};
use tokio::time::{Instant, sleep};

/// A sender of one tenant's callbacks.
#[derive(Clone, Debug)]
pub struct OpenRouter {
    client: reqwest::Client,
    url: String,
    tenant: String,
    secret: SecretString,
    traceparent: Option<String>,
}

/// The documented payload of a job in a terminal state.
pub fn payload(job: &str, status: &str) -> Value {
    json!({
        "type": format!("video.generation.{status}"),
        "created_at": "2026-04-24T12:00:00.000Z",
        "data": {
            "id": job, "status": status, "generation_id": "gen-xyz789", "model": "google/veo-3.1",
            "unsigned_urls": [format!("https://openrouter.ai/api/v1/videos/{job}/content?index=0")],
            "usage": {"cost": 0.5, "is_byok": false},
        },
    })
}

/// The id of the event that such a payload is.
pub fn event_id(tenant: &str, job: &str, status: &str) -> String {
    EventId::new(tenant, job, &format!("video.generation.{status}")).to_string()
}

impl OpenRouter {
    /// Sends to the ingress at this address, signing with this secret.
    pub fn new(ingress: SocketAddr, tenant: &str, secret: &str) -> Self {
        Self::with(crate::http(), ingress, tenant, secret)
    }

    /// Sends over the connections of this client.
    pub fn with(client: reqwest::Client, ingress: SocketAddr, tenant: &str, secret: &str) -> Self {
        let url = format!("http://{ingress}/callbacks/{tenant}");
        Self { client, url, tenant: tenant.into(), secret: secret.into(), traceparent: None }
    }

    /// Sends as part of a trace.
    #[must_use]
    pub fn within(mut self, traceparent: &str) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Sends a job's callback; the status of the answer, or `None` when there was none.
    pub async fn try_send(&self, job: &str, status: &str) -> Option<u16> {
        self.send_bytes(payload(job, status).to_string().into_bytes()).await
    }

    /// Sends a job's callback, which has to be accepted. The event's id.
    pub async fn send(&self, job: &str, status: &str) -> String {
        self.send_payload(&payload(job, status)).await;
        event_id(&self.tenant, job, status)
    }

    /// Sends a payload, which has to be accepted. As OpenRouter does, it sends again what is answered 503: on a busy machine the bus
    /// may not answer in time.
    pub async fn send_payload(&self, payload: &Value) {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.send_bytes(payload.to_string().into_bytes()).await;
            if answer != Some(503) || Instant::now() >= end {
                return assert_eq!(answer, Some(204));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Sends any bytes, signed.
    pub async fn send_bytes(&self, body: Vec<u8>) -> Option<u16> {
        let signature = signature::sign(&self.secret, Timestamp::now(), &body);
        let request = self.client.post(&self.url).header(signature::HEADER, signature);
        let mut request = request.header(IDEMPOTENCY_KEY_HEADER, "recorded-not-trusted").body(body);
        if let Some(traceparent) = &self.traceparent {
            request = request.header("traceparent", traceparent);
        }
        Some(request.send().await.ok()?.status().as_u16())
    }
}
