//! HTTP exchanges with Hermes. Deliveries and their states are in [`partition`](mod@crate::partition).
//!
//! - [`forward`]: an exchange under one deadline, through [`outbound`], which connects only to addresses that the tenant allows.
//! - [`handshake`](mod@handshake): the exchanges by which `talaria doctor` checks a route's secret.
//! - [`decompress`](mod@decompress): compressed answers.

mod decompress;
pub(crate) mod forward;
pub(crate) mod handshake;
mod outbound;
