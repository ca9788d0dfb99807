//! A partition and its owner.
pub(crate) mod agenda;
pub(crate) mod handle;
pub(crate) mod state;
