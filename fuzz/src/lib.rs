//! What the targets run. The end-to-end tests run the same on the seeds in corpus/.

// Included, because the crate around it would be compiled whole.
#[path = "../../tests/src/fuzzed/mod.rs"]
mod fuzzed;

pub use fuzzed::{answers, callbacks, tokens};
