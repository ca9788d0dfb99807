//! Talaria or the baseline, started and measured by the same code.

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
    Baseline,
    Talaria,
}

impl Side {
    /// Both, as they take turns.
    pub const BOTH: [Self; 2] = [Self::Baseline, Self::Talaria];

    /// Starts an ingress, which makes the stream.
    pub fn ingress(self, nats: &Server) -> Other {
        match self {
            Self::Baseline => Other::start_with(role::BASELINE_INGRESS, &[&nats.url()]),
            Self::Talaria => ingress(nats, &[TENANT.to_owned()]),
        }
    }

    /// Starts a relay with one route, to Hermes, and so many exchanges at once.
    pub fn relay(self, nats: &Server, hermes: SocketAddr, at_once: usize) -> Other {
        match self {
            Self::Baseline => {
                let arguments = [&nats.url(), &hermes.to_string(), &at_once.to_string()];
                Other::start_with(role::BASELINE_RELAY, &arguments.map(String::as_str))
            }
            Self::Talaria => relay(nats, hermes, &[TENANT.to_owned()], at_once),
        }
    }
}

/// Starts a Talaria's ingress with these tenants.
pub fn ingress(nats: &Server, tenants: &[String]) -> Other {
    let config = tenants.iter().fold(over(nats), |config, name| config.tenant(name, |tenant| tenant));
    Other::talaria("ingress", config.write())
}

/// Starts a Talaria's relay with these tenants, each with one route to Hermes and so many exchanges at once.
pub fn relay(nats: &Server, hermes: SocketAddr, tenants: &[String], at_once: usize) -> Other {
    let url = format!("http://{hermes}/webhooks/r");
    let keys = format!("body: raw\npace: off\nin_flight: {at_once}");
    let config = tenants
        .iter()
        .fold(over(nats), |config, name| config.tenant(name, |tenant| tenant.route("r", &url, &keys)));
    Other::talaria("relay", config.write())
}

fn over(nats: &Server) -> Builder {
    stack().with(&format!("bus: {{nats: {{servers: [\"{}\"]}}}}", nats.url()))
}
