//! The way in: verifies OpenRouter's callbacks and makes them durable before it answers.
//!
//! ```text
//! socket ▶ limits ▶ body, bounded ▶ accept: verify, normalize ▶ limits ▶ publish ▶ 204
//!          429, 503   413, 408           401, 422               429       503
//! ```
//!
//! - [`listener`]: the listening loop with its deadlines, and draining; the admin port has it, too.
//! - [`connections`]: places for connections, and who has to leave when there are none.
//! - [`timed`]: a connection with deadlines for heads, for being idle, and for a client that takes nothing of an answer.
//! - [`address`]: whose a request is, by its peer and by what trusted proxies say.
//! - [`limits`]: who is let in, before a body is read and after it was verified. It stands on [`rate`], how much of an
//!   allowance is left, [`recent`], what is known of senders for a while, and [`budget`], how much is in use at once.
//! - [`quiet`]: how many lines strangers may have in the log.
//! - [`accept`]: the decision, pure: who signed this, and is it an event?
//! - [`body`]: reads a body within its limit and its deadline.
//! - [`callback`]: `POST /callbacks/{tenant}`, which asks them all.
//! - [`reason`]: why a request is refused; [`refusals`]: what was refused in the last hour, announced to relays.
//! - [`problem`]: the errors, as RFC 9457 problem documents.

mod accept;
mod address;
mod body;
mod budget;
mod callback;
mod connections;
mod limits;
pub mod listener;
mod problem;
mod quiet;
mod rate;
mod reason;
mod recent;
mod refusals;
#[cfg(test)]
mod tests;
mod timed;

pub use connections::Place;

use axum::response::{IntoResponse as _, Response};
use connections::Places;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use listener::{Answers, Bounds, Unserved};
use metrics::gauge;
use problem::Problem;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use talaria_bus::{Clock, Publisher};
use talaria_core::config::Config;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// Where load balancers look whether callbacks are taken here.
const HEALTH: &str = "/healthz";

/// How long connections may take to finish after `stop`, beside the deadlines of a head and a body.
const DRAIN: Duration = Duration::from_secs(15);

/// The ingress, listening but not yet serving.
pub struct Ingress {
    listener: TcpListener,
    state: callback::State,
}

impl Ingress {
    /// Listens on the configured address, which stays as it was at the start. Each connection and each callback is
    /// taken by the configuration as it then is.
    pub async fn bind(
        config: watch::Receiver<Arc<Config>>,
        publisher: Publisher,
        clock: Clock,
    ) -> io::Result<Self> {
        let address = config.borrow().ingress.listen;
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, state: callback::State::new(config, publisher, clock) })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop, and then finishes what has begun. Once it is leaving, each answer ends its
    /// connection, so that the sender's next one goes to a process that stays.
    pub async fn serve(self, leaving: CancellationToken, stop: CancellationToken) {
        let serving = Arc::new(Serving { state: self.state, leaving: leaving.clone() });
        let places = Places::new(gauge!("talaria_ingress_connections"), limits::reached);
        let announce =
            serving.state.refusals.announce(&serving.state.publisher, serving.state.config.clone());
        tokio::select! {
            () = listener::serve_at(self.listener, Arc::clone(&serving), places, leaving, stop) => {}
            () = announce => {}
        }
    }
}

/// Answers callbacks, and load balancers.
struct Serving {
    state: callback::State,
    leaving: CancellationToken,
}

impl Serving {
    /// Whether callbacks should be sent here; says nothing else, since any client may ask. The admin port's `/readyz` says
    /// whether they can be stored: when they cannot, a balancer could do nothing better than to send them here and have
    /// them answered 503.
    fn health(&self, method: &Method) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            Problem::health_is_looked_at().into_response()
        } else if self.leaving.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response()
        } else {
            "ok\n".into_response()
        }
    }
}

impl Answers for Serving {
    fn bounds(&self) -> Bounds {
        let ingress = &self.state.config.borrow().ingress;
        Bounds {
            connections: ingress.limits.connections,
            connections_per_address: ingress.limits.connections_per_address,
            head_timeout: ingress.head_timeout,
            idle_timeout: ingress.idle_timeout,
            max_head_bytes: ingress.max_head_bytes,
            max_headers: ingress.max_headers,
            drain: ingress.head_timeout.max(ingress.body_timeout) + DRAIN,
        }
    }

    fn is_shared(&self, peer: IpAddr) -> bool {
        self.state.config.borrow().ingress.trusted_proxies.contain(peer)
    }

    async fn answer(&self, peer: IpAddr, place: &Place, request: Request<Incoming>) -> Response {
        if request.uri().path() == HEALTH {
            return self.health(request.method());
        }
        self.state.answer(peer, place, request).await
    }

    fn unserved(&self, peer: IpAddr, why: Unserved) {
        self.state.unserved(peer, why);
    }
}
