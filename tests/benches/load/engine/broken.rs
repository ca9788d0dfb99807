//! A stand-in Hermes that fails in three ways. The fourth is an address that refuses connections.

use axum::{Router, http::StatusCode, routing::post};
use std::{future, net::SocketAddr};
use tokio::net::TcpListener;

/// The port of the old discard service, which refuses connections.
const NOBODY: &str = "127.0.0.1:9";

/// Serves until the process ends. Prints its address.
pub async fn serve() {
    let router = Router::new()
        .route("/failing", post(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/refusing", post(async || StatusCode::UNAUTHORIZED))
        .route("/hanging", post(future::pending::<StatusCode>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// Where a route leads that is broken; of neighbours each in another way.
pub fn url(broken: SocketAddr, route: usize) -> String {
    match route % 4 {
        0 => format!("http://{NOBODY}/webhooks/r"),
        1 => format!("http://{broken}/failing"),
        2 => format!("http://{broken}/refusing"),
        _ => format!("http://{broken}/hanging"),
    }
}
