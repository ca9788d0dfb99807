//! Decisions: pure functions that get the clock and chance as arguments. Each is a file.
//!
//! - [`plan`]: which routes an event goes to.
//! - [`step`]: what becomes of a delivery before a request and after one, by all that follow.
//! - [`admission`], of [`breaker`] and [`pace`]: whether a route's next request may go out, and otherwise when.
//! - [`prepare`] and [`guard`]: what the request says; [`rotation`]: which of the route's secrets signs it.
//! - [`classify`]: what Hermes' answer means; [`handshake`]: whether it has a route's secret, asked without running anything.
//! - [`retry`]: when a failed attempt is repeated.
//! - [`conclude`]: what an attempt leaves behind.
//! - [`fold`]: the status of a delivery, from the records about it.
//! - [`explain`]: why an event arrived or did not, and what happens next; [`route_block`]: what stops a route.
//! - [`unmatched`]: why no route took an event, without its payload.
//! - [`pause`], [`probe`] and [`replay`]: what operators stop, which shut routes they try, and what they do to deliveries.

pub(crate) mod admission;
pub(crate) mod breaker;
pub(crate) mod classify;
pub(crate) mod conclude;
pub(crate) mod explain;
pub(crate) mod fold;
pub(crate) mod guard;
pub(crate) mod handshake;
pub(crate) mod pace;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod prepare;
pub(crate) mod probe;
pub(crate) mod replay;
pub(crate) mod retry;
pub(crate) mod rotation;
pub(crate) mod route_block;
pub(crate) mod step;
pub(crate) mod unmatched;
