//! `talaria ingress` and `talaria relay` over NATS, beside the two programs that one would write at first.
//!
//! Every contestant has a NATS server of its own that has stored nothing before, and processes that have done nothing
//! before, so none carries another one's burden.
//!
//! - [`baseline`]: the simplest programs, to compare with. [`side`]: either of the two.
//! - [`callbacks`]: durable callbacks a second and their latency. [`steady`]: their latency at a fixed rate.
//! - [`forwards`]: forwards a second from a filled stream.
//! - [`through`]: from a callback's sending to its arrival at Hermes.
//! - [`relays`]: one relay, and three that share the work. [`takeover`]: one of three is gone.

pub mod baseline;
mod callbacks;
mod forwards;
mod relays;
mod side;
mod steady;
mod takeover;
mod through;

use crate::{
    report::Measured,
    role::{self, Other},
};
use side::Side;

/// The stream of events. Every server is new, so the names can stay.
const EVENTS: &str = "talaria-events";

/// The parts, in the order of the page.
pub const PARTS: [&str; 6] = ["callbacks", "steady", "forwards", "through", "relays", "takeover"];

/// Measures one part.
pub async fn run(part: &str) -> Measured {
    let hermes = Other::start(role::HERMES);
    match part {
        "callbacks" => callbacks::run().await,
        "steady" => steady::run().await,
        "forwards" => forwards::run(hermes.address).await,
        "through" => through::run(hermes.address).await,
        "relays" => relays::run(hermes.address).await,
        "takeover" => takeover::run(hermes.address).await,
        other => panic!("{other} is none of {PARTS:?}"),
    }
}
