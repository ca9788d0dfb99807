//! OpenRouter's callbacks: their signatures, payloads and paths.
//!
//! - [`signature`]: `X-OpenRouter-Signature`, made and verified.
//! - [`diagnosis`]: hints at the cause of a mismatch, for the operator.
//! - [`event`]: the payload, normalized.
//! - [`documented`]: the callbacks that OpenRouter documents, as examples.
//! - [`path`]: the paths that callbacks come to.

pub mod diagnosis;
pub mod documented;
pub mod event;
pub mod path;
pub mod signature;

/// The header that OpenRouter sets to `<job id>-<status>`. The signature does not cover it.
pub const IDEMPOTENCY_KEY_HEADER: &str = "X-OpenRouter-Idempotency-Key";
