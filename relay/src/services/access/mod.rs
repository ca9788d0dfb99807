//! Access control. Each request is authorized here first; a method that is not listed here is refused.
//!
//! - [`decide`]: authenticates clients by their credentials, and decides which methods they may call. Pure.
//! - [`caller`](mod@caller): the tenants that a caller may see. Pure.
//! - [`gate`]: before all services; gives a [`pass`](mod@pass) to admitted requests.
//! - [`listener`]: connections, over TLS if that is configured; unauthenticated ones are closed.
//! - [`refusals`]: the log and the metrics of refused requests.
//!
//! All read the current configuration, so that tokens and certificates are replaced without a restart.

mod caller;
mod decide;
mod gate;
mod listener;
mod pass;
mod refusals;

pub use caller::Caller;
pub(crate) use gate::Gate;
pub(crate) use listener::listen;
pub use listener::{Connection, Socket};
pub(crate) use pass::{Pass, caller, pass};
pub(crate) use refusals::RefusalLog;

use std::net::SocketAddr;
use talaria_core::config;

/// Logs at the start which clients are admitted.
pub(crate) fn announce(relay: &config::Relay, address: SocketAddr) {
    let over = if relay.tls.is_some() { "over TLS" } else { "in plain text" };
    if relay.is_guarded() {
        let tokens = relay.tokens.len();
        let certificates = relay.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty());
        tracing::info!(%address, tokens, certificates, "status and control {over}, for authenticated clients");
    } else {
        tracing::info!(
            %address,
            "status and control {over}, on loopback only, without authentication: no relay.tokens are configured"
        );
    }
}
