//! HTTP exchanges with Hermes and with OpenRouter, each over a connection to an address that was checked before.
//!
//! DNS is not trusted. So the connector looks a URL's name up itself, checks every address ([`talaria_core::network`]), and
//! connects to one that the tenant allows: there is no second look-up, so the address that was checked is the one that is
//! connected to. An HTTP client with a resolver of its own could not guarantee that, and one that follows proxies or redirects
//! would go to addresses that were not checked. A connection is closed when it is [`MAX_AGE`] old, even if it is in use, so that
//! the name is looked up and checked again.
//!
//! - [`mod@exchange`]: a request and its answer, under one deadline and with a limited body.
//! - [`open`]: a request whose answer is read piece by piece.
//! - [`resolve`]: from a name to its addresses.
//! - [`connect`]: from there to a connection.
//! - [`tls`]: trusted authorities, client certificates, and faults in words.
//! - [`peer`]: how faults name the server and the key of its URL.
//! - [`casing`]: the case of header names.
//! - [`decompress`]: compressed answers.
//! - [`retry_after`]: the header Retry-After.

mod casing;
mod connect;
mod decompress;
mod exchange;
mod open;
mod peer;
mod resolve;
mod retry_after;
#[cfg(test)]
mod tests;
mod tls;

pub use casing::of as header_casing;
pub use exchange::{Answer, ConnectTimings, CutShort, Exchange, Limits, Timings};
pub use open::Opened;
pub use peer::Peer;
pub use resolve::Resolver;

use bytes::Bytes;
use connect::Connector;
use http_body_util::Full;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use talaria_core::{config::RouteTls, network::Networks};

/// Shorter than the idle timeout of Hermes (aiohttp), so that we rarely send into a connection that it is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The age up to which a connection takes requests: about a short TTL of DNS. One more handshake a minute is cheap.
pub const MAX_AGE: Duration = Duration::from_secs(60);

type Client = legacy::Client<Connector, Full<Bytes>>;

/// The HTTP clients by policy: a tenant must not use a connection that it may not make.
pub struct Clients {
    resolver: Arc<Resolver>,
    max_age: Duration,
    by_policy: Mutex<HashMap<Policy, Client>>,
    /// The system's authorities, read on first use.
    system: OnceLock<Arc<rustls::RootCertStore>>,
}

/// The rules for connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The server.
    pub peer: Peer,
    /// Where connections may go, besides public addresses.
    pub networks: Networks,
    /// Whether they are made with TLS.
    pub is_https: bool,
    /// Own authorities and a client certificate.
    pub tls: Option<Arc<RouteTls>>,
}

impl Clients {
    /// Connections take no other request at this age.
    pub fn new(resolver: Arc<Resolver>, max_age: Duration) -> Self {
        Self { resolver, max_age, by_policy: Mutex::default(), system: OnceLock::new() }
    }

    /// Whether a connection of this age takes no other request. It may lie idle for [`IDLE_TIMEOUT`], so the next request could
    /// find it older by that time.
    fn is_last_request(&self, age: Duration) -> bool {
        age >= self.max_age.saturating_sub(IDLE_TIMEOUT)
    }

    /// Drops the clients of other policies; their exchanges under way go on.
    pub fn keep_only(&self, is_needed: impl Fn(&Policy) -> bool) {
        let mut clients = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|policy, _| is_needed(policy));
    }

    /// The client for a policy, or the fault of its `tls`, which the configuration has checked before.
    fn of_policy(&self, policy: &Policy) -> Result<Client, String> {
        let mut clients = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(policy) {
            return Ok(client.clone());
        }
        let tls = if policy.is_https {
            Some(tls::connector(self.system.get_or_init(tls::system), policy.tls.as_deref())?)
        } else {
            None
        };
        let connector = Connector::new(Arc::clone(&self.resolver), policy, tls);
        let client = legacy::Client::builder(TokioExecutor::new())
            // For names without a configured case, such as Host.
            .http1_title_case_headers(true)
            // A hidden retry would be an attempt without a record.
            .retry_canceled_requests(false)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        clients.insert(policy.clone(), client.clone());
        Ok(client)
    }
}
