//! Connections to Hermes, each to an address that was checked before.
//!
//! DNS is not trusted. So the connector looks a route's name up itself, checks every address ([`talaria_core::network`]), and
//! connects to one that the tenant allows: there is no second look-up, so the address that was checked is the one that is
//! connected to. An HTTP client with a resolver of its own could not guarantee that, and one that follows proxies or redirects
//! would go to addresses that were not checked. A connection is closed when it is [`MAX_AGE`] old, even if it is in use, so that
//! the name is looked up and checked again.
//!
//! - [`resolve`]: from a name to its addresses.
//! - [`connect`]: from there to a connection.
//! - [`tls`]: trusted authorities, client certificates, and faults in words.
//! - [`casing`]: the case of header names.

mod casing;
pub(crate) mod connect;
pub(crate) mod resolve;
mod tls;

pub(crate) use tls::{causes, refusal};

use crate::decisions::prepare::names;
use bytes::Bytes;
use connect::Connector;
use http::Extensions;
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

/// Shorter than the idle timeout of Hermes (aiohttp), so that we rarely send into a connection that it is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The age up to which a connection takes requests: about a short TTL of DNS. One more handshake a minute is cheap.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(60);

pub(crate) type Client = legacy::Client<Connector, Full<Bytes>>;

/// The HTTP clients by policy: a tenant must not use a connection that it may not make.
pub(crate) struct Clients {
    resolver: Arc<Resolver>,
    max_age: Duration,
    by_policy: Mutex<HashMap<Policy, Client>>,
    /// The extensions that give headers their case, by the names of a route's own headers.
    casings: Mutex<HashMap<Vec<String>, Extensions>>,
    /// The system's authorities, read on first use.
    system: OnceLock<Arc<rustls::RootCertStore>>,
}

/// The rules for connections.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Policy {
    networks: Networks,
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
    pub(crate) fn new(resolver: Arc<Resolver>, max_age: Duration) -> Self {
        Self {
            resolver,
            max_age,
            by_policy: Mutex::default(),
            casings: Mutex::default(),
            system: OnceLock::new(),
        }
    }

    /// Whether a connection of this age takes no other request. It may lie idle for [`IDLE_TIMEOUT`], so the next request could
    /// find it older by that time.
    pub(crate) fn is_last_request(&self, age: Duration) -> bool {
        age >= self.max_age.saturating_sub(IDLE_TIMEOUT)
    }

    /// The extensions of a route's requests that give header names their case.
    pub(crate) fn casing(&self, route: &Route) -> Extensions {
        let own: Vec<String> = route.headers.iter().map(|header| header.name.clone()).collect();
        let mut casings = self.casings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(casing) = casings.get(&own) {
            return casing.clone();
        }
        let casing = casing::of(names().into_iter().chain(own.iter().map(String::as_str)));
        casings.insert(own, casing.clone());
        casing
    }

    /// Drops the clients that no route of this configuration needs; their exchanges under way go on.
    pub(crate) fn keep_only(&self, config: &Config) {
        let needed: HashSet<Policy> = config.routes().map(|(_, route)| Policy::of(route)).collect();
        let mut clients = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|policy, _| needed.contains(policy));
        self.casings.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The client for a route, or the fault of its `tls`, which the configuration has checked before.
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
            // For names without a configured case, such as Host.
            .http1_title_case_headers(true)
            // A hidden retry would be an attempt without a record.
            .retry_canceled_requests(false)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        clients.insert(policy, client.clone());
        Ok(client)
    }
}
