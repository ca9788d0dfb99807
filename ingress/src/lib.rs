//! The way in: verifies OpenRouter's callbacks and makes them durable before it answers.
//!
//! ```text
//! socket ▶ body, bounded ▶ accept: verify, normalize ▶ publish ▶ 204
//!            413, 408           401, 422                 503
//! ```
//!
//! - [`accept`]: the decision, pure: who signed this, and is it an event?
//! - [`body`]: reads a body within its limit and its deadline.
//! - [`callback`]: `POST /callbacks/{tenant}`, which asks the one and then the other.
//! - [`trace`]: the trace that a callback belongs to.
//! - [`problem`]: the errors, as RFC 9457 problem documents.
//! - [`server`]: the listening loop with its deadlines, and draining.

mod accept;
mod body;
mod callback;
mod problem;
mod server;
#[cfg(test)]
mod tests;
mod trace;

use axum::{middleware::map_response, response::Response};
use http::{HeaderValue, header::CONNECTION};
use std::{io, net::SocketAddr, sync::Arc};
use talaria_bus::{Bus, Clock};
use talaria_core::config::Config;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// The ingress, listening but not yet serving.
pub struct Ingress {
    listener: TcpListener,
    state: callback::State,
}

impl Ingress {
    /// Listens on the configured address. Each callback is taken by the configuration as it then is; the address and
    /// the deadline of a head stay as they were at the start.
    pub async fn bind(config: watch::Receiver<Arc<Config>>, bus: Bus, clock: Clock) -> io::Result<Self> {
        let address = config.borrow().ingress.listen;
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, state: callback::State { config, bus, clock } })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop, and then finishes what has begun. Once it is leaving, each answer ends its
    /// connection, so that the sender's next one goes to somebody who stays.
    pub async fn serve(self, leaving: CancellationToken, stop: CancellationToken) {
        let deadline = self.state.config.borrow().ingress.body_timeout;
        let router = callback::router(self.state).layer(map_response(move |mut response: Response| {
            if leaving.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            std::future::ready(response)
        }));
        server::serve(self.listener, router, deadline, stop).await;
    }
}
