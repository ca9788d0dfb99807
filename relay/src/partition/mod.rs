//! A partition and its owner.
pub(crate) mod handle;
pub(crate) mod share;
