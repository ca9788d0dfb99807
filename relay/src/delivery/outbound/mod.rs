//! Connections to Hermes, each to an address that was looked at before.
//!
//! A route's name leads where DNS says, and DNS is not ours. So the connector looks the name up itself, judges every
//! address ([`talaria_core::network`]), and connects to one that the tenant allows: nothing is looked up again in
//! between, so what was judged is what is connected to. An HTTP client with a resolver of its own could not promise
//! that, and one that follows proxies or redirects would go to addresses that were not vetted. A connection is
//! given up when it is [`MAX_AGE`] old, however busy it is, so that a name that leads elsewhere by now is looked up and judged
//! again.
//!
//! - [`resolve`]: from a name to its addresses.
//! - [`connect`]: from there to a connection.
//! - [`tls`]: whom we trust, who we are, and what goes wrong, in a sentence.
//! - [`casing`]: header names as they are written.
//! - [`timings`]: where the time went.

mod casing;
pub(crate) mod connect;
pub(crate) mod resolve;
pub(crate) mod timings;
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

/// Shorter than Hermes (aiohttp) keeps an idle connection, so that we seldom send into one that it is closing.
const IDLE: Duration = Duration::from_secs(20);

/// How old a connection may be when a request goes out on it. About as long as the short times for which DNS names are
/// usually kept; one more connection and handshake a minute is not felt.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(60);

pub(crate) type Client = legacy::Client<Connector, Full<Bytes>>;

/// The clients, by what their connections may be: one that a tenant may not make must not be lent to it either.
pub(crate) struct Clients {
    resolver: Arc<Resolver>,
    max_age: Duration,
    by_policy: Mutex<HashMap<Policy, Client>>,
    /// The extensions that give headers their case, by the names of a route's own.
    casings: Mutex<HashMap<Vec<String>, Extensions>>,
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
    /// Connections are given up at this age.
    pub(crate) fn new(resolver: Arc<Resolver>, max_age: Duration) -> Self {
        Self {
            resolver,
            max_age,
            by_policy: Mutex::default(),
            casings: Mutex::default(),
            system: OnceLock::new(),
        }
    }

    /// Whether a connection of this age takes no request any more. One that is not used lies idle for [`IDLE`] at most, so
    /// that the next request would find it older by that.
    pub(crate) fn is_last_request(&self, age: Duration) -> bool {
        age >= self.max_age.saturating_sub(IDLE)
    }

    /// What a route's requests carry for their headers' names to be written as they should be.
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

    /// Forgets the clients that no route of this configuration needs; what they have under way goes on.
    pub(crate) fn keep_only(&self, config: &Config) {
        let needed: HashSet<Policy> = config.routes().map(|(_, route)| Policy::of(route)).collect();
        let mut clients = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|policy, _| needed.contains(policy));
        self.casings.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
            // What has no case of its own, such as Host.
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
