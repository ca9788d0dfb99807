//! The programs that Talaria is compared with.
//!
//! - The same axum stack that only verifies and parses: it answers 204 and keeps nothing.
//! - A client that only signs and posts: it keeps no account of anything.

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use jiff::Timestamp;
use secrecy::SecretString;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use talaria_core::{
    hermes,
    json::parse,
    openrouter::{
        event::Envelope,
        signature::{HEADER, Signature},
    },
};
use tokio::{net::TcpListener, task::JoinSet};

/// How far a signature's time may be from now, as Talaria's default.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Serves until the process ends. Prints its address.
pub async fn serve(secret: &str) {
    let secret = Arc::new([SecretString::from(secret)]);
    let router = Router::new().route("/callbacks/{tenant}", post(callback)).with_state(secret);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn callback(
    State(secret): State<Arc<[SecretString; 1]>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    match read(secret.as_slice(), &headers, &body) {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(status) => status,
    }
}

/// Verifies and reads a callback, or returns the status of the refusal.
pub fn read(secrets: &[SecretString], headers: &HeaderMap, body: &[u8]) -> Result<Envelope, StatusCode> {
    let header = headers.get(HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let verified = Signature::parse(header)
        .and_then(|signature| signature.verify(secrets, TOLERANCE, Timestamp::now(), body));
    if verified.is_err() {
        return Err(StatusCode::UNAUTHORIZED);
    }
    Envelope::read(body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)
}

/// Signs and posts every body to Hermes, so many at once. Requests a second.
pub async fn forward(hermes: SocketAddr, secret: &str, bodies: Vec<Bytes>, at_once: usize) -> f64 {
    let secret = SecretString::from(secret);
    let client = talaria_tests::http();
    let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (client, secret, bodies, next) =
            (client.clone(), secret.clone(), Arc::clone(&bodies), Arc::clone(&next));
        tasks.spawn(async move {
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                // The work of every client of Hermes: read the payload, build a prompt's body, sign it.
                assert!(parse(body).is_ok());
                let signature = hermes::signature::sign(&secret, body);
                let request = client
                    .post(format!("http://{hermes}/webhooks/r"))
                    .header("Content-Type", "application/json")
                    .header("X-GitHub-Delivery", format!("bare-{}", rand::random::<u64>()))
                    .header(hermes::signature::HEADER, signature)
                    .body(body.clone());
                assert_eq!(request.send().await.unwrap().status(), 202);
            }
        });
    }
    tasks.join_all().await;
    bodies.len() as f64 / start.elapsed().as_secs_f64()
}
