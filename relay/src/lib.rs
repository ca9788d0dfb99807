//! The way out.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
mod decisions;
mod delivery;
pub mod gauges;
mod partition;
mod services;
#[cfg(test)]
mod testing;
mod view;
