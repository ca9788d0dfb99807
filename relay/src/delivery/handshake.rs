//! Asks Hermes whether it serves a route with the secret that is here. [`decisions::handshake`](crate::decisions::handshake)
//! says why nothing is run by that.

use super::forward::Forwarder;
use crate::decisions::{
    classify::Exchange,
    handshake::{Handshake, of_forged, of_signed},
    prepare,
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::config::Route;

/// How long each request may take, where the route does not say less.
const DEADLINE: Duration = Duration::from_secs(5);

/// Sends a request with a wrong signature, and where that is refused one with each of the route's secrets, until one is not.
/// They go where the route's deliveries go, and nowhere else.
pub async fn handshake(route: &Route) -> Handshake {
    if route.secrets.is_empty() {
        return Handshake::Fault("its secret cannot be read here".into());
    }
    let forwarder = Forwarder::default();
    let route = Route { timeout: route.timeout.min(DEADLINE), ..route.clone() };
    let nobodys = format!("{:032x}", rand::random::<u128>());
    let forged = Route { secrets: vec![nobodys.into()], ..route.clone() };
    if let Some(told) = of_forged(&ask(&forwarder, &forged, 0).await) {
        return told;
    }
    let secrets = if route.signing.takes_all_secrets { 1 } else { route.secrets.len() };
    for secret in 0..secrets {
        if let Some(told) = of_signed(&ask(&forwarder, &route, secret).await, secret) {
            return told;
        }
    }
    Handshake::Disagrees
}

async fn ask(forwarder: &Forwarder, route: &Route, secret: usize) -> Exchange {
    let signing = prepare::Signing { secret, now: Timestamp::now() };
    match prepare::handshake(route, &format!("doctor-{:016x}", rand::random::<u64>()), signing) {
        Ok(request) => forwarder.exchange(route, request).await.0,
        Err(why) => Exchange::NotSent(why),
    }
}
