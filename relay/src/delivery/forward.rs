//! Sends a route's requests, under one deadline and with a limited answer.

use crate::decisions::{
    exchange::{Exchange, Timings},
    prepare::{HermesRequest, names},
};
use bytes::Bytes;
use http::{Extensions, Method, Request, Uri};
use http_body_util::Full;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};
use talaria_core::config::{Config, Route, RouteKind};
use talaria_outbound::{Clients, Limits, MAX_AGE, Peer, Policy, Resolver, header_casing};
use tokio::sync::watch;

/// In bytes. Hermes' answers have a few hundred.
const LARGEST_ANSWER: usize = 64 * 1024;

/// The most jitter of a timeout, as a part of it. Hundreds of exchanges with routes that hang begin together, and would otherwise
/// end together again and again.
const TIMEOUT_JITTER: f64 = 0.1;

/// Sends requests. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Forwarder {
    clients: Arc<Clients>,
    /// The extensions that give headers their case, by the names of a route's own headers.
    casings: Arc<Mutex<HashMap<Vec<String>, Extensions>>>,
}

impl Default for Forwarder {
    fn default() -> Self {
        let clients = Clients::new(Resolver::system(), MAX_AGE);
        Self { clients: Arc::new(clients), casings: Arc::default() }
    }
}

impl Forwarder {
    /// Drops connections that no route of this configuration may use; exchanges under way go on.
    pub(crate) fn keep_only(&self, config: &Config) {
        let needed: HashSet<Policy> = config.routes().map(|(_, route)| policy(route)).collect();
        self.clients.keep_only(|policy| needed.contains(policy));
        self.casings.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Calls [`Forwarder::keep_only`] whenever the configuration changes.
    pub(crate) async fn follow(self, mut config: watch::Receiver<Arc<Config>>) {
        while config.changed().await.is_ok() {
            let now = Arc::clone(&config.borrow_and_update());
            self.keep_only(&now);
        }
        // The configuration never changes again.
        std::future::pending::<()>().await;
    }

    /// Sends a route's request and reads the answer, within the route's `timeout` and its jitter.
    pub(crate) async fn exchange(&self, route: &Route, request: HermesRequest) -> (Exchange, Timings) {
        let mut outgoing = match post(route, request) {
            Ok(outgoing) => outgoing,
            Err(why) => return (Exchange::NotSent(why), Timings::default()),
        };
        outgoing.extensions_mut().extend(self.casing(route));
        let limits = Limits {
            timeout: route.timeout,
            jitter: route.timeout.mul_f64(rand::random::<f64>() * TIMEOUT_JITTER),
            answer: LARGEST_ANSWER,
        };
        self.clients.exchange(&policy(route), outgoing, limits).await
    }

    /// The extensions of a route's requests that give header names their case.
    fn casing(&self, route: &Route) -> Extensions {
        let own: Vec<String> = route.headers.iter().map(|header| header.name.clone()).collect();
        let mut casings = self.casings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(casing) = casings.get(&own) {
            return casing.clone();
        }
        let casing = header_casing(names().into_iter().chain(own.iter().map(String::as_str)));
        casings.insert(own, casing.clone());
        casing
    }
}

fn policy(route: &Route) -> Policy {
    Policy {
        peer: match route.kind {
            RouteKind::Hermes => Peer::Hermes,
            RouteKind::Webhook => Peer::Webhook,
        },
        networks: route.networks.clone(),
        is_https: route.url.scheme() == "https",
        tls: route.tls.clone(),
    }
}

fn post(route: &Route, request: HermesRequest) -> Result<Request<Full<Bytes>>, String> {
    let uri = Uri::try_from(route.url.as_str()).map_err(|error| format!("the route's url: {error}"))?;
    let mut outgoing = Request::new(Full::new(request.body));
    *outgoing.method_mut() = Method::POST;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = request.headers;
    Ok(outgoing)
}

#[cfg(test)]
mod tests;
