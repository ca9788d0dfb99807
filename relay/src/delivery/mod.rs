//! HTTP exchanges with Hermes.
//!
//! - [`forward`]: an exchange under one deadline, over [`outbound`], which checks every address before it connects.
//! - [`handshake`]: the exchanges of a [`Handshake`](crate::decisions::handshake::Handshake).
//! - [`coding`]: compressed answers.

mod coding;
pub(crate) mod forward;
pub(crate) mod handshake;
mod outbound;
