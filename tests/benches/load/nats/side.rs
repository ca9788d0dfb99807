//! Talaria, or what it is compared with: started alike, so that both are measured by the same lines.

use crate::{
    TENANT,
    role::{self, Other},
};
use std::net::SocketAddr;
use talaria_tests::{
    nats::Server,
    stack::{Builder, stack},
};

/// Whose processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Obvious,
    Talaria,
}

impl Side {
    /// Both, as they take turns.
    pub const BOTH: [Self; 2] = [Self::Obvious, Self::Talaria];

    /// Starts an ingress, which makes the stream.
    pub fn ingress(self, nats: &Server) -> Other {
        match self {
            Self::Obvious => Other::start_with(role::OBVIOUS_INGRESS, &[&nats.url()]),
            Self::Talaria => Other::talaria("ingress", over(nats).tenant(TENANT, |tenant| tenant).write()),
        }
    }

    /// Starts a relay with one route, to Hermes, and so many exchanges at once.
    pub fn relay(self, nats: &Server, hermes: SocketAddr, at_once: usize) -> Other {
        match self {
            Self::Obvious => {
                let arguments = [&nats.url(), &hermes.to_string(), &at_once.to_string()];
                Other::start_with(role::OBVIOUS_RELAY, &arguments.map(String::as_str))
            }
            Self::Talaria => relay(nats, hermes, &["r".into()], at_once),
        }
    }
}

/// Starts a Talaria's relay with these routes, all to Hermes, and so many exchanges at once on each.
pub fn relay(nats: &Server, hermes: SocketAddr, routes: &[String], at_once: usize) -> Other {
    let url = format!("http://{hermes}/webhooks/r");
    let keys = format!("body: raw\npace: off\nin_flight: {at_once}");
    let config = over(nats).tenant(TENANT, |tenant| {
        routes.iter().fold(tenant, |tenant, route| tenant.route(route, &url, &keys))
    });
    Other::talaria("relay", config.write())
}

fn over(nats: &Server) -> Builder {
    stack().with(&format!("bus: {{nats: {{servers: [\"{}\"]}}}}", nats.url()))
}
