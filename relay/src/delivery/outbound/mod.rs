//! Connections to Hermes, each to an address that was looked at before.
//!
//! A route's name leads where DNS says, and DNS is not ours. So the connector looks the name up itself, judges every
//! address ([`talaria_core::network`]), and connects to one that the tenant allows: nothing is looked up again in
//! between, so what was judged is what is connected to. An HTTP client with a resolver of its own could not promise
//! that, and one that follows proxies or redirects would go where nobody looked.
//!
//! - [`resolve`]: from a name to its addresses.
//! - [`connect`]: from there to a connection.
//! - [`tls`]: whom we trust, who we are, and what goes wrong, in a sentence.
//! - [`timings`]: where the time went.

pub(crate) mod connect;
pub(crate) mod resolve;
pub mod timings;
mod tls;

pub(crate) use tls::{causes, refusal};

use bytes::Bytes;
use connect::Connector;
use http_body_util::Full;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use resolve::Resolver;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use talaria_core::{
    config::{Config, Route, RouteTls},
    network::Networks,
};

/// Shorter than Hermes (aiohttp) keeps an idle connection, so that we seldom send into one that it is closing.
const IDLE: Duration = Duration::from_secs(20);

pub(crate) type Client = legacy::Client<Connector, Full<Bytes>>;

/// The clients, by what their connections may be: one that a tenant may not make must not be lent to it either.
pub(crate) struct Clients {
    resolver: Arc<Resolver>,
    by_policy: Mutex<HashMap<Policy, Client>>,
    /// The system's authorities, read once and when they are first needed.
    system: OnceLock<Arc<rustls::RootCertStore>>,
}

/// What connections may be.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Policy {
    networks: Networks,
    /// Over TLS, or plain.
    is_https: bool,
    tls: Option<Arc<RouteTls>>,
}

impl Policy {
    fn of(route: &Route) -> Self {
        let is_https = route.url.scheme() == "https";
        Self { networks: route.networks.clone(), is_https, tls: route.tls.clone() }
    }
}

impl Clients {
    pub(crate) fn new(resolver: Arc<Resolver>) -> Self {
        Self { resolver, by_policy: Mutex::default(), system: OnceLock::new() }
    }

    /// Forgets the clients that no route of this configuration needs; what they have under way goes on.
    pub(crate) fn keep_only(&self, config: &Config) {
        let needed: HashSet<Policy> = config.routes().map(|(_, route)| Policy::of(route)).collect();
        let mut clients = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|policy, _| needed.contains(policy));
    }

    /// The client for a route, or what is wrong with its `tls`, which the configuration has looked at.
    pub(crate) fn of(&self, route: &Route) -> Result<Client, String> {
        let policy = Policy::of(route);
        let mut clients = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&policy) {
            return Ok(client.clone());
        }
        let tls = if policy.is_https {
            Some(tls::connector(self.system.get_or_init(tls::system), policy.tls.as_deref())?)
        } else {
            None
        };
        let connector = Connector::new(Arc::clone(&self.resolver), policy.networks.clone(), tls);
        let client = legacy::Client::builder(TokioExecutor::new())
            // Hermes' filters on headers compare names as they were written.
            .http1_title_case_headers(true)
            // A repeat that we do not know of would break the account.
            .retry_canceled_requests(false)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        clients.insert(policy, client.clone());
        Ok(client)
    }
}
