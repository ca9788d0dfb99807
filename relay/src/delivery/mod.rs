//! The way out: one HTTP exchange with Hermes.
//!
//! - [`attempt`]: reads the event, makes the request, sends it.
//! - [`forward`]: the exchange, under one deadline; over [`outbound`], which looks at every address before it connects.
//! - [`handshake`]: whether Hermes serves a route with its secret, asked without running anything.
//! - [`coding`]: an answer that came compressed.

pub(crate) mod attempt;
mod coding;
pub(crate) mod forward;
pub(crate) mod handshake;
pub(crate) mod outbound;
