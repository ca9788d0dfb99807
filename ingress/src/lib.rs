//! The ingress: verifies OpenRouter's callbacks and makes them durable before it answers. It also asks OpenRouter for the relays.
//!
//! ```text
//! socket ▶ limits ▶ body, bounded ▶ accept: verify, normalize ▶ limits ▶ publish ▶ 204, or 422
//!           429      408, 413         401, 404, 405              429       503
//!           503      400, 503         429, 503                   503       413
//! ```
//!
//! 422 is the answer to a quarantined callback, which is published, too. The *peer* is the other end of a connection, and the
//! *client* sent the request, perhaps through proxies. A request that is not accepted is *refused*.
//!
//! - [`listener`]: the listening loop with its deadlines, and draining; the admin port uses it, too.
//! - [`connections`]: permits for connections. When none is left, the connection that has waited longest is closed.
//! - [`timed`]: a connection with deadlines for heads, idle time and writes.
//! - [`address`]: the client's address, from the peer's address and trusted proxies' headers.
//! - [`limits`]: admission before a body is read and after it was verified, with [`rate`] and [`recent`] for rate limits, and
//!   [`budget`] for limits of memory and of the queue to the bus.
//! - [`refusal_log`]: the rate limit of log lines about refusals.
//! - [`accept`]: the pure decision about a callback's signature and event.
//! - [`body`]: reading a body within its limit and its deadline.
//! - [`path`]: paths in logs.
//! - [`callback`]: `POST /callbacks/{tenant}`, which uses all of these.
//! - [`reason`]: the reasons of refusals; [`refusals`]: the refusals of the last hour, announced to relays.
//! - [`jobs`]: the answers to relays' questions about OpenRouter: models, submits, polls.
//! - [`media`]: `GET /media/{token}`, the files of completed jobs.
//! - [`problem`]: errors as RFC 9457 problem documents.

mod accept;
mod address;
mod body;
mod budget;
mod callback;
mod connections;
mod jobs;
mod limits;
pub mod listener;
mod media;
mod path;
mod problem;
mod rate;
mod reason;
mod recent;
mod refusal_log;
mod refusals;
#[cfg(test)]
mod tests;
mod timed;

pub use callback::CALLBACKS;
pub use connections::Permit;

use axum::response::{IntoResponse as _, Response};
use connections::Permits;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use jobs::Jobs;
use listener::{Answers, Bounds, Unserved};
use media::Media;
use metrics::gauge;
use problem::Problem;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use talaria_bus::Publisher;
use talaria_core::config::Config;
use talaria_openrouter::Client;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// The health check for load balancers.
const HEALTH: &str = "/healthz";

/// The time for connections to finish after `stop`, beyond the longer one of the deadlines of a head and a body.
const DRAIN: Duration = Duration::from_secs(15);

/// The ingress, listening but not yet serving.
pub struct Ingress {
    listener: TcpListener,
    state: callback::State,
}

impl Ingress {
    /// Listens on the configured address, which changes only with a restart. Other settings take effect with the next connection
    /// or callback.
    pub async fn bind(config: watch::Receiver<Arc<Config>>, publisher: Publisher) -> io::Result<Self> {
        let address = config.borrow().ingress.listen;
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, state: callback::State::new(config, publisher) })
    }

    /// The address of the listener.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, and then finishes open requests. After `leaving` is cancelled, each answer closes its
    /// connection, so that the client's next one goes to another process.
    ///
    /// Boxed, so that the code of this crate is compiled here. A crate that awaits a future compiles it again.
    pub fn serve(
        self,
        leaving: CancellationToken,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.work(leaving, stop))
    }

    async fn work(self, leaving: CancellationToken, stop: CancellationToken) {
        let client = Client::new();
        let media = Media::new(client.clone(), self.state.publisher.clone());
        let serving = Arc::new(Serving { state: self.state, media, leaving: leaving.clone() });
        let permits = Permits::new(gauge!("talaria_ingress_connections"), limits::reached);
        let (config, publisher) = (serving.state.config.clone(), serving.state.publisher.clone());
        let announce = serving.state.refusals.announce(&serving.state.publisher, config.clone());
        let jobs =
            Arc::new(Jobs::new(config, publisher, client)).serve(stop.clone(), || serving.bounds().drain);
        let serve = listener::serve_at(self.listener, Arc::clone(&serving), permits, leaving, stop);
        tokio::select! {
            () = async { tokio::join!(serve, jobs); } => {}
            () = announce => {}
        }
    }
}

/// Answers callbacks, health checks and requests for files.
struct Serving {
    state: callback::State,
    media: Media,
    leaving: CancellationToken,
}

impl Serving {
    /// Whether callbacks should be sent here. Shows nothing else, since any client may ask. While the bus is away, another ingress
    /// would not help, so balancers keep sending, and the answer is 503; the admin port's `/readyz` shows it.
    fn health(&self, method: &Method) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            Problem::health_method_not_allowed().into_response()
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

    async fn answer(&self, peer: IpAddr, permit: &Permit, request: Request<Incoming>) -> Response {
        if request.uri().path() == HEALTH {
            return self.health(request.method());
        }
        if request.uri().path().starts_with(media::PREFIX) {
            // Boxed, because every connection has room for the future of its answer.
            return Box::pin(self.media.answer(&self.state, peer, permit, request)).await;
        }
        self.state.answer(peer, permit, request).await
    }

    fn unserved(&self, peer: IpAddr, why: Unserved) {
        self.state.unserved(peer, why);
    }
}
