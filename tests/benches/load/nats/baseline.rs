//! The baseline: the simplest ingress and relay, with the same libraries.
//!
//! - The ingress verifies callbacks, and publishes them one at a time, each before its answer.
//! - The relay consumes, signs and posts, and acknowledges accepted messages. It records nothing and has no retries of its own:
//!   an answer other than 202 panics in its task, and only JetStream sends that message again.

use super::EVENTS;
use crate::{TENANT, bare};
use async_nats::{
    HeaderMap,
    jetstream::{self, Context, Message, consumer, stream},
};
use axum::{Router, body::Bytes, extract::State, http, http::StatusCode, routing::post};
use prost::Message as _;
use secrecy::SecretString;
use std::sync::Arc;
use talaria_core::{
    hermes::signature,
    id::{DeliveryId, EventId},
};
use talaria_proto::v1::Event;
use talaria_tests::sink::SECRET;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_stream::StreamExt as _;

struct Ingress {
    secret: SecretString,
    jetstream: Context,
}

/// Serves until the process ends. Prints its address.
pub async fn ingress(secret: &str, nats: &str) {
    let jetstream = jetstream::new(async_nats::connect(nats).await.unwrap());
    let config =
        stream::Config { name: EVENTS.into(), subjects: vec!["talaria.events.>".into()], ..<_>::default() };
    jetstream.create_stream(config).await.unwrap();
    let state = Arc::new(Ingress { secret: secret.into(), jetstream });
    let router = Router::new().route("/callbacks/{tenant}", post(callback)).with_state(state);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn callback(
    State(ingress): State<Arc<Ingress>>,
    headers: http::HeaderMap,
    body: Bytes,
) -> Result<StatusCode, StatusCode> {
    let envelope = bare::read(std::slice::from_ref(&ingress.secret), &headers, &body)?;
    let event = Event {
        id: EventId::new(TENANT, &envelope.job_id, &envelope.event_type).to_string(),
        tenant: TENANT.into(),
        r#type: envelope.event_type,
        payload: body,
        ..Event::default()
    };
    let subject = format!("talaria.events.{TENANT}.{}", event.r#type);
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", event.id.as_str());
    let data = event.encode_to_vec().into();
    let sent = ingress.jetstream.publish_with_headers(subject, headers, data).await;
    let stored = sent.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?.await;
    stored.map(|_| StatusCode::NO_CONTENT).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

/// Forwards until the process ends, at most `at_once` in flight. Prints one line when it is ready.
pub async fn relay(nats: &str, hermes: &str, at_once: usize) {
    let jetstream = jetstream::new(async_nats::connect(nats).await.unwrap());
    let stream = jetstream.get_stream(EVENTS).await.unwrap();
    let config = consumer::pull::Config { durable_name: Some("relay".into()), ..<_>::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    println!("{hermes}");
    let (client, url) = (talaria_tests::http(), format!("http://{hermes}/webhooks/r"));
    let secret = SecretString::from(SECRET);
    let permits = Arc::new(Semaphore::new(at_once));
    let mut messages = consumer.messages().await.unwrap();
    while let Some(message) = messages.next().await {
        let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
        let (client, url, secret) = (client.clone(), url.clone(), secret.clone());
        tokio::spawn(async move {
            forward(&client, &url, &secret, message.unwrap()).await;
            drop(permit);
        });
    }
}

async fn forward(client: &reqwest::Client, url: &str, secret: &SecretString, message: Message) {
    let event = Event::decode(message.payload.clone()).unwrap();
    let id = DeliveryId::new(event.id.parse().unwrap(), "r").idempotency_key(1);
    let request = client
        .post(url)
        .header("Content-Type", "application/json")
        .header("X-GitHub-Event", event.r#type)
        .header("X-GitHub-Delivery", &id)
        .header("X-Request-ID", &id)
        .header(signature::HEADER, signature::sign(secret, &event.payload))
        .body(event.payload);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 202);
    answer.bytes().await.unwrap();
    message.ack().await.unwrap();
}
