//! The way out.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
mod decisions;
mod delivery;
mod partition;
#[cfg(test)]
mod testing;
