//! `talaria ingress` and `talaria relay` over NATS, beside the two programs that one would write at first.
//!
//! Every contestant has a NATS server of its own that has stored nothing before, and processes that have done nothing
//! before, so none carries another one's burden.
//!
//! - [`baseline`]: the simplest programs, to compare with. [`side`]: either of the two.
//! - [`callbacks`]: durable callbacks a second and their latency.
//! - [`forwards`]: forwards a second from a filled stream.
//! - [`through`]: from a callback's sending to its arrival at Hermes.
//! - [`relays`]: one relay, and three that share the work. [`takeover`]: one of three is gone.

pub mod baseline;
mod callbacks;
mod forwards;
mod relays;
mod side;
mod takeover;
mod through;

use crate::{
    report::Measured,
    role::{self, Other},
};
use side::Side;

/// The stream of events. Every server is new, so the names can stay.
const EVENTS: &str = "talaria-events";

pub async fn run() -> Vec<Measured> {
    let hermes = Other::start(role::HERMES);
    vec![
        callbacks::run().await,
        forwards::run(hermes.address).await,
        through::run(hermes.address).await,
        relays::run(hermes.address).await,
        takeover::run(hermes.address).await,
    ]
}
