//! The way out.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
mod decisions;
mod delivery;
mod partition;
mod view;
#[cfg(test)]
mod testing;
