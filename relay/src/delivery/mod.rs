//! HTTP exchanges with Hermes. Deliveries and their states are in [`partition`](mod@crate::partition).
//!
//! - [`forward`]: a route's request, through [`talaria_outbound`], which connects only to addresses that the tenant allows.
//! - [`handshake`](mod@handshake): the exchanges by which `talaria doctor` checks a route's secret.

pub(crate) mod forward;
pub(crate) mod handshake;
