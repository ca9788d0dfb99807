//! The exchanges of a handshake with Hermes. [`decisions::handshake`](crate::decisions::handshake) has the requests and the
//! reason why they run nothing.

use super::forward::Forwarder;
use crate::decisions::{
    exchange::Exchange,
    handshake::{Handshake, of_forged, of_signed},
    prepare,
};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::config::Route;

/// For each request, unless the route's timeout is shorter.
const DEADLINE: Duration = Duration::from_secs(5);

/// Sends a request with a wrong signature, and if that is refused, one with each of the route's secrets until one is accepted.
/// They go where the route's deliveries go.
pub async fn handshake(route: &Route) -> Handshake {
    if route.secrets.is_empty() {
        return Handshake::Fault("its secret cannot be read here".into());
    }
    let forwarder = Forwarder::default();
    let route = Route { timeout: route.timeout.min(DEADLINE), ..route.clone() };
    let wrong = format!("{:032x}", rand::random::<u128>());
    let forged = Route { secrets: vec![wrong.into()], ..route.clone() };
    if let Some(result) = of_forged(&send(&forwarder, &forged, 0).await) {
        return result;
    }
    let secrets = if route.signing.takes_all_secrets { 1 } else { route.secrets.len() };
    for secret in 0..secrets {
        if let Some(result) = of_signed(&send(&forwarder, &route, secret).await, secret) {
            return result;
        }
    }
    Handshake::Disagrees
}

async fn send(forwarder: &Forwarder, route: &Route, secret: usize) -> Exchange {
    let signing = prepare::Signing { secret, now: Timestamp::now() };
    match prepare::handshake(route, &format!("doctor-{:016x}", rand::random::<u64>()), signing) {
        Ok(request) => forwarder.exchange(route, request).await.0,
        Err(why) => Exchange::NotSent(why),
    }
}
