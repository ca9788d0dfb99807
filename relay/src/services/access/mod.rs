//! Who may ask what. Each request is authorized here first; a method that is not listed here is refused.
//!
//! - [`decide`]: authenticates clients by their credentials, and decides what they may ask. Pure.
//! - [`caller`]: which tenant they may see. Pure, too.
//! - [`gate`]: stands before all services, asks [`decide`], and gives a [`pass`] to what it lets through.
//! - [`listener`]: connections, over TLS where that is configured; strangers do not keep them.
//! - [`refusals`]: tells the log and the metrics of those who were refused.
//!
//! All look at the configuration as it is now, so that tokens and certificates are replaced without a restart.

mod caller;
mod decide;
mod gate;
mod listener;
mod pass;
mod refusals;

pub(crate) use caller::Caller;
pub(crate) use gate::Gate;
pub(crate) use listener::listen;
pub(crate) use pass::{Pass, caller, pass};
pub(crate) use refusals::Refusals;

use std::net::SocketAddr;
use talaria_core::config;

/// Says at the start who may ask.
pub(crate) fn announce(relay: &config::Relay, address: SocketAddr) {
    let over = if relay.tls.is_some() { "over TLS" } else { "in plain text" };
    if relay.is_guarded() {
        let tokens = relay.tokens.len();
        let certificates = relay.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty());
        tracing::info!(%address, tokens, certificates, "status and control {over}, for those who show who they are");
    } else {
        tracing::info!(
            %address,
            "status and control {over}, on loopback only, for everybody on this machine: no relay.tokens are configured"
        );
    }
}
