//! The way in: verifies OpenRouter's callbacks and makes them durable before it answers.
//!
//! ```text
//! socket ▶ limits ▶ body, bounded ▶ accept: verify, normalize ▶ limits ▶ publish ▶ 204
//!          429, 503   413, 408           401, 422               429       503
//! ```
//!
//! - [`server`]: the listening loop with its deadlines, and draining.
//! - [`connections`]: places for connections, and who has to leave when there are none.
//! - [`taken`]: a connection that ends when its client takes nothing of his answers for too long.
//! - [`address`]: whose a request is, by its peer and by what trusted proxies say.
//! - [`limits`]: who is let in, before a body is read and after it was verified. It stands on [`rate`], how much of an
//!   allowance is left, [`recent`], what is known of senders for a while, and [`budget`], how much is in use at once.
//! - [`quiet`]: how many lines strangers may have in the log.
//! - [`accept`]: the decision, pure: who signed this, and is it an event?
//! - [`body`]: reads a body within its limit and its deadline.
//! - [`callback`]: `POST /callbacks/{tenant}`, which asks them all.
//! - [`problem`]: the errors, as RFC 9457 problem documents.

mod accept;
mod address;
mod body;
mod budget;
mod callback;
mod connections;
mod limits;
mod problem;
mod quiet;
mod rate;
mod recent;
mod server;
mod taken;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};
use talaria_bus::{Clock, Publisher};
use talaria_core::config::Config;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

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
    /// connection, so that the sender's next one goes to somebody who stays.
    pub async fn serve(self, leaving: CancellationToken, stop: CancellationToken) {
        server::serve(self.listener, Arc::new(self.state), leaving, stop).await;
    }
}
